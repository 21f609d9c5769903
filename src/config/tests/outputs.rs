//! Outputs that select, rename, and shape keys.

use super::diagnostics::with;
use super::{loaded, rejected};
use crate::model::{FilePath, Glob, JsonPointer, KeySelection, OutputKind, WhenMissing};

/// The kinds of the configured outputs.
fn kinds(outputs: &str) -> Vec<OutputKind> {
    loaded(&[], Some(&with(outputs))).outputs.into_iter().map(|output| output.kind).collect()
}

#[test]
fn selection_and_shape_are_parsed() {
    let found = kinds(
        r#"
outputs:
- {source: db, include: ["db-*", url], exclude: ["*-old"], rename: {db-host: tls/host}, prefix: db}
- {source: db, key: config, field: /db/0/host, file: host, default: 5432}
- {source: db, key: feature, optional: true}
- {source: db, key: blob, default: AAH/, encoding: base64}
- {source: db, key: empty, default: ""}
"#,
    );
    let globs = |patterns: &[&str]| patterns.iter().map(|pattern| Glob::new(pattern).expect(pattern)).collect();
    let path = |text| FilePath::new(text).expect(text);
    let key = |key: &str, file, base64, field: Option<&str>, missing| {
        let field = field.map(|text| JsonPointer::new(text).expect(text));
        OutputKind::Key { key: key.into(), path: path(file), base64, field, missing }
    };
    let keys = KeySelection {
        include: globs(&["db-*", "url"]),
        exclude: globs(&["*-old"]),
        rename: [("db-host".to_owned(), "tls/host".to_owned())].into(),
    };
    assert_eq!(
        found,
        [
            OutputKind::EachKey { prefix: Some(path("db")), base64: false, keys },
            key("config", "host", false, Some("/db/0/host"), WhenMissing::Default(b"5432".to_vec())),
            key("feature", "feature", false, None, WhenMissing::Omit),
            key("blob", "blob", true, None, WhenMissing::Default(vec![0, 1, 255])),
            key("empty", "empty", false, None, WhenMissing::Default(Vec::new())),
        ]
    );
}

#[test]
fn outputs_of_one_source_can_share_a_directory() {
    for outputs in [
        "[{source: db, include: [tls.key], mode: '0400'}, {source: db, exclude: [tls.key]}]",
        "[{source: db, include: ['a*']}, {source: db, include: ['b*']}]",
        "[{source: db}, {source: db, include: [password], rename: {password: pw}}]",
        "[{source: db, rename: {a: b, b: a}}]",
        "[{source: db, exclude: [password]}, {source: db, key: password}]",
        "[{source: db, rename: {config: all}}, {source: db, key: config, field: /a, file: config}]",
        "[{source: db, format: dotenv, file: env, include: [db-user, A], rename: {db-user: USER}}]",
    ] {
        assert_eq!(kinds(&format!("outputs: {outputs}")).len(), outputs.matches("source").count());
    }
}

#[test]
fn each_error_of_a_selection_has_its_path_and_its_action() {
    for (output, path, part) in [
        // What does not belong together.
        ("key: a, include: [b]", "outputs[0].include", "cannot be combined with `key`"),
        ("key: a, exclude: [b]", "outputs[0].exclude", "cannot be combined with `key`"),
        ("key: a, rename: {a: b}", "outputs[0].rename", "set `file`"),
        ("field: /a", "outputs[0].field", "requires `key`"),
        ("default: a", "outputs[0].default", "requires `key`"),
        ("format: json, file: f, optional: true", "outputs[0].optional", "requires `key`"),
        ("key: a, default: b, optional: true", "outputs[0].optional", "cannot be combined with `default`"),
        ("key: a, field: /b", "outputs[0].file", "is missing; with `field`"),
        // Values.
        (
            "key: a, file: f, field: db.host",
            "outputs[0].field",
            "JSON Pointer (RFC 6901), such as \"/db/0/host\" (found",
        ),
        ("key: a, file: f, field: /a~b", "outputs[0].field", "\"~1\" for '/'"),
        ("key: a, default: [b]", "outputs[0].default", "must be text, a whole number, or true or false, not a list"),
        ("key: a, default: 1.5", "outputs[0].default", "must be text"),
        ("key: a, default: '!', encoding: base64", "outputs[0].default", "must be base64"),
        ("include: ['a[']", "outputs[0].include[0]", "at character 2"),
        ("include: []", "outputs[0].include", "must contain a pattern"),
        ("rename: {a/: b}", "outputs[0].rename.a/", "must end with a slash like its key, or be empty"),
        ("rename: {a/: ../}", "outputs[0].rename.a/", "must be the path of a file"),
        ("rename: {'a/*': b/}", "outputs[0].rename.a/*", "use the key \"a/\""),
        ("include: ['{a,b}']", "outputs[0].include[0]", "use several patterns"),
        ("exclude: [a, '**b']", "outputs[0].exclude[1]", "path component"),
        ("rename: {a: ../b}", "outputs[0].rename.a", "must be the path of a file"),
        ("rename: {a: ''}", "outputs[0].rename.a", "the path is empty"),
        ("format: json, file: f, rename: {a: ''}", "outputs[0].rename.a", "must not be empty"),
        ("format: dotenv, file: f, rename: {a: b-c}", "outputs[0].rename.a", "name of a shell variable"),
        ("format: dotenv, file: f, include: [a-b]", "outputs[0].include[0]", "add the key to `rename`"),
        ("include: ['..a']", "outputs[0].include[0]", "add the key to `rename`"),
        // What has no effect.
        ("include: [a], rename: {b: c}", "outputs[0].rename.b", "has no effect"),
        ("exclude: ['b*'], rename: {b: c}", "outputs[0].rename.b", "has no effect"),
        ("include: [a, b], exclude: ['b*']", "outputs[0].include[1]", "`exclude` matches it too"),
        // Keys that collide.
        ("rename: {a: x, b: x}", "outputs[0].rename.b", "\"b\" becomes \"x\", and \"a\" becomes \"x\""),
        ("rename: {a: x/y, b: x}", "outputs[0].rename.b", "\"b\" becomes \"x\", and \"a\" becomes \"x/y\""),
        ("include: [a, b], rename: {b: a}", "outputs[0].rename.b", "\"a\" becomes \"a\""),
        ("include: [a, a/b]", "outputs[0].include", "\"a/b\" becomes \"a/b\""),
        ("format: json, file: f, rename: {a: x, b: x}", "outputs[0].rename.b", "another name"),
    ] {
        let section = format!("outputs: [{{source: db, {output}}}]");
        let error = rejected(&[], Some(&with(&section)));
        let text = error.to_string();
        assert_eq!(error.diagnostics.len(), 1, "{section}: {text}");
        assert!(text.starts_with(&format!("{path}: ")) && text.contains(part), "{section}: {text}");
    }
}

#[test]
fn outputs_that_write_the_same_file_are_reported_with_the_key() {
    for (one, two, part) in [
        ("source: db", "source: db, exclude: [a]", "duplicate source and prefix"),
        ("source: db, include: ['a*']", "source: db", "duplicate source and prefix"),
        ("source: db, include: ['a*']", "source: db, include: ['a*'], rename: {ab: c}", "duplicate source and prefix"),
        ("source: db", "source: db, include: [a]", "file \"a\" (key \"a\") conflicts with file \"a\" (key \"a\")"),
        ("source: db", "source: db, key: a", "file \"a\" conflicts with file \"a\" (key \"a\") of outputs[0]"),
        ("source: db, key: a", "source: db", "file \"a\" (key \"a\") conflicts with file \"a\" of outputs[0]"),
        ("source: db, key: b, file: a", "source: db, rename: {b: a/c}", "file \"a/c\" (key \"b\") conflicts"),
        ("source: db, include: [a]", "source: other, rename: {b: a}", "file \"a\" (key \"b\") conflicts"),
        ("source: db, prefix: p", "source: other, rename: {b: p}", "conflicts with directory \"p\" of outputs[0]"),
        ("source: db, include: [a]", "source: other, key: x, file: a/b", "conflicts with file \"a\" (key \"a\")"),
    ] {
        let sources = "sources: {db: {path: secret/db}, other: {path: secret/other}}";
        let document = with(sources) + &format!("outputs: [{{{one}}}, {{{two}}}]\n");
        let error = rejected(&[], Some(&document));
        let text = error.to_string();
        assert_eq!(error.diagnostics.len(), 1, "{one} / {two}: {text}");
        assert!(text.starts_with("outputs[1]: ") && text.contains(part), "{one} / {two}: {text}");
    }
}

#[test]
fn all_errors_of_an_output_are_reported_at_once() {
    let section = "outputs: [{source: db, key: a, field: x, include: [b], prefix: ../p, optional: true, default: 1}]";
    let error = rejected(&[], Some(&with(section)));
    let mut paths: Vec<_> = error.diagnostics.iter().map(|diagnostic| diagnostic.path.as_str()).collect();
    paths.sort_unstable();
    let expected = ["outputs[0].field", "outputs[0].include", "outputs[0].optional", "outputs[0].prefix"];
    assert_eq!(paths, expected, "{error}");
}

#[test]
fn mirrors_know_which_files_an_output_can_write_and_which_are_optional() {
    let document = |mirrors: &str| {
        with("outputs: [{source: db, prefix: p, exclude: [b], rename: {a: x}}, {source: db, key: k, optional: true}]")
            + mirrors
    };
    let settings = loaded(&[], Some(&document("mirrors: {m: {keys: {one: p/x, two: p/other, three: k}}}")));
    let keys = &settings.mirrors.values().next().expect("a mirror").keys;
    let optional: Vec<_> = keys.iter().filter(|key| key.optional.is_some()).map(|key| key.key.as_str()).collect();
    assert_eq!(optional, ["three"]);
    for (mirror, path, part) in [
        ("keys: {one: p/a}", "mirrors.m.keys.one", "must be a file of `outputs`"),
        ("keys: {one: p/b}", "mirrors.m.keys.one", "must be a file of `outputs`"),
        (
            "type: kubernetes.io/ssh-auth, keys: {ssh-privatekey: k}",
            "mirrors.m.keys",
            "must contain the keys ssh-privatekey from outputs without `optional`",
        ),
    ] {
        let error = rejected(&[], Some(&document(&format!("mirrors: {{m: {{{mirror}}}}}"))));
        assert_eq!(error.diagnostics.len(), 1, "{error}");
        assert!(error.to_string().starts_with(path) && error.to_string().contains(part), "{error}");
    }
}
