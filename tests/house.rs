//! The papers of the house say what the code does.

use std::collections::BTreeSet;

use keyferry::model::{ConditionType, Reason};

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR")))
        .unwrap_or_else(|error| panic!("failed to read {path}: {error}"))
}

/// First cells of the table rows in `text` that are one word in backticks.
fn first_cells(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(cell, _)| cell)).collect()
}

/// The part of a document below a heading, up to the next one.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, below) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}"));
    below.split_once("\n## ").map_or(below, |(section, _)| section)
}

/// Names in the sections of `Cargo.toml` that end with `dependencies`.
fn dependencies(manifest: &str) -> BTreeSet<&str> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.trim_end_matches(']').ends_with("dependencies");
        } else if let Some((name, _)) = line.split_once('=').filter(|_| inside && !line.starts_with('#')) {
            names.insert(name.trim());
        }
    }
    names
}

#[test]
fn every_dependency_has_its_reason_and_every_reason_its_dependency() {
    let (manifest, architecture) = (read("Cargo.toml"), read("ARCHITECTURE.md"));
    let told = first_cells(section(&architecture, "## Dependencies"));
    let used = dependencies(&manifest);
    let missing: Vec<_> = used.difference(&told).collect();
    let left_over: Vec<_> = told.difference(&used).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md gives no reason for {missing:?}");
    assert!(left_over.is_empty(), "ARCHITECTURE.md gives reasons for {left_over:?}, which Cargo.toml does not have");
}

#[test]
fn every_room_is_on_the_map() {
    let architecture = read("ARCHITECTURE.md");
    let told = first_cells(section(&architecture, "## Rooms"));
    let entries = std::fs::read_dir(format!("{}/src", env!("CARGO_MANIFEST_DIR"))).expect("src is readable");
    let rooms = entries.filter_map(Result::ok).map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() { format!("{name}/") } else { name }
    });
    let rooms: BTreeSet<String> = rooms.collect();
    assert_eq!(rooms.iter().map(String::as_str).collect::<BTreeSet<_>>(), told, "src/ and ARCHITECTURE.md differ");
}

#[test]
fn the_readme_names_every_condition_and_every_reason() {
    let readme = read("README.md");
    let told = first_cells(section(&readme, "## Conditions"));
    let conditions = ConditionType::ALL.iter().map(|condition| condition.as_str());
    let real: BTreeSet<&str> = conditions.chain(Reason::ALL.iter().map(|reason| reason.as_str())).collect();
    assert_eq!(told, real, "the tables of README.md and src/model differ");
}

#[test]
fn what_the_readme_tells_to_run_is_what_ci_runs() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    assert!(readme.contains("\ncargo test "), "README.md does not tell to run cargo test");
    assert!(ci.contains("step test cargo test"), ".ci/run does not run the README's cargo test");
}

#[test]
fn links_between_the_papers_lead_somewhere() {
    for paper in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"] {
        let text = read(paper);
        let links = text.split("](").skip(1).chain(text.split("src=\"").skip(1)).chain(text.split("srcset=\"").skip(1));
        for link in links.filter_map(|rest| rest.split([')', '"', '#']).next()) {
            let leads = link.contains("://")
                || link.is_empty()
                || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(link).exists();
            assert!(leads, "{paper} links to {link}, which is not there");
        }
    }
}

#[test]
fn every_yaml_example_of_the_papers_is_yaml() {
    for paper in ["README.md", "SECURITY.md", "CONTRIBUTING.md", "ARCHITECTURE.md"] {
        for block in read(paper).split("```yaml\n").skip(1) {
            let (yaml, _) = block.split_once("\n```").unwrap_or_else(|| panic!("{paper} has an open code block"));
            let parsed: Result<serde_json::Value, _> = serde_saphyr::from_str(yaml);
            assert!(parsed.is_ok_and(|value| value.is_object()), "{paper} has an example that is no YAML:\n{yaml}");
        }
    }
}
