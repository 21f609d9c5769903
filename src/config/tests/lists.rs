//! Sources with a list.

use super::diagnostics::with;
use super::{loaded, rejected};
use crate::model::{Glob, KvEngine, SecretList, Settings, Source, SourceName};

fn settings(source: &str) -> Settings {
    loaded(&[], Some(&with(&format!("sources: {{team: {source}}}"))))
}

fn parsed(source: &str) -> Source {
    settings(source).sources[&SourceName::new("team").expect("name")].clone()
}

#[test]
fn list_has_defaults_and_bounds() {
    let defaults = SecretList { recursive: false, include: vec![], exclude: vec![], max_count: 100, max_depth: 10 };
    for text in ["true", "{}"] {
        let source = parsed(&format!("{{path: secret/team/, list: {text}}}"));
        assert_eq!((source.path.as_str(), source.engine), ("secret/team", KvEngine::Detect));
        assert_eq!((source.request_id().as_str(), source.list), ("detect:secret/team#list", Some(defaults.clone())));
    }
    for text in ["false", ""] {
        assert_eq!(parsed(&format!("{{path: secret/team, list: {text}}}")).list, None);
    }
    let all = parsed(
        "{path: secret/, engine: kv-v2, mount: secret, \
         list: {recursive: true, include: ['*/db', 'shared/**'], exclude: ['**/draft'], maxCount: 500, maxDepth: 3}}",
    );
    assert_eq!(
        all.request_id(),
        r##"kv-v2:secret#mount=secret#list=recursive#include="*/db"#include="shared/**"#exclude="**/draft""##
    );
    let glob = |text: &str| Glob::new(text).expect(text);
    let (include, exclude) = (vec![glob("*/db"), glob("shared/**")], vec![glob("**/draft")]);
    let expected = SecretList { recursive: true, include, exclude, max_count: 500, max_depth: 3 };
    assert_eq!((all.path.as_str(), all.list), ("secret", Some(expected)));
}

#[test]
fn key_of_a_list_has_the_path_of_its_secret() {
    let text = with("sources: {team: {path: secret/team, list: true}}");
    let outputs = "outputs: [{source: team, key: web/password}, {source: team, key: web/tls.key, file: tls.key}]";
    assert_eq!(loaded(&[], Some(&format!("{text}{outputs}\n"))).outputs.len(), 2);
    let lines = rejected(&[], Some(&format!("{text}outputs: [{{source: team, key: password}}]\n"))).to_string();
    assert!(lines.starts_with("outputs[0].key: must be the path of a secret below"), "{lines}");
    let bundle = format!("{text}outputs: [{{source: team, bundle: [web/tls.key, tls.crt], file: a.pem}}]\n");
    let lines = rejected(&[], Some(&bundle)).to_string();
    assert!(lines.starts_with("outputs[0].bundle[1]: must be the path of a secret below"), "{lines}");
}

#[test]
fn mirror_of_files_in_directories_requires_keys() {
    let list = with("sources: {team: {path: secret/team, list: true}}");
    let one = with("sources: {team: {path: secret/team}}");
    for (text, outputs) in [
        (&list, ""),
        (&list, "outputs: [{source: team, exclude: ['*/a']}]\n"),
        (&one, "outputs: [{source: team, prefix: db}]\n"),
        (&one, "outputs: [{source: team, key: a, file: db/a}]\n"),
        (&one, "outputs: [{source: team, rename: {a: db/a}}]\n"),
    ] {
        let rejected = rejected(&[], Some(&format!("{text}{outputs}mirrors: {{copy: {{}}}}\n"))).to_string();
        assert!(rejected.starts_with("mirrors.copy.keys: is missing"), "{outputs}: {rejected}");
    }
    for (text, more) in [
        (&list, "outputs: [{source: team, include: [db/a], rename: {db/a: a}}]\nmirrors: {copy: {}}\n"),
        (&one, "mirrors: {copy: {}}\n"),
        (&one, "outputs: [{source: team, key: a, file: db/a}]\nmirrors: {copy: {keys: {a: db/a}}}\n"),
    ] {
        loaded(&[], Some(&format!("{text}{more}")));
    }
}

#[test]
fn each_error_of_a_list_has_its_path_and_its_action() {
    for (source, path, part) in [
        (
            "{path: secret/team, list: yes please}",
            "list",
            "must be true, false, or a mapping with recursive, include, exclude, maxCount, maxDepth",
        ),
        ("{path: secret/team, list: {max_depth: 1}}", "list.max_depth", "did you mean `maxDepth`?"),
        ("{path: secret/team, list: {recursive: 1}}", "list.recursive", "must be true or false"),
        ("{path: secret/team, list: {include: db}}", "list.include", "must be a list, not text"),
        ("{path: secret/team, list: {include: [db, '[a']}}", "list.include[1]", "expected a pattern"),
        ("{path: secret/team, list: {exclude: ['']}}", "list.exclude[0]", "must not be empty"),
        ("{path: secret/team, list: {exclude: [/db]}}", "list.exclude[0]", "without a slash at either end"),
        ("{path: secret/team, list: {exclude: [db/*]}}", "list.exclude[0]", "requires `recursive: true`"),
        (
            "{path: secret/team, list: {include: ['**/db', 'shared/**']}}",
            "list.include[1]",
            "requires `recursive: true`",
        ),
        ("{path: secret/team, list: {maxCount: 0}}", "list.maxCount", "must be at least 1"),
        ("{path: secret/team, list: {maxCount: 1001}}", "list.maxCount", "must be at most 1000"),
        ("{path: secret/team, list: {recursive: true, maxDepth: 33}}", "list.maxDepth", "must be at most 32"),
        ("{path: secret/team, list: {maxDepth: 3}}", "list.maxDepth", "requires `recursive: true`"),
        ("{path: secret/team, list: true, version: 1}", "version", "which reads the latest versions"),
        ("{path: secret/team, list: true, previous: true}", "previous", "cannot be combined with `list`"),
        ("{path: secret/team, list: true, method: write}", "method", "cannot be `write` with `list`"),
        ("{path: secret/team, list: true, parameters: {a: b}}", "parameters", "cannot be combined with `list`"),
        ("{path: secret/team, list: true, engine: other}", "engine", "cannot be `other` with `list`"),
        ("{path: secret/team, list: true, overlap: 30s}", "overlap", "has no effect with `list`"),
        ("{path: secret/team, list: true, watchLease: 5m}", "watchLease", "has no effect with `list`"),
        ("{list: true, pki: {issue: pki/issue/web, commonName: web}}", "list", "cannot be combined with `pki`"),
        ("{path: /, list: true}", "path", "must be a mount, or a mount and a path in it"),
        ("{path: secret/../sys, list: true}", "path", "without \"..\""),
        ("{path: secret, list: false}", "path", "must be a mount and a path in it"),
        ("{path: secret/team, list: true, mount: secret/te}", "mount", "must be a prefix of `path`"),
        ("{list: {recursive: true, exclude: ['a**']}}", "list.exclude[0]", "expected a pattern"),
    ] {
        let document = with(&format!("sources: {{team: {source}}}"));
        let error = rejected(&[], Some(&document));
        let lines: Vec<_> = error.diagnostics.iter().map(ToString::to_string).collect();
        let found = lines.iter().any(|line| line.starts_with(&format!("sources.team.{path}: ")) && line.contains(part));
        assert!(found, "{source}: {lines:#?}");
        let expected = 1 + usize::from(!source.contains("path: ") && !source.contains("pki: "));
        assert_eq!(lines.len(), expected, "{source}: {lines:#?}");
    }
}
