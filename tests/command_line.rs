//! What the binary says to whoever starts it, without any server.
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
    keyferry(arguments, variables).output().expect("the agent runs")
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for (arguments, variables) in [(["schema"], &[][..]), (["check"], &GOOD[..])] {
        let mut child =
            keyferry(&arguments, variables).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        // Closed before anything was written.
        drop(child.stdout.take());
        let status = child.wait().expect("it ends");
        let mut said = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn what_cannot_be_written_is_said_with_its_exit_code() {
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    let output = keyferry(&["schema"], &[]).stdout(full).output().expect("it runs");
    assert_eq!(output.status.code(), Some(74));
    assert!(told(&output).starts_with("failed to write to stdout: "), "{}", told(&output));
}

#[test]
fn a_log_format_that_is_none_is_a_mistake() {
    let output = run(&["run"], &[&GOOD[..], &[("KEYFERRY_LOG_FORMAT", "pretty")]].concat());
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(told(&output), "KEYFERRY_LOG_FORMAT: must be one of text, json, auto (found \"pretty\")\n");
}

#[test]
fn mistakes_are_json_lines_where_the_log_is_json_and_text_for_a_person() {
    let bad = [("VAULT_ADDR", "v"), ("KEYFERRY_ROLE", "r")];
    for command in ["run", "once"] {
        // Whatever the filter says: an exit code alone helps nobody.
        let variables = [&bad[..], &[("KEYFERRY_LOG_FORMAT", "json"), ("KEYFERRY_LOG", "off")]].concat();
        let output = run(&[command], &variables);
        assert_eq!(output.status.code(), Some(64), "{command}");
        let text = told(&output);
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let keys: Vec<_> = lines.iter().map(|line| line["key"].as_str().unwrap_or_default()).collect();
        assert_eq!(keys, ["VAULT_ADDR", "sources"], "{text}");
        assert!(lines.iter().all(|line| line["level"] == "error" && line["exit_code"] == 64), "{text}");
    }
    let output = run(&["run"], &[&GOOD[..], &[("KEYFERRY_LOG_FORMAT", "json"), ("KEYFERRY_LOG", "loud")]].concat());
    assert_eq!(output.status.code(), Some(64));
    let line: Value = serde_json::from_str(told(&output).trim()).expect("one JSON line");
    assert!(line["message"].as_str().is_some_and(|message| message.contains("unknown level \"loud\"")), "{line}");

    for (command, format) in [("check", "json"), ("run", "text")] {
        let output = run(&[command], &[&bad[..], &[("KEYFERRY_LOG_FORMAT", format)]].concat());
        assert_eq!(output.status.code(), Some(64), "{command}");
        assert!(told(&output).starts_with("VAULT_ADDR: must be like"), "{}", told(&output));
    }
}

#[test]
fn a_proxy_is_ignored_with_one_warning() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("files").display().to_string();
    let ours = [
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("KEYFERRY_DIRECTORY", path.as_str()),
        ("KEYFERRY_ALLOW_DISK", "true"),
        ("KEYFERRY_LOG_FORMAT", "json"),
    ];
    let output = run(&["once", "--timeout", "100ms"], &[&GOOD[..], &ours].concat());
    let said = told(&output);
    assert_eq!(said.matches("HTTPS_PROXY is ignored; keyferry connects to Vault directly").count(), 1, "{said}");
}

#[test]
fn a_configuration_that_is_a_named_pipe_is_refused_and_not_waited_for() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("keyferry.yaml");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("mkfifo");
    let output = run(&["run", "--config", &pipe.display().to_string()], &[("KEYFERRY_LOG_FORMAT", "text")]);
    assert_eq!(output.status.code(), Some(64));
    assert!(told(&output).contains("not a regular file"), "{}", told(&output));
}
