//! The fenced blocks of the pages: shipped text, valid configurations, and commands that exist.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use keyferry::model::ConditionType;

use crate::markdown::blocks;
use crate::pages::{first_cells, links, pages, read, root, section};

fn keyferry(arguments: &[&str], variables: &[(&str, &str)]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyferry"));
    command.args(arguments).env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().expect("keyferry runs")
}

/// Whether the block is a configuration of keyferry, alone or next to the three variables of the quick start
/// and the name of the pod.
fn is_valid_configuration(block: &str) -> bool {
    let variables = [
        ("VAULT_ADDR", "https://vault.example.com:8200"),
        ("KEYFERRY_ROLE", "webapp"),
        ("KEYFERRY_SECRETS", "secret/webapp/config"),
        ("KEYFERRY_CONFIG_INLINE", block),
        // As in the shipped manifests.
        ("POD_NAME", "web-0"),
        ("POD_IP", "10.0.0.7"),
    ];
    keyferry(&["check"], &variables).status.success()
}

/// `docs/config.md` is tested by `config::tests::docs`, and the chart's README by `tests/chart/docs.rs`.
#[test]
fn yaml_and_vault_blocks_are_shipped_text_or_valid_configuration() {
    let (mut shipped, mut valid) = (0, 0);
    let elsewhere = ["docs/config.md", "deploy/chart/README.md"].map(PathBuf::from);
    for page in pages().into_iter().filter(|page| !elsewhere.contains(page)) {
        let text = read(&page);
        for other in ["yml", "YAML", "shell", "bash"] {
            assert!(blocks(&text, other).is_empty(), "{}: use yaml or sh instead of {other}", page.display());
        }
        // Of the shell blocks, those that configure Vault.
        let shell = blocks(&text, "sh").into_iter().filter(|(_, block)| block.contains("vault write"));
        for (before, block) in blocks(&text, "yaml").into_iter().chain(shell) {
            // The file is the last one in deploy/ to which the page links above the block.
            let file = links(&page, before).into_iter().map(|(file, _)| file).rfind(|file| {
                file.starts_with("deploy")
                    && root().join(file).is_file()
                    && file.extension().is_none_or(|end| end != "md")
            });
            // A whole number of lines, with the indent of the file.
            let is_shipped =
                file.as_ref().is_some_and(|file| format!("\n{}", read(file)).contains(&format!("\n{block}\n")));
            if is_shipped {
                shipped += 1;
            } else {
                let ok = is_valid_configuration(&block);
                assert!(
                    ok,
                    "{} contains a block that is neither in {file:?} nor a configuration:\n{block}",
                    page.display()
                );
                valid += 1;
            }
        }
    }
    assert!(
        shipped >= 15 && valid >= 2,
        "compared only {shipped} blocks with files and checked {valid} configurations"
    );
}

/// Runs `sh -n` on a script; the error message if the syntax is wrong.
fn syntax_error(script: &str) -> Option<String> {
    let mut shell = Command::new("sh");
    let mut shell = shell.arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh runs");
    shell.stdin.take().expect("piped").write_all(script.as_bytes()).expect("sh reads");
    let output = shell.wait_with_output().expect("sh ends");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn shell_blocks_parse_and_use_existing_files_recipes_and_commands() {
    let (justfile, help) = (read("Justfile"), keyferry(&["--help"], &[]).stdout);
    let help = String::from_utf8_lossy(&help).into_owned();
    let mut checked = 0;
    for page in pages() {
        let text = read(&page);
        let console = blocks(&text, "console").into_iter().map(|(_, block)| {
            block.lines().map(|line| line.strip_prefix("$ ").unwrap_or(line)).collect::<Vec<_>>().join("\n") + "\n"
        });
        for block in blocks(&text, "sh").into_iter().map(|(_, block)| block).chain(console) {
            let shown = format!("{}:\n{block}", page.display());
            assert_eq!(syntax_error(&block), None, "{shown}");
            let words: Vec<_> = block.split(|c: char| c.is_whitespace() || "'\"=;|<>".contains(c)).collect();
            for file in words.iter().filter(|word| word.starts_with("deploy/") || word.starts_with("images/")) {
                assert!(root().join(file).exists(), "{file} does not exist; {shown}");
            }
            for pair in words.windows(2) {
                match *pair {
                    ["just", recipe] => assert!(is_recipe(&justfile, recipe), "no recipe {recipe}; {shown}"),
                    ["/keyferry", command] => {
                        assert!(help.contains(&format!("\n  {command} ")), "no command {command}; {shown}");
                    }
                    _ => {}
                }
            }
            checked += 1;
        }
        for recipe in text.split("`just ").skip(1).filter_map(|rest| rest.split(['`', ' ']).next()) {
            assert!(is_recipe(&justfile, recipe), "{}: no recipe {recipe}", page.display());
        }
    }
    assert!(checked >= 30, "checked only {checked} blocks");
}

fn is_recipe(justfile: &str, name: &str) -> bool {
    justfile.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([':', ' '])))
}

#[test]
fn monitoring_examples_use_existing_metrics_and_conditions() {
    let reference = read("docs/config.md");
    // `runtime::metrics` compares this table with the code.
    let metrics = first_cells(section(&reference, "## Metrics"));
    let mut used = BTreeSet::new();
    for file in ["pod-monitor.yaml", "scrape-config.yaml", "agent-port.yaml", "alerts.yaml", "alerts_test.yaml"] {
        let text = read(format!("deploy/monitoring/{file}"));
        let parsed: Result<serde_json::Value, _> = serde_saphyr::from_str(&text);
        assert!(parsed.is_ok_and(|value| value.is_object()), "deploy/monitoring/{file} is not YAML");
        let words = text.split(|c: char| !(c.is_alphanumeric() || "_./".contains(c))).map(ToOwned::to_owned);
        used.extend(words.filter(|word| word.starts_with("keyferry_") || word.starts_with("keyferry.dev/")));
    }
    assert!(used.len() >= 3, "found only {used:?}");
    for name in used {
        let known = metrics.contains(name.as_str()) || ConditionType::ALL.iter().any(|kind| kind.as_str() == name);
        assert!(known, "deploy/monitoring uses {name}, which does not exist");
    }
}
