//! Checks the module boundaries of `ARCHITECTURE.md` in the source: which modules and crates a module may use.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

#[path = "support/files.rs"]
mod files;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/source.rs"]
mod source;

use files::files_below;
use rules::{EXCEPTIONS, LONG_FILES, MAX_LINES, MODULES, Module};
use source::NamedPath;

/// A source file: path from the root of the repository, text.
type File = (String, String);

#[test]
fn modules_respect_dependency_rules() {
    let violations = violations(&rust_files("src"));
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn source_files_stay_below_the_line_limit() {
    let mut report = String::new();
    for (path, text) in ["src", "tests", "benches"].into_iter().flat_map(rust_files) {
        let lines = text.lines().count();
        let limit = LONG_FILES.iter().find(|(long, ..)| *long == path).map_or(MAX_LINES, |(_, limit, _)| *limit);
        if lines > limit {
            let _ = writeln!(report, "{path}:{lines}: more than {limit} lines; split it by concern");
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn exceptions_are_still_needed() {
    for (path, _, reason) in LONG_FILES {
        let lines = std::fs::read_to_string(root().join(path)).map_or(0, |text| text.lines().count());
        assert!(lines > MAX_LINES, "{path} has {lines} lines and needs no exception ({reason})");
    }
    for (path, banned, reason) in EXCEPTIONS {
        let used = rust_files("src").iter().any(|file| file.0 == format!("src/{path}") && names(file, banned));
        assert!(used, "src/{path} does not name {banned} and needs no exception ({reason})");
    }
}

#[test]
fn planted_violation_is_found_with_file_line_and_reason() {
    let planted = |path: &str, text: &str| violations(&[(path.to_owned(), text.to_owned())]);
    for (path, text, expected) in [
        ("src/volume/mod.rs", "\nuse crate::vault::Vault;", "src/volume/mod.rs:2: volume must not use vault"),
        ("src/volume/a.rs", "use crate::{model::Mode, kubernetes};", "volume must not use kubernetes"),
        ("src/volume/a.rs", "fn f() { super::super::config::read(); }", "volume must not use config"),
        ("src/volume/mod.rs", "use super::*;", "volume must not use the whole crate"),
        ("src/model/a.rs", "use crate::agent::Now;", "model must not use agent"),
        (
            "src/agent/a.rs",
            "// fine\nfn f() { let _ = tokio::time::sleep(d); }",
            "src/agent/a.rs:2: agent must not use the crate tokio",
        ),
        ("src/agent/a.rs", "use std::time::{Duration, Instant};", "agent must not name std::time::Instant"),
        ("src/agent/a.rs", "fn f() { tracing::info!(x); }", "the runtime writes them"),
        (
            "src/vault/a.rs",
            "use std::time as t;\nfn f() { t::Instant::now(); }",
            "src/vault/a.rs:2: vault must not name std::time::Instant::now",
        ),
        ("src/vault/a.rs", "use tokio::{net, time::{self, sleep}};", "vault must not name tokio::time"),
        ("src/vault/a.rs", "use tokio::*;", "vault must not name tokio::*"),
        ("src/vault/a.rs", "fn f() { ::kube::Client::new() }", "vault must not name kube::Client::new"),
        (
            "src/kubernetes/a.rs",
            "fn f<'a>(x: &'a str) { std::fs::write(\"p\", x); }",
            "kubernetes must not name std::fs::write",
        ),
        (
            "src/vault/a.rs",
            "fn f() { vec![\nstd::fs::write(a, b)] }",
            "src/vault/a.rs:2: vault must not name std::fs::write",
        ),
        ("src/model/a.rs", "#[derive(serde::Serialize)] struct A;", "model must not use the crate serde"),
        (
            "src/agent/a.rs",
            "fn f() { net::bind() }\nuse tokio::net;",
            "src/agent/a.rs:1: agent must not use the crate tokio",
        ),
        ("src/render/a.rs", "mod inner { use super::super::super::volume::Publisher; }", "render must not use volume"),
        ("src/cellar/mod.rs", "", "src/cellar/mod.rs:1: module cellar has no rules"),
    ] {
        let found = planted(path, text);
        assert!(found.iter().any(|v| v.contains(expected)), "{path}: {text:?}\nexpected {expected:?}\ngot {found:#?}");
    }
}

#[test]
fn allowed_paths_and_text_outside_code_are_no_violations() {
    let innocent = r##"
        //! use crate::vault::Vault; tokio::spawn
        /* nested /* crate::vault */ std::fs::write */
        use std::{fmt, time::Duration};
        use crate::model::{self, Failure};
        use super::{Now, session};
        pub(crate) const TEXT: &str = "use crate::vault::X; \" tokio::spawn";
        const RAW: &str = r#"std::fs::write("x")"#;
        const QUOTE: char = '"'; // crate::volume
        const ESCAPED: char = '\'';
        mod inner { use super::Now; }
        fn f<'a>(x: &'a str) -> model::Failure { Failure::new(x) }
        #[cfg(test)]
        #[allow(dead_code)]
        mod tests { use crate::vault::Vault; fn g() { std::fs::write("a", "b"); } }
        #[cfg(test)]
        use tokio::time::sleep;
    "##;
    let out_of_line = "#[cfg(test)]\nmod properties;";
    let files = [
        ("src/agent/retry.rs", innocent),
        ("src/agent/mod.rs", out_of_line),
        ("src/agent/properties.rs", "use proptest::prelude::*; use crate::vault::Vault;"),
        ("src/agent/properties/deep.rs", "use crate::vault::Vault;"),
        ("src/vault/mod.rs", "use tokio::sync::Mutex; use std::time::Duration; mod http;"),
        ("src/runtime/mod.rs", "use crate::{agent, config, vault}; use tokio::time::sleep;"),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()));
    assert_eq!(violations(&files), Vec::<String>::new());
}

/// All violations in these files, one line each.
fn violations(files: &[File]) -> Vec<String> {
    let dependencies = dependencies();
    let mut all = BTreeSet::new();
    let mut sources = Vec::new();
    let mut test_files = Vec::new();
    for (path, text) in files {
        let module = module(path);
        let source = source::read(text, &module);
        test_files
            .extend(source.test_modules.iter().map(|name| [module.as_slice(), std::slice::from_ref(name)].concat()));
        sources.push((path, module, source));
    }
    for (path, module, source) in sources {
        if test_files.iter().any(|test| module.starts_with(test)) {
            continue;
        }
        let name = module.first().map_or_else(|| root_name(path), String::as_str);
        let Some(rules) = MODULES.iter().find(|rules| rules.name == name) else {
            let message = format!("module {name} has no rules; add it to tests/architecture/rules.rs");
            all.insert((path.clone(), 1, message));
            continue;
        };
        for named in &source.paths {
            for message in broken_rules(rules, path, named, &dependencies) {
                all.insert((path.clone(), named.line, message));
            }
        }
    }
    all.into_iter().map(|(path, line, message)| format!("{path}:{line}: {message}")).collect()
}

fn broken_rules(rules: &Module, path: &str, named: &NamedPath, dependencies: &BTreeSet<String>) -> Vec<String> {
    let mut broken = Vec::new();
    let (name, segments) = (rules.name, &named.segments);
    let first = segments.first().map_or("", String::as_str);
    if let Some(modules) = rules.modules.filter(|_| first == "crate") {
        let target = segments.get(1).map_or("*", String::as_str);
        if target == "*" {
            broken.push(format!("{name} must not use the whole crate; name the module"));
        } else if target != name && !modules.contains(&target) {
            let allowed = if modules.is_empty() { "no other module".into() } else { modules.join(", ") };
            broken.push(format!("{name} must not use {target}; allowed: {allowed}"));
        }
    }
    if let Some(crates) = rules.crates.filter(|crates| dependencies.contains(first) && !crates.contains(&first)) {
        broken.push(format!("{name} must not use the crate {first}; allowed: {}", crates.join(", ")));
    }
    for (banned, reason) in rules.forbidden {
        for ban in *banned {
            let excepted = EXCEPTIONS.iter().any(|(file, what, _)| path == format!("src/{file}") && what == ban);
            if matches(segments, ban) && !excepted {
                broken.push(format!("{name} must not name {}: {reason}", segments.join("::")));
            }
        }
    }
    broken
}

/// Whether `segments` is `ban` or below it, or imports it with a `*`.
fn matches(segments: &[String], ban: &str) -> bool {
    let ban: Vec<&str> = ban.split("::").collect();
    let is_glob = segments.last().is_some_and(|last| last == "*");
    let stem = &segments[..segments.len() - usize::from(is_glob)];
    if stem.len() < ban.len() { is_glob && ban[..stem.len()] == *stem } else { stem[..ban.len()] == *ban }
}

fn names(file: &File, ban: &str) -> bool {
    source::read(&file.1, &module(&file.0)).paths.iter().any(|named| matches(&named.segments, ban))
}

/// `src/agent/token.rs` → `["agent", "token"]`; empty for `src/lib.rs` and `src/main.rs`.
fn module(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Vec<String> = inner.split('/').map(ToOwned::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || matches!(inner, "lib" | "main") {
        module.pop();
    }
    module
}

/// `src/main.rs` → `main`.
fn root_name(path: &str) -> &str {
    path.trim_start_matches("src/").trim_end_matches(".rs")
}

/// The dependencies in `Cargo.toml`, as code names them.
fn dependencies() -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml is readable");
    let section =
        manifest.split("\n[").find(|part| part.starts_with("dependencies]")).expect("Cargo.toml has [dependencies]");
    let lines = section.lines().skip(1).filter_map(|line| line.split_once('='));
    lines.map(|(name, _)| name.trim().replace('-', "_")).filter(|name| !name.starts_with('#')).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below `folder`, sorted.
fn rust_files(folder: &str) -> Vec<File> {
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("the walk starts at the root").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("failed to read {name}: {error}"));
        (name, text)
    };
    files_below(&root().join(folder), "rs").into_iter().map(read).collect()
}
