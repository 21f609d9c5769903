//! `tokenFile`: the source with the child token, its file, and their errors.

use super::diagnostics::with;
use super::{loaded, rejected};
use crate::model::{FilePath, Mode, OutputKind, RequestMethod, Settings, SourceName};

const POD: [(&str, &str); 2] = [("POD_NAME", "web-0"), ("POD_NAMESPACE", "shop")];

fn settings(token_file: &str) -> Settings {
    loaded(&POD, Some(&with(&format!("tokenFile: {token_file}"))))
}

#[test]
fn token_file_is_source_and_output() {
    let settings = settings("{policies: [webapp, default]}");
    let source = &settings.sources[&SourceName::token_file()];
    assert_eq!((source.method, source.required), (RequestMethod::CreateToken, true));
    let parameters =
        r##"#display_name="keyferry-shop-web-0"#policies=["webapp","default"]#renewable=true#ttl="3600s""##;
    assert_eq!(source.request_id(), format!("other:auth/token/create#method=create-token{parameters}"));
    let output = settings.outputs.iter().find(|output| output.source.is_token_file()).expect("an output");
    assert!(
        matches!(&output.kind, OutputKind::Key { key, path, .. } if key == "token" && path.as_str() == "vault-token")
    );
    assert_eq!(output.mode, None);
}

#[test]
fn token_role_has_placeholders_and_other_settings_apply() {
    let settings = settings(
        "{role: '${POD_NAMESPACE}', policies: ['${POD_NAMESPACE}-app'], ttl: 20m, overlap: 1m, watchLease: 30s, \
         path: vault/token, mode: '0400', required: false}",
    );
    let source = &settings.sources[&SourceName::token_file()];
    assert_eq!(source.path, "auth/token/create/shop");
    assert!(source.request_id().contains(r#"#policies=["shop-app"]#renewable=true#ttl="1200s""#));
    assert_eq!((source.overlap.map(|time| time.as_secs()), source.required), (Some(60), false));
    assert_eq!(source.watch_lease.map(|time| time.as_secs()), Some(30));
    let output = settings.outputs.iter().find(|output| output.source.is_token_file()).expect("an output");
    let path = FilePath::new("vault/token").expect("a path");
    assert_eq!((output.known_files(), output.mode), (Some(vec![path]), Mode::new(0o400).ok()));
    let role_only = self::settings("{role: webapp}").sources[&SourceName::token_file()].request_id();
    assert!(!role_only.contains("policies"), "the role decides: {role_only}");
}

#[test]
fn token_file_needs_no_other_source() {
    let document = "vault: {address: 'https://vault:8200'}\nauth: {role: webapp}\ntokenFile: {policies: [webapp]}\n";
    let settings = loaded(&[], Some(document));
    assert_eq!((settings.sources.len(), settings.outputs.len()), (1, 1));
    let display_name = settings.sources[&SourceName::token_file()].request_id();
    assert!(display_name.contains(r##"#display_name="keyferry"#"##), "{display_name}");
}

#[test]
fn each_error_of_the_token_file_has_its_path_and_its_action() {
    for (document, path, part) in [
        ("tokenFile: {}", "tokenFile.policies", "is missing; set it, or `role`"),
        ("tokenFile: /etc/token", "tokenFile", "must be a mapping"),
        ("tokenFile: {policies: webapp}", "tokenFile.policies", "must be a list, not text"),
        ("tokenFile: {policies: [webapp, Root]}", "tokenFile.policies[1]", "must not be `root`"),
        ("tokenFile: {policies: ['a,root']}", "tokenFile.policies[0]", "must be the name of a policy"),
        ("tokenFile: {policies: ['${HOME}']}", "tokenFile.policies[0]", "unknown placeholder"),
        ("tokenFile: {role: a/b}", "tokenFile.role", "must be the name of a token role"),
        ("tokenFile: {role: '../create-orphan'}", "tokenFile.role", "must be the name of a token role"),
        ("tokenFile: {role: webapp, ttl: 5s}", "tokenFile.ttl", "must be at least 10s"),
        ("tokenFile: {role: webapp, ttl: soon}", "tokenFile.ttl", "must be a duration"),
        ("tokenFile: {role: webapp, overlap: x}", "tokenFile.overlap", "must be a duration"),
        ("tokenFile: {role: webapp, watchLease: 1s}", "tokenFile.watchLease", "must be at least 10s"),
        ("tokenFile: {role: webapp, mode: 640}", "tokenFile.mode", "must be octal"),
        ("tokenFile: {role: webapp, path: ../token}", "tokenFile.path", "starts with '..'"),
        ("tokenFile: {role: webapp, noParent: true}", "tokenFile.noParent", "unknown key"),
        (
            "tokenFile: {role: webapp, path: db/token}\noutputs: [{source: db, key: a, file: db}]",
            "tokenFile.path",
            "conflicts with file \"db\" of source db",
        ),
        (
            "tokenFile: {role: webapp, path: db}\noutputs: [{source: db, prefix: db}]",
            "tokenFile.path",
            "conflicts with directory \"db\" of source db",
        ),
        (
            "tokenFile: {role: webapp}\nmirrors: {m: {keys: {token: vault-token}}}",
            "mirrors.m.keys.token",
            "which is never mirrored",
        ),
        (
            "tokenFile: {role: webapp}\nmirrors: {m: {allowLeased: true, keys: {token: vault-token}}}",
            "mirrors.m.keys.token",
            "which is never mirrored",
        ),
        (
            "tokenFile: {role: webapp}\nseed: {directory: /run/seed}",
            "seed",
            "set `tokenFile.required: false`, or remove `seed`",
        ),
        ("sources: {tokenFile: {path: secret/app}}", "sources.tokenFile", "cannot have this name"),
    ] {
        let error = rejected(&[], Some(&with(document)));
        let lines: Vec<_> = error.diagnostics.iter().map(ToString::to_string).collect();
        let found = lines.iter().any(|line| line.starts_with(&format!("{path}: ")) && line.contains(part));
        assert!(found && lines.len() == 1, "{document}: {lines:#?}");
    }
    let optional = with("tokenFile: {role: webapp, required: false}\nseed: {directory: /run/seed}");
    assert!(loaded(&[], Some(&optional)).seed.is_some());
}
