//! The documents match the code, the manifests, and each other.
#![allow(clippy::disallowed_methods, reason = "tests run programs and wait for them")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use keyferry::agent::exit;
use keyferry::model::ConditionType;

#[path = "docs/blocks.rs"]
mod blocks;
#[path = "support/files.rs"]
mod files;
#[path = "support/blocks.rs"]
mod markdown;
#[path = "docs/pages.rs"]
mod pages;
#[path = "docs/reasons.rs"]
mod reasons;

use files::files_below;
use pages::{first_cells, links, pages, read, root, section};

/// Heading of the module table in ARCHITECTURE.md.
const MODULES: &str = "## Modules";

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
fn architecture_gives_a_reason_for_each_dependency() {
    let (manifest, architecture) = (read("Cargo.toml"), read("ARCHITECTURE.md"));
    let documented = first_cells(section(&architecture, "## Dependencies"));
    let used = dependencies(&manifest);
    let missing: Vec<_> = used.difference(&documented).collect();
    let left_over: Vec<_> = documented.difference(&used).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md gives no reason for {missing:?}");
    assert!(left_over.is_empty(), "ARCHITECTURE.md gives reasons for {left_over:?}, which Cargo.toml does not contain");
}

#[test]
fn architecture_lists_each_module() {
    let architecture = read("ARCHITECTURE.md");
    let documented = first_cells(section(&architecture, MODULES));
    let entries = std::fs::read_dir(root().join("src")).expect("src is readable");
    let modules = entries.filter_map(Result::ok).map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() { format!("{name}/") } else { name }
    });
    let modules: BTreeSet<String> = modules.collect();
    let modules: BTreeSet<&str> = modules.iter().map(String::as_str).collect();
    assert_eq!(modules, documented, "src/ and ARCHITECTURE.md differ");
}

#[test]
fn troubleshooting_lists_each_condition_and_exit_code() {
    let page = read("docs/troubleshooting.md");
    let conditions: BTreeSet<&str> = ConditionType::ALL.iter().map(|condition| condition.as_str()).collect();
    assert_eq!(first_cells(section(&page, "## Conditions")), conditions, "conditions differ from src/model");
    let codes = [
        exit::OK,
        1, // of a failed probe, `ExitCode::FAILURE`
        exit::CONFIG,
        exit::NO_INPUT,
        exit::UNAVAILABLE,
        exit::INTERNAL,
        exit::CANNOT_CREATE,
        exit::IO,
        exit::NO_PERMISSION,
        exit::RESTART_CONTAINERS,
        exit::TERMINATED,
    ];
    let codes: BTreeSet<String> = codes.iter().map(ToString::to_string).collect();
    let documented: BTreeSet<String> =
        first_cells(section(&page, "## Exit codes")).into_iter().map(ToOwned::to_owned).collect();
    assert_eq!(documented, codes, "exit codes differ from src/");
}

#[test]
fn concepts_list_the_conditions_of_the_agent() {
    let page = read("docs/concepts.md");
    let documented = first_cells(section(&page, "## Conditions, Events, and reason codes"));
    assert_eq!(documented, ConditionType::ALL.iter().map(|condition| condition.as_str()).collect());
}

#[test]
fn ci_runs_the_test_command_of_the_readme() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    assert!(readme.contains("\ncargo test "), "README.md does not name cargo test");
    assert!(ci.contains("step test cargo test"), ".ci/run does not run the README's cargo test");
}

/// The anchor that GitHub gives to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn anchors(markdown: &str) -> BTreeSet<String> {
    let headings = markdown.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn doc_links_resolve() {
    let mut checked = 0;
    for page in pages().into_iter().chain([PathBuf::from("ARCHITECTURE.md")]) {
        let text = read(&page);
        for (target, heading) in links(&page, &text) {
            let shown = format!("{} links to {}", page.display(), target.display());
            assert!(root().join(&target).exists(), "{shown}, which does not exist");
            if !heading.is_empty() {
                let there = anchors(&read(&target));
                assert!(there.contains(heading), "{shown}#{heading}; the headings there are {there:?}");
            }
            checked += 1;
        }
    }
    assert!(checked >= 150, "checked only {checked} links");
}

#[test]
fn readme_links_each_page() {
    let readme = PathBuf::from("README.md");
    let text = read(&readme);
    let linked: BTreeSet<_> = links(&readme, &text).into_iter().map(|(target, _)| target).collect();
    for page in pages().into_iter().filter(|page| *page != readme) {
        assert!(linked.contains(&page), "README.md does not link to {}", page.display());
    }
}

#[test]
fn images_have_descriptions_and_are_small() {
    let pages: Vec<_> = pages().into_iter().map(|page| (read(&page), page)).collect();
    for (text, page) in &pages {
        for image in text.split("<img ").skip(1) {
            let words = image.split_once("alt=\"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default();
            assert!(words.len() > 40, "{} contains an image without a description: {words:?}", page.display());
        }
    }
    let mut checked = 0;
    for entry in
        std::fs::read_dir(root().join("docs/screens")).expect("docs/screens is readable").filter_map(Result::ok)
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if [".svg", ".png"].iter().any(|end| name.ends_with(end)) {
            let shown = pages.iter().any(|(text, _)| text.contains(&format!("screens/{name}\"")));
            assert!(shown, "no page shows docs/screens/{name}");
            let size = entry.metadata().expect("an image has a size").len();
            // A page with all images opens quickly, and regenerated images do not grow a clone by megabytes.
            assert!(size < 120_000, "docs/screens/{name} has {size} bytes");
            checked += 1;
        }
    }
    assert!(checked >= 6, "found only {checked} images");
}

/// Words that only readers of the code know. Text in backticks is not checked.
const PRIVATE_WORDS: [&str; 21] = [
    "anew",
    "authorities",
    "brain",
    "dice",
    "estate",
    "hand",
    "hands",
    "house",
    "laws",
    "mistake",
    "mistakes",
    "nobody",
    "papers",
    "room",
    "rooms",
    "shelf",
    "shelves",
    "somebody",
    "told",
    "voice",
    "whoever",
];

#[test]
fn docs_and_manifests_use_no_private_words() {
    let deployed = ["yaml", "tpl"].iter().flat_map(|extension| files_below(&root().join("deploy"), extension));
    for file in pages().into_iter().chain(deployed) {
        let text = read(&file);
        let mut code = false;
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                code = !code;
            }
            // Every second part is between backticks.
            let prose = line.split('`').step_by(2).filter(|_| !code);
            for word in prose.flat_map(|part| part.split(|c: char| !c.is_alphanumeric())).map(str::to_lowercase) {
                let shown = format!("{}:{}", file.display(), number + 1);
                assert!(!PRIVATE_WORDS.contains(&word.as_str()), "{shown} contains the word {word:?}: {line}");
            }
        }
    }
}
