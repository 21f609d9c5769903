//! Outputs that are merged from several sources, and the formats `toml` and `env-file`.

use super::{loaded, rejected};
use crate::model::{FileFormat, FilePath, Glob, KeySelection, MergeItem, OutputKind, SourceName};

/// Two sources and one output.
fn document(output: &str) -> String {
    format!(
        "vault: {{address: 'https://v'}}\nauth: {{role: r}}\nsources:\n  app: {{path: secret/app, previous: true}}\n  \
         db: {{path: database/creds/db}}\n  web: {{pki: {{issue: pki/issue/web, commonName: web}}}}\noutputs: [{{{output}}}]\n"
    )
}

#[test]
fn items_are_parsed_in_their_order() {
    let output = "format: yaml, file: application.yaml, mode: '0400', merge: [{source: app}, {source: db, under: \
                  /spring/data~1source, include: ['p*'], exclude: [pw], rename: {password: secret}}, {source: web}]";
    let settings = loaded(&[], Some(&document(output)));
    let [output] = settings.outputs.as_slice() else { panic!("one output") };
    let source = |name| SourceName::new(name).expect(name);
    let glob = |text| vec![Glob::new(text).expect(text)];
    let item = |name, under: &[&str], keys| MergeItem {
        source: source(name),
        under: under.iter().map(ToString::to_string).collect(),
        keys,
    };
    let rename = [("password".to_owned(), "secret".to_owned())].into();
    let items = vec![
        item("app", &[], KeySelection::default()),
        item("db", &["spring", "data/source"], KeySelection { include: glob("p*"), exclude: glob("pw"), rename }),
        item("web", &[], KeySelection::default()),
    ];
    let path = FilePath::new("application.yaml").expect("a path");
    assert_eq!(output.kind, OutputKind::Merged { path, format: FileFormat::Yaml, items });
    assert_eq!(output.sources(), [source("app"), source("db"), source("web")].into());
    assert_eq!(output.source, source("app"));
    assert!(output.mode.is_some());
}

#[test]
fn names_of_variables_depend_on_the_place() {
    for output in [
        "format: dotenv, file: f, merge: [{source: db, under: /spring/datasource, include: [driver-class-name]}]",
        "format: dotenv, file: f, merge: [{source: app, under: /a, include: [b.c, x]}]",
        "format: env-file, file: f, merge: [{source: app, include: [a.b-c]}]",
        "source: app, format: env-file, file: f, rename: {a: 'b c'}",
        "source: app, format: toml, file: f, rename: {a: 'ü =#'}",
        "format: json, file: f, merge: [{source: app, include: [x], rename: {x: a}}, {source: db, include: [a]}]",
    ] {
        assert_eq!(loaded(&[], Some(&document(output))).outputs.len(), 1, "{output}");
    }
}

#[test]
fn each_error_has_its_path_and_its_action() {
    const MERGE: &str = "file: f, format: json, merge: [{source: app}, {source: db}]";
    for (output, path, part) in [
        ("file: f, merge: [{source: app}]", "format", "is missing; set it to json, yaml, toml"),
        ("format: json, merge: [{source: app}]", "file", "like \"application.yaml\""),
        ("file: f, format: json, merge: []", "merge", "must list at least one source"),
        ("file: f, format: json, merge: {source: app}", "merge", "must be a list, not a mapping"),
        ("file: f, format: json, merge: [app]", "merge[0]", "must be a mapping, not text"),
        ("file: f, format: json, merge: [{under: /a}]", "merge[0].source", "is missing"),
        ("file: f, format: json, merge: [{source: ap}]", "merge[0].source", "did you mean `app`?"),
        ("file: f, format: json, merge: [{source: app, key: a}]", "merge[0].key", "unknown key"),
        ("file: f, format: pkcs12, merge: [{source: app}]", "format", "cannot be `pkcs12` with `merge`"),
        ("file: ../f, format: json, merge: [{source: app}]", "file", ".."),
        (&format!("{MERGE}, source: app"), "source", "add the source to the list"),
        (&format!("{MERGE}, key: a"), "key", "select keys with the item's `include`"),
        (&format!("{MERGE}, bundle: [a]"), "bundle", "cannot be combined with `merge`"),
        (&format!("{MERGE}, prefix: a"), "prefix", "write the directory into `file`"),
        (&format!("{MERGE}, include: [a]"), "include", "set it in the items of the list"),
        (&format!("{MERGE}, rename: {{a: b}}"), "rename", "set it in the items of the list"),
        (&format!("{MERGE}, encoding: base64"), "encoding", "writes values as they are"),
        (&format!("{MERGE}, optional: true"), "optional", "requires `key`"),
        (&format!("{MERGE}, alias: a"), "alias", "requires `format: pkcs12`"),
        ("file: f, format: json, merge: [{source: app, under: a}]", "merge[0].under", "JSON Pointer (RFC 6901)"),
        ("file: f, format: json, merge: [{source: app, under: /a//b}]", "merge[0].under", "an empty name"),
        (
            &format!("file: f, format: json, merge: [{{source: app, under: {}}}]", "/a".repeat(33)),
            "merge[0].under",
            "more than 32 parts",
        ),
        ("file: f, format: json, merge: [{source: app, include: []}]", "merge[0].include", "must contain a pattern"),
        ("file: f, format: json, merge: [{source: app, include: ['a[']}]", "merge[0].include[0]", "at character 2"),
        ("file: f, format: json, merge: [{source: app, rename: {a: ''}}]", "merge[0].rename.a", "must not be empty"),
        (
            "file: f, format: json, merge: [{source: app, include: [a], rename: {b: c}}]",
            "merge[0].rename.b",
            "has no effect",
        ),
        ("file: f, format: dotenv, merge: [{source: db, include: [a-b]}]", "merge[0].include[0]", "a shell variable"),
        (
            "file: f, format: dotenv, merge: [{source: db, under: /a b}]",
            "merge[0].under",
            "\"A B_KEY\" is not the name",
        ),
        ("file: f, format: env-file, merge: [{source: db, under: /ü}]", "merge[0].under", "cannot be one of its keys"),
        (
            "file: f, format: dotenv, merge: [{source: db, under: /a, rename: {x: b-c, y: bc}}]",
            "merge[0].rename.y",
            "another name",
        ),
        ("file: f, format: dotenv, merge: [{source: app}]", "format", "KEY.previous"),
        ("source: db, format: env-file, file: f, include: ['#a']", "include[0]", "must be a key of an env file"),
        ("source: db, format: env-file, file: f, rename: {a: 'b '}", "rename.a", "must be a key of an env file"),
        ("source: db, format: env-file, file: f, encoding: base64", "encoding", "cannot be combined with `format`"),
        ("format: env-file, file: f", "source", "is missing; set it, or `merge` or `template` for several sources"),
    ] {
        let error = rejected(&[], Some(&document(output)));
        let text = error.to_string();
        assert_eq!(error.diagnostics.len(), 1, "{output}: {text}");
        assert!(text.starts_with(&format!("outputs[0].{path}: ")) && text.contains(part), "{output}: {text}");
    }
}

#[test]
fn merged_file_takes_part_in_conflicts_mirrors_and_seeds() {
    let with =
        |outputs: &str, rest: &str| document("").replace("outputs: [{}]", &format!("outputs: [{outputs}]\n{rest}"));
    let merged = "{file: a/f, format: json, merge: [{source: app}, {source: db}]}";
    let error = rejected(&[], Some(&with(&format!("{{source: app, key: x, file: a}}, {merged}"), ""))).to_string();
    assert!(error.starts_with("outputs[1]: file \"a/f\" conflicts with file \"a\" of outputs[0]"), "{error}");
    let error = rejected(&[], Some(&with(merged, "mirrors: {copy: {}}"))).to_string();
    assert!(error.starts_with("mirrors.copy.keys: is missing"), "{error}");
    let settings = loaded(&[], Some(&with(merged, "mirrors: {copy: {keys: {f: a/f}, allowLeased: true}}")));
    assert_eq!(settings.mirrors.values().next().map(|mirror| mirror.keys.len()), Some(1));
    let rest = "mirrors: {copy: {keys: {other: b}}}\nseed: {directory: /seed}";
    let error = rejected(&[], Some(&with(&format!("{merged}, {{source: app, key: b}}"), rest))).to_string();
    assert!(error.contains("does not contain file a/f"), "{error}");
}
