//! Every kind of configuration error: its path and its message.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{load, schema};
use super::{MINIMAL, environment, rejected};

/// The minimal configuration with one section replaced or added.
pub(super) fn with(section: &str) -> String {
    let key = section.trim_start().split(':').next().unwrap_or_default();
    let kept: Vec<_> = MINIMAL.lines().filter(|line| !line.starts_with(&format!("{key}:"))).collect();
    format!("{}\n{section}\n", kept.join("\n"))
}

#[test]
fn each_error_has_its_path_and_its_action() {
    // section, path, part of the line
    let table: &[(&str, &str, &str)] = &[
        // Shape.
        ("lisen: ':1'", "lisen", "unknown key; did you mean `listen`?"),
        ("banana: 1", "banana", "unknown key; use one of `vault`, `auth`"),
        ("vault: {address: 'https://v', redirect_to: []}", "vault.redirect_to", "did you mean `redirectTo`?"),
        ("vault: 5", "vault", "must be a mapping, not a number"),
        ("vault: {address: 5}", "vault.address", "must be text in quotes, not a number (found 5)"),
        ("outputs: {source: db}", "outputs", "must be a list, not a mapping"),
        ("outputs: [db]", "outputs[0]", "must be a mapping, not text (found \"db\")"),
        ("outputs: [{prefix: a}]", "outputs[0].source", "is missing"),
        ("directory: {allowDisk: maybe}", "directory.allowDisk", "must be true or false, not text"),
        ("concurrency: 0", "concurrency", "must be at least 1 (found 0)"),
        ("concurrency: 65", "concurrency", "must be at most 64"),
        ("concurrency: 1.5", "concurrency", "must be a whole number"),
        ("listen: ''", "listen", "must not be empty"),
        ("sources: {}", "sources", "KEYFERRY_SECRETS"),
        ("sources: {db: }", "sources.db", "must be a mapping, not empty"),
        ("sources: {db: {}}", "sources.db.path", "is missing"),
        (
            "sources: {db: {path: a/b, engine: kv2}}",
            "sources.db.engine",
            "must be one of detect, kv-v1, kv-v2, other; did you mean `kv-v2`?",
        ),
        ("sources: {db: {path: a/b, version: 0}}", "sources.db.version", "at least 1"),
        // Vault.
        ("vault: {}", "vault.address", "VAULT_ADDR"),
        ("vault: {address: 'vault:8200'}", "vault.address", "https://vault.example.com:8200"),
        ("vault: {address: 'ftp://vault'}", "vault.address", "http or https"),
        ("vault: {address: 'https://vault/v1'}", "vault.address", "remove everything after host and port"),
        ("vault: {address: 'https://vault?a=b'}", "vault.address", "remove everything after host and port"),
        ("vault: {address: 'https://vault#x'}", "vault.address", "remove everything after host and port"),
        ("vault: {address: 'https://vault:99999'}", "vault.address", "must be like"),
        ("vault: {address: 'https://a:b@vault'}", "vault.address", "remove user and password"),
        ("vault: {address: 'https://v', redirectTo: ['x']}", "vault.redirectTo[0]", "must be like"),
        ("vault: {address: 'https://v', timeout: 0}", "vault.timeout", "greater than 0"),
        ("vault: {address: 'https://v', timeout: soon}", "vault.timeout", "\"30s\", \"5m\""),
        ("vault: {address: 'https://v', namespace: 'a b '}", "vault.namespace", "team-a"),
        ("vault: {address: 'https://v', tls: {clientCertFile: /c}}", "vault.tls.clientKeyFile", "requires its key"),
        (
            "vault: {address: 'https://v', tls: {clientKeyFile: /c}}",
            "vault.tls.clientCertFile",
            "requires its certificate",
        ),
        ("vault: {address: 'https://v', tls: {serverName: 'a b'}}", "vault.tls.serverName", "DNS name"),
        ("vault: {address: 'https://v', tls: {serverName: 127.0.0.0x1}}", "vault.tls.serverName", "DNS name"),
        ("vault: {address: 'https://v', tls: {serverName: 10.0.0.1}}", "vault.tls.serverName", "host of vault.address"),
        (
            "vault: {address: 'https://[::1]', tls: {serverName: '::2'}}",
            "vault.tls.serverName",
            "host of vault.address",
        ),
        // Login.
        ("auth: {}", "auth.role", "KEYFERRY_ROLE"),
        ("auth: {method: ldap}", "auth.method", "must be one of kubernetes, jwt, approle, token"),
        ("auth: {method: jwt}", "auth.jwtFile", "is missing"),
        ("auth: {method: approle}", "auth.roleIdFile", "is missing"),
        ("auth: {method: approle, roleIdFile: /r, removeSecretId: true}", "auth.secretIdFile", "is missing"),
        ("auth: {method: token}", "auth.tokenFile", "VAULT_TOKEN"),
        (
            "auth: {role: a, tokenFile: /t}",
            "auth.tokenFile",
            "requires auth.method `token`, but auth.method is `kubernetes`",
        ),
        ("auth: {method: jwt, jwtFile: /j, audience: a}", "auth.audience", "requires auth.method `kubernetes`"),
        ("auth: {role: a, mount: '../x'}", "auth.mount", "below `auth/`"),
        ("auth: {role: a, token: hvs.x}", "auth.token", "did you mean `tokenFile`?"),
        // Sources.
        ("sources: {db: {path: secret}}", "sources.db.path", "secret/webapp/config"),
        ("sources: {db: {path: secret/../x}}", "sources.db.path", "without \"..\""),
        ("sources: {db: {path: 'secret/x?version=1'}}", "sources.db.path", "set `version` next to `path`"),
        ("sources: {db: {path: 'secret/x?a=b'}}", "sources.db.path", "without \"..\", \"?\""),
        ("sources: {db: {path: 'secret/x#key'}}", "sources.db.path", "key: ..."),
        ("sources: {db: {path: secret/x, mount: sec}}", "sources.db.mount", "must be a prefix of `path`"),
        (
            "sources: {db: {path: secret/x, refresh: 500ms}}",
            "sources.db.refresh",
            "must be at least 1s (found \"500ms\")",
        ),
        ("sources: {db: {path: secret/x, refresh: -5}}", "sources.db.refresh", "at least 0"),
        ("sources: {db: {path: secret/x, refresh: 1.5}}", "sources.db.refresh", "must be a duration like"),
        ("sources: {db: {path: secret/x, maxStale: 5s}}", "sources.db.maxStale", "must be at least `refresh` (1m)"),
        ("sources: {db: {path: secret/x, engine: kv-v1, version: 2}}", "sources.db.version", "requires KV version 2"),
        // Outputs.
        ("outputs: [{source: dbb}]", "outputs[0].source", "did you mean `db`? (found \"dbb\")"),
        (
            "outputs: [{source: db, key: a, format: json, file: f}]",
            "outputs[0].format",
            "cannot be combined with `key`",
        ),
        ("outputs: [{source: db, key: a, prefix: p}]", "outputs[0].prefix", "include the directory in `file`"),
        ("outputs: [{source: db, file: f}]", "outputs[0].file", "requires `key`"),
        ("outputs: [{source: db, format: json}]", "outputs[0].file", "is missing"),
        (
            "outputs: [{source: db, format: ini, file: f}]",
            "outputs[0].format",
            "must be one of dotenv, env-file, json, pkcs12, properties, toml, yaml",
        ),
        (
            "outputs: [{source: db, format: json, file: f, encoding: base64}]",
            "outputs[0].encoding",
            "cannot be combined with `format`",
        ),
        ("outputs: [{source: db, key: a, file: ../b}]", "outputs[0].file", "relative"),
        ("outputs: [{source: db, key: ../a}]", "outputs[0].key", "set `file`"),
        ("outputs: [{source: db, prefix: /a}]", "outputs[0].prefix", "relative"),
        ("outputs: [{source: db, mode: rw}]", "outputs[0].mode", "octal"),
        ("outputs: [{source: db, mode: 440}]", "outputs[0].mode", "octal and in quotes, like \"0440\""),
        ("outputs: [{source: db, mode: '0040'}]", "outputs[0].mode", "readable by its owner"),
        (
            "outputs: [{source: db, key: a}, {source: db, key: b, file: a/b}]",
            "outputs[1]",
            "conflicts with file \"a\" of outputs[0]",
        ),
        (
            "outputs: [{source: db}, {source: db}]",
            "outputs[1]",
            "duplicate source and prefix; outputs[0] writes the same files",
        ),
        ("outputs: [{source: db, prefix: a/b}, {source: db, key: k, file: a}]", "outputs[1]", "directory \"a/b\""),
        ("outputs: [{source: db, key: k, file: a}, {source: db, prefix: a}]", "outputs[1]", "file \"a\""),
        // The rest.
        ("directory: {path: relative}", "directory.path", "must be an absolute path"),
        ("directory: {path: /}", "directory.path", "below the root"),
        ("directory: {path: /a/../b}", "directory.path", "without \"..\""),
        ("directory: {fileMode: '9'}", "directory.fileMode", "octal"),
        ("directory: {maxBytes: 1MB}", "directory.maxBytes", "\"1Mi\""),
        ("mirrors: {Upper: {}}", "mirrors.Upper", "lower-case"),
        ("mirrors: {m: {type: kubernetes.io/service-account-token}}", "mirrors.m.type", "grants an identity"),
        ("mirrors: {m: {type: opaque}}", "mirrors.m.type", "did you mean `Opaque`?"),
        ("mirrors: {m: {type: kubernetes.io/tls, keys: {tls.crt: a}}}", "mirrors.m.keys", "tls.key"),
        ("mirrors: {m: {keys: {'a b': x}}}", "mirrors.m.keys.a b", "letters, digits"),
        ("mirrors: {m: {keys: {a: ../x}}}", "mirrors.m.keys.a", "relative"),
        ("mirrors: {m: {labels: {keyferry.dev/x: a}}}", "mirrors.m.labels.keyferry.dev/x", "reserved for keyferry"),
        (
            "mirrors: {m: {annotations: {keyferry.dev/x: a}}}",
            "mirrors.m.annotations.keyferry.dev/x",
            "reserved for keyferry",
        ),
        ("mirrors: {m: {labels: {a: 'b c'}}}", "mirrors.m.labels.a", "at most 63"),
        ("mirrors: {m: {labels: {'-': x}}}", "mirrors.m.labels.-", "example.com/name"),
        ("mirrors: {m: {owner: {kind: Pod, name: a, apiVersion: v1}}}", "mirrors.m.owner.uid", "is missing"),
        ("mirrors: {m: {owner: deployment}}", "mirrors.m.owner", "must be `serviceAccount` or a mapping"),
        ("mirrors: {m: {owner: [Pod]}}", "mirrors.m.owner", "must be `serviceAccount` or a mapping"),
        (
            "mirrors: {m: {owner: {kind: Pod, name: a, apiVersion: v1, uid: nope}}}",
            "mirrors.m.owner.uid",
            "must be a UID",
        ),
        (
            "mirrors: {m: {owner: {kind: Pod, name: a, apiVersion: v1, uid: 'a2a51b3c-8a2b-4e0c-9a57-6c1fbc3a4f0 '}}}",
            "mirrors.m.owner.uid",
            "must be a UID",
        ),
        ("mirrors: {m: {onDrift: ignore}}", "mirrors.m.onDrift", "must be one of repair, report"),
        ("mirrors: {m: {adopt: perhaps}}", "mirrors.m.adopt", "must be true or false"),
        ("status: {conditions: true}", "status.conditions", "fieldPath: metadata.uid"),
        ("status: {events: true, podName: a}", "status.events", "fieldPath: metadata.uid"),
        ("status: {podName: A}", "status.podName", "lower-case"),
        ("status: {kubeconfig: '/a:/b'}", "status.kubeconfig", "one file"),
        ("listen: 'localhost:8250'", "listen", "an IP address and a port"),
        ("listen: ':99999'", "listen", "an IP address and a port"),
        ("retry: {base: 2m}", "retry.max", "must be at least `retry.base` (2m)"),
        ("retry: {slow: 0}", "retry.slow", "greater than 0"),
        ("drain: 10m", "drain", "must be at most 5m"),
    ];
    let mut wrong = Vec::new();
    for (section, path, part) in table {
        let error = rejected(&[], Some(&with(section)));
        let text = error.to_string();
        if error.diagnostics.len() != 1
            || error.diagnostics[0].path != *path
            || !text.contains(part)
            || text.contains('\n')
        {
            wrong.push(format!("{section}\n  expected: {path}: ... {part}\n  found:    {text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn namespace_that_cannot_be_sent_is_rejected_with_its_key() {
    for character in (0..=0xff_u8).map(char::from) {
        let namespace = format!("a{character}b");
        let escaped = format!(r#""a\x{:02x}b""#, u32::from(character));
        for (section, path) in [
            (format!("vault: {{address: 'https://v', namespace: {escaped}}}"), "vault.namespace"),
            (format!("auth: {{role: r, namespace: {escaped}}}"), "auth.namespace"),
        ] {
            if matches!(character, ' '..='~') {
                assert!(load(&environment(&[]), Some(&with(&section))).is_ok(), "{section}");
                assert!(http::HeaderValue::from_str(&namespace).is_ok(), "{namespace:?}");
            } else {
                let error = rejected(&[], Some(&with(&section))).to_string();
                assert!(error.starts_with(&format!("{path}: must be a namespace")), "{error}");
            }
        }
    }
    let error = rejected(&[("VAULT_NAMESPACE", "a\tb")], Some(MINIMAL)).to_string();
    assert!(error.starts_with("VAULT_NAMESPACE: must be a namespace"), "{error}");
}

#[test]
fn mirrored_file_that_no_output_writes_is_reported() {
    let document = "
vault: {address: 'https://vault:8200'}
auth: {role: webapp}
sources: {db: {path: secret/db}}
outputs: [{source: db, key: a, file: password}, {source: db, prefix: all}]
mirrors: {m: {keys: {x: pasword, y: all/z, z: password, q: all}}}
";
    let error = rejected(&[], Some(document));
    let paths: Vec<_> = error.diagnostics.iter().map(|diagnostic| diagnostic.path.as_str()).collect();
    assert_eq!(paths, ["mirrors.m.keys.q", "mirrors.m.keys.x"]);
    assert!(error.to_string().contains("did you mean `password`?"), "{error}");
}

#[test]
fn errors_in_variables_name_the_variable() {
    let good = [("VAULT_ADDR", "https://v"), ("KEYFERRY_ROLE", "r"), ("KEYFERRY_SECRETS", "secret/a")];
    let table: &[(&str, &str, &str)] = &[
        ("VAULT_ADDR", "v:8200", "must be like"),
        ("BAO_ADDR", "unix:///x", "must be like"),
        ("KEYFERRY_SECRETS", "secret", "must be a mount and a path"),
        ("KEYFERRY_SECRETS", "a=secret/a,a=secret/b", "duplicate source name; use `name=path`"),
        ("KEYFERRY_SECRETS", ",", "is missing"),
        ("KEYFERRY_SECRETS", "secret/a secret/b", "separate paths with a comma"),
        ("KEYFERRY_SECRETS", "secret/a;secret/b", "separate paths with a comma"),
        ("KEYFERRY_SECRETS", "secret/a\nsecret/b", "separate paths with a comma"),
        ("KEYFERRY_SECRETS", "secret/a=b/c", "a name without a slash"),
        ("KEYFERRY_SECRETS", "secret/a?version=1", "version: 1"),
        ("KEYFERRY_REFRESH", "fast", "must be a duration like"),
        ("KEYFERRY_ALLOW_DISK", "maybe", "true or false"),
        ("KEYFERRY_AUTH_METHOD", "ldap", "kubernetes, jwt, approle, token"),
        ("KEYFERRY_MIRROR", "Upper", "lower-case"),
        ("KEYFERRY_LISTEN", "8250", "an IP address and a port"),
        ("KEYFERRY_DIRECTORY", "x", "must be an absolute path"),
        ("KEYFERRY_ROLES", "x", "did you mean `KEYFERRY_ROLE`?"),
        ("VAULT_CLIENT_TIMEOUT", "x", "must be a duration like"),
        ("VAULT_SKIP_VERIFY", "true", "cannot be disabled"),
        ("BAO_SKIP_VERIFY", "1", "cannot be disabled"),
        ("VAULT_SKIP_VERIFY", "maybe", "must be false or unset"),
        ("VAULT_CAPATH", "/etc/ssl", "VAULT_CACERT"),
        ("POD_NAME", "A", "lower-case"),
    ];
    for (name, text, part) in table {
        let mut variables: Vec<_> = good.iter().copied().filter(|(other, _)| other != name).collect();
        variables.push((name, text));
        let error = rejected(&variables, None);
        assert_eq!(error.diagnostics.len(), 1, "{error}");
        let line = error.to_string();
        assert!(line.starts_with(*name), "{line}");
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn all_errors_are_reported_at_once() {
    let document = "
vault: {address: 'https://vault/v1', timeout: soon, foo: 1}
auth: {method: kubernetes, roleIdFile: /x}
sources: {db: {path: secret, engine: kv3}, other: 5}
outputs: [{source: dbx}, {source: other, mode: 7}]
directory: {path: rel}
mirrors: {m: {type: nope, labels: {a: ' '}}}
listen: here
";
    let error = rejected(&[("KEYFERRY_RFRESH", "1s"), ("VAULT_SKIP_VERIFY", "t")], Some(document));
    let mut paths: Vec<_> = error.diagnostics.iter().map(|diagnostic| diagnostic.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "KEYFERRY_RFRESH",
            "VAULT_SKIP_VERIFY",
            "auth.role",
            "auth.roleIdFile",
            "directory.path",
            "listen",
            "mirrors.m.labels.a",
            "mirrors.m.type",
            "outputs[0].source",
            "outputs[1].mode",
            "sources.db.engine",
            "sources.db.path",
            "sources.other",
            "vault.address",
            "vault.foo",
            "vault.timeout",
        ],
        "{error}"
    );
    assert_eq!(error.to_string().lines().count(), error.diagnostics.len());
}

/// A value for one place in the configuration: mostly of the right type, so that nested places are reached, else any
/// value.
fn value_for(schema: &Value, depth: u32) -> BoxedStrategy<Value> {
    let anything = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "db",
            "a/b",
            "0440",
            "30s",
            "1Mi",
            "json",
            "base64",
            "https://v",
            "/a",
            "jwt",
            "Losungwort",
            ":1"
        ])
        .prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!([1])),
        Just(json!({"x": 1})),
    ];
    let right = if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let fields: Vec<_> = properties
            .iter()
            .map(|(name, property)| (Just(name.clone()), prop::option::weighted(0.5, value_for(property, depth + 1))))
            .collect();
        fields
            .prop_map(|fields| fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect::<Value>())
            .boxed()
    } else if let Some(items) = schema.get("items") {
        prop::collection::vec(value_for(items, depth + 1), 0..3).prop_map(Value::from).boxed()
    } else if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        let names = prop::sample::select(vec!["db", "a/b", "x", "tls.crt"]).prop_map(String::from);
        prop::collection::btree_map(names, value_for(values, depth + 1), 0..3)
            .prop_map(|map| map.into_iter().collect::<Value>())
            .boxed()
    } else {
        return anything.boxed();
    };
    // The root is always a mapping; another test covers other roots.
    prop_oneof![u32::from(depth > 0) => anything, 9 => right].boxed()
}

proptest! {
    #[test]
    fn configuration_that_passes_the_schema_deserializes(document in value_for(&schema(), 0)) {
        let text = document.to_string();
        if let Err(error) = load(&environment(&[]), Some(&text)) {
            for diagnostic in &error.diagnostics {
                prop_assert!(diagnostic.path != "configuration", "{text}\n{error}");
            }
        }
    }

    #[test]
    fn arbitrary_input_does_not_panic(text in "\\PC{0,80}", name in "[A-Z_]{1,8}", value in "\\PC{0,20}") {
        let suffixed = [format!("KEYFERRY_{name}"), format!("VAULT_{name}")];
        let mut variables: Vec<_> = suffixed.iter().map(|name| (name.as_str(), value.as_str())).collect();
        let known = ["VAULT_ADDR", "KEYFERRY_ROLE", "KEYFERRY_SECRETS", "KEYFERRY_REFRESH", "KEYFERRY_LISTEN", "POD_UID"];
        variables.extend(known.map(|name| (name, value.as_str())));
        let _ = load(&environment(&variables), None);
        let _ = load(&environment(&[]), Some(&text));
    }
}
