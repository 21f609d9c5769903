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
    let told = first_cells(section(&architecture, "## Modules"));
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

/// As GitHub makes it of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn anchors(markdown: &str) -> BTreeSet<String> {
    let headings = markdown.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn links_between_the_papers_lead_somewhere() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for paper in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "docs/adopt.md",
        "docs/config.md",
        "docs/security.md",
        "docs/testbed.md",
    ] {
        let text = read(paper);
        let links = text.split("](").skip(1).chain(text.split("src=\"").skip(1)).chain(text.split("srcset=\"").skip(1));
        for link in links.filter_map(|rest| rest.split([')', '"']).next()).filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = root.join(paper).parent().expect("a paper lies in a directory").join(file);
            let target = if file.is_empty() { root.join(paper) } else { target };
            assert!(target.exists(), "{paper} links to {link}, which is not there");
            if !heading.is_empty() {
                let there = anchors(&std::fs::read_to_string(&target).expect("a paper"));
                assert!(there.contains(heading), "{paper} links to {link}; the headings there are {there:?}");
            }
        }
    }
}

#[test]
fn every_picture_is_shown_told_in_words_and_small() {
    let papers: Vec<_> = ["README.md", "docs/adopt.md"].map(|paper| (paper, read(paper))).into();
    for (paper, text) in &papers {
        for image in text.split("<img ").skip(1) {
            let told = image.split_once("alt=\"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default();
            assert!(told.len() > 40, "{paper} has a picture without words for those who do not see it: {told:?}");
        }
    }
    let screens = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/screens");
    let mut looked_at = 0;
    for entry in std::fs::read_dir(screens).expect("docs/screens is readable").filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if [".svg", ".png"].iter().any(|end| name.ends_with(end)) {
            let shown = papers.iter().any(|(_, text)| text.contains(&format!("screens/{name}\"")));
            assert!(shown, "no paper shows docs/screens/{name}");
            let size = entry.metadata().expect("a picture has a size").len();
            // A page with all of them still opens at once; a clone does not grow by megabytes when they are made anew.
            assert!(size < 120_000, "docs/screens/{name} has {size} bytes");
            looked_at += 1;
        }
    }
    assert!(looked_at >= 6, "only {looked_at} pictures are there");
}

/// A block of a paper, without the indent that it has in a list.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<(&'a str, String)> {
    let mut found = Vec::new();
    let fence = format!("```{language}\n");
    for (start, _) in text.match_indices(&fence) {
        let before = &text[..start];
        let indent = before.len() - before.trim_end_matches(' ').len();
        let (block, _) = text[start + fence.len()..].split_once("```").expect("a block ends");
        let line = |line: &'a str| line.get(indent..).unwrap_or_default();
        found.push((before, block.lines().map(line).collect::<Vec<_>>().join("\n").trim_end().to_owned()));
    }
    found
}

#[test]
fn what_the_papers_tell_to_apply_is_the_text_of_the_shipped_files() {
    let mut compared = 0;
    // Of the README the pod, which is its first block.
    for (paper, base, many) in [("README.md", "deploy/", 1), ("docs/adopt.md", "../deploy/", usize::MAX)] {
        let text = read(paper);
        let yaml = blocks(&text, "yaml").into_iter().take(many);
        // Of the commands only those that have a file; the others are for people who look around.
        let shell = blocks(&text, "sh").into_iter().filter(|(_, block)| block.contains("vault write"));
        for (before, block) in yaml.chain(shell) {
            // The file is the last one that is named above the block, in a link.
            let (_, link) = before.rsplit_once(&format!("]({base}")).expect("a file is named above each block");
            let (file, _) = link.split_once([')', '#']).expect("a link ends");
            // A whole number of lines, in the file's own indent.
            let shipped = format!("\n{}", read(&format!("deploy/{file}")));
            assert!(
                shipped.contains(&format!("\n{block}\n")),
                "{paper} has a block that is not in deploy/{file}:\n{block}"
            );
            compared += 1;
        }
    }
    assert!(compared >= 9, "only {compared} blocks were compared");
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
