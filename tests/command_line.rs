//! Exit codes and output of the binary, without any server.
#![allow(clippy::disallowed_methods, reason = "tests run programs and wait for them")]

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const GOOD: [(&str, &str); 3] =
    [("VAULT_ADDR", "http://127.0.0.1:9"), ("KEYFERRY_ROLE", "r"), ("KEYFERRY_SECRETS", "secret/a")];

fn keyferry(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyferry"));
    command.args(arguments).env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    keyferry(arguments, variables).output().expect("keyferry runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn closed_stdout_is_no_failure() {
    for (arguments, variables) in [(["schema"], &[][..]), (["check"], &GOOD[..])] {
        let mut child = keyferry(&arguments, variables)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("keyferry runs");
        // Closed before the program writes.
        drop(child.stdout.take());
        let status = child.wait().expect("keyferry exits");
        let mut text = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut text).expect("text");
        assert_eq!((status.code(), text.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn full_stdout_is_reported_with_exit_code_74() {
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    let output = keyferry(&["schema"], &[]).stdout(full).output().expect("keyferry runs");
    assert_eq!(output.status.code(), Some(74));
    assert!(stderr(&output).starts_with("failed to write to stdout: "), "{}", stderr(&output));
}

#[test]
fn invalid_log_format_is_reported_in_the_default_format() {
    let expected = "KEYFERRY_LOG_FORMAT: must be one of text, json, auto (found \"pretty\")";
    let variables = [&GOOD[..], &[("KEYFERRY_LOG_FORMAT", "pretty")]].concat();
    let output = run(&["check"], &variables);
    assert_eq!((output.status.code(), stderr(&output)), (Some(64), format!("{expected}\n")));
    // stderr of this test is no terminal, so the default is JSON.
    let output = run(&["run"], &variables);
    assert_eq!(output.status.code(), Some(64));
    let line: Value = serde_json::from_str(stderr(&output).trim()).expect("one JSON line");
    assert_eq!(line["message"], expected);
}

#[test]
fn invalid_command_line_is_one_json_line_in_json_mode_and_text_for_a_person() {
    for arguments in [&["rum"][..], &["--banana"], &["once", "--timeout", "soon"]] {
        let output = run(arguments, &[("KEYFERRY_LOG_FORMAT", "json")]);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        let line: Value = serde_json::from_str(stderr(&output).trim()).expect("one JSON line");
        let message = line["message"].as_str().unwrap_or_default();
        assert!(arguments.iter().any(|argument| message.contains(argument)), "{message}");
        assert_eq!((&line["level"], &line["exit_code"]), (&"error".into(), &64.into()), "{line}");
    }
    for (arguments, format) in [(["run", "--banana"], "text"), (["probe", "redy"], "json")] {
        let output = run(&arguments, &[("KEYFERRY_LOG_FORMAT", format)]);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
    }
}

#[test]
fn configuration_errors_are_json_lines_in_json_mode_and_text_for_a_person() {
    let bad = [("VAULT_ADDR", "v"), ("KEYFERRY_ROLE", "r")];
    for command in ["run", "once"] {
        // The filter does not silence the reason for the exit code.
        let variables = [&bad[..], &[("KEYFERRY_LOG_FORMAT", "json"), ("KEYFERRY_LOG", "off")]].concat();
        let output = run(&[command], &variables);
        assert_eq!(output.status.code(), Some(64), "{command}");
        let text = stderr(&output);
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let keys: Vec<_> = lines.iter().map(|line| line["key"].as_str().unwrap_or_default()).collect();
        assert_eq!(keys, ["VAULT_ADDR", "sources"], "{text}");
        assert!(lines.iter().all(|line| line["level"] == "error" && line["exit_code"] == 64), "{text}");
    }
    let output = run(&["run"], &[&GOOD[..], &[("KEYFERRY_LOG_FORMAT", "json"), ("KEYFERRY_LOG", "loud")]].concat());
    assert_eq!(output.status.code(), Some(64));
    let line: Value = serde_json::from_str(stderr(&output).trim()).expect("one JSON line");
    assert!(line["message"].as_str().is_some_and(|message| message.contains("unknown level \"loud\"")), "{line}");

    for (command, format) in [("check", "json"), ("run", "text")] {
        let output = run(&[command], &[&bad[..], &[("KEYFERRY_LOG_FORMAT", format)]].concat());
        assert_eq!(output.status.code(), Some(64), "{command}");
        assert!(stderr(&output).starts_with("VAULT_ADDR: must be like"), "{}", stderr(&output));
    }
}

#[test]
fn proxy_variable_is_ignored_with_one_warning() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("files").display().to_string();
    let local = [
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("KEYFERRY_DIRECTORY", path.as_str()),
        ("KEYFERRY_ALLOW_DISK", "true"),
        ("KEYFERRY_LOG_FORMAT", "json"),
    ];
    let output = run(&["once", "--timeout", "100ms"], &[&GOOD[..], &local].concat());
    let text = stderr(&output);
    assert_eq!(text.matches("HTTPS_PROXY is ignored; keyferry connects to Vault directly").count(), 1, "{text}");
}

#[test]
fn named_pipe_as_configuration_file_is_rejected_without_waiting() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("keyferry.yaml");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("mkfifo");
    let output = run(&["run", "--config", &pipe.display().to_string()], &[("KEYFERRY_LOG_FORMAT", "text")]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("not a regular file"), "{}", stderr(&output));
}
