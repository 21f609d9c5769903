//! The seed and its relation to mirrors, sources, and outputs.

use std::time::Duration;

use super::{MINIMAL, loaded, rejected};
use crate::model::ObjectName;

const THREE: [(&str, &str); 3] =
    [("VAULT_ADDR", "https://vault:8200"), ("KEYFERRY_ROLE", "webapp"), ("KEYFERRY_SECRETS", "secret/webapp/config")];

#[test]
fn seed_belongs_to_the_only_mirror_or_to_the_named_one() {
    let variables = [&THREE[..], &[("KEYFERRY_MIRROR", "webapp"), ("KEYFERRY_SEED", "/run/seed")]].concat();
    let seed = loaded(&variables, None).seed.expect("a seed");
    assert_eq!(seed.directory.to_str(), Some("/run/seed"));
    assert_eq!((seed.mirror, seed.after), (ObjectName::new("webapp").ok(), Duration::from_secs(10)));
    let seed = loaded(&variables[..3], Some("seed: {directory: /run/seed, after: 1m}")).seed.expect("a seed");
    assert_eq!((seed.mirror, seed.after), (None, Duration::from_secs(60)));
    let two = "mirrors: {a: {}, b: {}}, seed: {directory: /run/seed, mirror: b}";
    assert_eq!(loaded(&THREE, Some(&format!("{{{two}}}"))).seed.expect("a seed").mirror, ObjectName::new("b").ok());
    assert!(loaded(&THREE, None).seed.is_none());
}

#[test]
fn each_error_of_a_seed_has_its_path_and_its_action() {
    for (document, path, part) in [
        ("seed: {after: 5s}", "seed.directory", "set it here or in KEYFERRY_SEED"),
        ("seed: {directory: run/seed}", "seed.directory", "must be an absolute path"),
        ("seed: {directory: /etc/sensitive/seed}", "seed.directory", "must be outside `directory.path`"),
        ("seed: {directory: /etc}", "seed.directory", "must be outside `directory.path`"),
        ("seed: {directory: /seed, after: 0s}", "seed.after", "must be at least 1s"),
        ("mirrors: {a: {}, b: {}}\nseed: {directory: /seed}", "seed.mirror", "the Secret at `seed.directory`: a or b"),
        ("mirrors: {webapp: {}}\nseed: {directory: /seed, mirror: web-app}", "seed.mirror", "did you mean `webapp`?"),
        (
            "mirrors: {a: {allowLeased: true}}\nseed: {directory: /seed}",
            "mirrors.a.allowLeased",
            "mirror them to another Secret than a",
        ),
        (
            "sources: {db: {path: pki/issue/web, method: write}}\nseed: {directory: /seed}",
            "seed",
            "cannot replace source db, because each request",
        ),
        (
            "sources: {a: {path: secret/a}, b: {path: secret/b}}\nseed: {directory: /seed}",
            "seed",
            "cannot tell the files of sources a and b apart",
        ),
        (
            "outputs: [{source: db, include: [a, b]}]\nmirrors: {m: {keys: {a: a}}}\nseed: {directory: /seed}",
            "seed",
            "Secret m does not contain file b; add it to the `keys`",
        ),
        (
            "outputs: [{source: db}, {source: db, format: json, file: a}]\nmirrors: {a: {keys: {a: a}}}\n\
             seed: {directory: /seed}",
            "seed",
            "Secret a does not contain all its files, which depend on the keys",
        ),
        (
            "outputs: [{source: db, key: a}, {source: db, key: b}]\nmirrors: {m: {keys: {a: a}}}\nseed: {directory: /seed}",
            "seed",
            "Secret m does not contain file b; add it to the `keys`",
        ),
    ] {
        let base = if document.contains("sources:") { MINIMAL.replace("sources:", "#") } else { MINIMAL.to_owned() };
        let error = rejected(&[], Some(&format!("{base}\n{document}")));
        let [only] = error.diagnostics.as_slice() else { panic!("{document}: {error}") };
        let line = only.to_string();
        assert!(line.starts_with(&format!("{path}: ")) && line.contains(part), "{document}: {line}");
    }
}

#[test]
fn optional_source_may_be_missing_from_seed() {
    let document = "
sources:
  app: {path: secret/app}
  cert: {path: pki/issue/web, method: write, required: false}
outputs: [{source: app, key: url}, {source: cert, format: json, file: cert.json}]
mirrors: {copy: {keys: {url: url}}}
seed: {directory: /seed}
";
    let base = MINIMAL.replace("sources:", "#");
    assert!(loaded(&[], Some(&format!("{base}{document}"))).seed.is_some());
}
