//! The settings that a valid configuration yields.

use std::path::PathBuf;
use std::time::Duration;

use super::super::{DocumentLocation, checkpoint_file, defaults, document_location, load, proxy_warning};
use super::{MINIMAL, environment, loaded};
use crate::model::{
    AuthMethod, FileFormat, FilePath, KeySelection, KvEngine, MirrorOwner, Mode, OnDrift, OutputKind, SecretType,
    SourceName, WhenMissing,
};

const THREE: [(&str, &str); 3] =
    [("VAULT_ADDR", "https://vault:8200/"), ("KEYFERRY_ROLE", "webapp"), ("KEYFERRY_SECRETS", "secret/webapp/config")];

#[test]
fn three_variables_are_enough() {
    let settings = loaded(&THREE, None);
    assert_eq!(settings.server.address, "https://vault:8200");
    assert_eq!(settings.auth.mount, "kubernetes");
    let AuthMethod::Kubernetes { role, jwt_file, audience: None } = &settings.auth.method else { panic!("kubernetes") };
    assert_eq!((role.as_str(), jwt_file), ("webapp", &PathBuf::from(defaults::KUBERNETES_JWT_FILE)));
    let (name, source) = settings.sources.first_key_value().expect("a source");
    assert_eq!((name.as_str(), source.path.as_str()), ("secret/webapp/config", "secret/webapp/config"));
    assert!(source.required && source.refresh == defaults::REFRESH && source.max_stale == defaults::MAX_STALE);
    assert_eq!(settings.outputs.len(), 1);
    assert_eq!(
        settings.outputs[0].kind,
        OutputKind::EachKey { prefix: None, base64: false, keys: KeySelection::default() }
    );
    assert_eq!(settings.directory.path, PathBuf::from("/etc/sensitive"));
    assert!(settings.revoke_on_exit && settings.listener.is_none() && settings.mirrors.is_empty());
    assert!(!settings.status.conditions && !settings.status.events);
}

#[test]
fn mirror_with_conditions_needs_three_more_variables() {
    let variables =
        [&THREE[..], &[("KEYFERRY_MIRROR", "top-secret-ks"), ("POD_NAME", "web-0"), ("POD_UID", "u-1")]].concat();
    let settings = loaded(&variables, None);
    let (name, mirror) = settings.mirrors.first_key_value().expect("a mirror");
    assert_eq!((name.as_str(), &mirror.secret_type), ("top-secret-ks", &SecretType::Opaque));
    assert!(mirror.keys.is_empty() && !mirror.allow_leased);
    assert!(settings.status.conditions && settings.status.events);
}

#[test]
fn list_of_secrets_accepts_names() {
    let settings = loaded(&[THREE[0], THREE[1], ("KEYFERRY_SECRETS", " secret/a, db=/secret/b/ ,")], None);
    let names: Vec<_> = settings.sources.iter().map(|(name, source)| (name.as_str(), source.path.as_str())).collect();
    assert_eq!(names, [("db", "secret/b"), ("secret/a", "secret/a")]);
}

#[test]
fn configuration_file_overrides_variables_key_by_key() {
    let variables = [
        ("VAULT_ADDR", "https://other:8200"),
        ("VAULT_NAMESPACE", "team-a/"),
        ("KEYFERRY_ROLE", "other"),
        ("KEYFERRY_SECRETS", "secret/other"),
        ("KEYFERRY_REFRESH", "2h"),
        ("KEYFERRY_LISTEN", ":8250"),
        ("KEYFERRY_ALLOW_DISK", "1"),
        ("KEYFERRY_AUTH_MOUNT", "auth/k8s-prod"),
    ];
    let settings = loaded(&variables, Some(MINIMAL));
    assert_eq!(settings.server.address, "https://vault:8200");
    assert_eq!(settings.server.namespace.as_deref(), Some("team-a"));
    assert_eq!(settings.auth.mount, "k8s-prod");
    assert_eq!(settings.sources.len(), 1);
    let source = &settings.sources[&SourceName::new("db").expect("name")];
    assert_eq!((source.refresh, source.max_stale), (Duration::from_hours(2), Duration::from_hours(6)));
    assert_eq!(settings.listener.map(|listener| listener.address.to_string()).as_deref(), Some("[::]:8250"));
    assert!(settings.directory.allow_disk);
}

#[test]
fn openbao_variables_override_vault_variables() {
    let variables = [
        THREE[0],
        THREE[1],
        THREE[2],
        ("BAO_ADDR", "http://bao:8200"),
        ("BAO_SKIP_VERIFY", "false"),
        ("VAULT_SKIP_VERIFY", "true"),
        ("VAULT_CLIENT_TIMEOUT", "7"),
        ("VAULT_CACERT", "/ca.pem"),
        ("VAULT_CLIENT_CERT", "/c.pem"),
        ("VAULT_CLIENT_KEY", "/k.pem"),
        ("VAULT_TLS_SERVER_NAME", "vault.internal"),
    ];
    let server = loaded(&variables, None).server;
    assert_eq!((server.address.as_str(), server.timeout), ("http://bao:8200", Duration::from_secs(7)));
    assert_eq!(server.tls.ca_file, Some("/ca.pem".into()));
    assert_eq!(server.tls.client, Some(("/c.pem".into(), "/k.pem".into())));
    assert_eq!(server.tls.server_name.as_deref(), Some("vault.internal"));
}

#[test]
fn server_name_equal_to_the_host_is_ignored() {
    for (address, name) in [("https://10.0.0.1:8200", "10.0.0.1"), ("https://[::1]:8200", "::1")] {
        let variables = [("VAULT_ADDR", address), THREE[1], THREE[2], ("VAULT_TLS_SERVER_NAME", name)];
        assert_eq!(loaded(&variables, None).server.tls.server_name, None, "{address}");
    }
}

#[test]
fn supplied_token_is_used_and_not_revoked() {
    let settings = loaded(&[THREE[0], THREE[2], ("VAULT_TOKEN", "hvs.x\n")], None);
    assert!(matches!(&settings.auth.method, AuthMethod::Token { token } if token.expose() == b"hvs.x"));
    assert!(!settings.revoke_on_exit);
    let with_role = loaded(&[THREE[0], THREE[1], THREE[2], ("VAULT_TOKEN", "hvs.x")], None);
    assert!(matches!(with_role.auth.method, AuthMethod::Kubernetes { .. }), "a role selects a login");
}

#[test]
fn full_configuration_is_parsed() {
    let document = r#"
vault:
  address: https://vault:8200
  redirectTo: ["https://vault-0:8200"]
  timeout: 5
  tls: {caFile: /ca.pem}
auth: {method: approle, mount: apps, roleIdFile: /r, secretIdFile: /s, wrappedCreationPath: auth/apps/role/x/secret-id, removeSecretId: true}
sources:
  db: {path: a/b/creds/webapp, mount: a/b, engine: other, refresh: 1h30m, maxStale: 2h, required: false}
  app: {path: secret/app, engine: kv-v2, version: 3}
outputs:
- source: db
  prefix: db
- {source: app, key: password, file: app/pw, mode: 0400, encoding: base64}
- {source: app, key: name}
- {source: app, format: json, file: config.json, mode: "0440"}
directory: {path: /run/keyferry/files, fileMode: "0444", allowDisk: true, maxBytes: 1Mi}
mirrors:
  top-secret-ks:
    type: kubernetes.io/basic-auth
    keys: {password: app/pw, username: db/username}
    labels: {team: a}
    annotations: {example.com/x: "any @ text"}
    owner: {apiVersion: apps/v1, kind: Deployment, name: webapp, uid: 0F8FAD5B-d9cb-469f-a165-70867728950e}
    allowLeased: true
    onDrift: report
    adopt: true
  collected: {owner: serviceAccount, keys: {name: name}}
  short: {keys: {name: name}}
status: {conditions: true, events: false, podName: web-0, podUid: u-1, podNamespace: ns, kubeconfig: /k}
listen: "[::1]:8250"
retry: {base: 100ms, max: 30s, slow: 2m}
concurrency: 2
revokeOnExit: false
drain: 3s
"#;
    let settings = loaded(&[], Some(document));
    assert_eq!(settings.server.redirect_to, ["https://vault-0:8200"]);
    assert!(matches!(settings.auth.method, AuthMethod::AppRole { remove_secret_id: true, .. }));
    let db = &settings.sources[&SourceName::new("db").expect("name")];
    assert_eq!((db.engine, db.refresh, db.required), (KvEngine::Other, Duration::from_mins(90), false));
    let path = |text| FilePath::new(text).expect(text);
    let key = |key: &str, file, base64| {
        let (field, missing) = (None, WhenMissing::Fail);
        OutputKind::Key { key: key.into(), path: path(file), base64, field, missing }
    };
    let kinds: Vec<_> = settings.outputs.iter().map(|output| output.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            OutputKind::EachKey { prefix: Some(path("db")), base64: false, keys: KeySelection::default() },
            key("password", "app/pw", true),
            key("name", "name", false),
            OutputKind::Whole { path: path("config.json"), format: FileFormat::Json, keys: KeySelection::default() },
        ]
    );
    assert_eq!(settings.outputs[1].mode.map(Mode::bits), Some(0o400), "an unquoted 0400 is octal");
    assert_eq!(settings.directory.max_bytes, Some(1 << 20));
    let mirrors: Vec<_> = settings.mirrors.iter().map(|(name, mirror)| (name.as_str(), mirror)).collect();
    let [(_, collected), (_, short), (_, full)] = mirrors[..] else { panic!("three mirrors") };
    assert_eq!(collected.owner, Some(MirrorOwner::ServiceAccount));
    assert_eq!((short.owner.as_ref(), short.on_drift, short.adopt), (None, OnDrift::Repair, false));
    assert!(matches!(&full.owner, Some(MirrorOwner::Object { kind, .. }) if kind == "Deployment"));
    assert_eq!((full.on_drift, full.adopt), (OnDrift::Report, true));
    assert!(settings.status.conditions && !settings.status.events);
    assert_eq!(settings.retry.base, Duration::from_millis(100));
    assert_eq!((settings.concurrency, settings.revoke_on_exit, settings.drain), (2, false, Duration::from_secs(3)));
}

#[test]
fn empty_file_or_key_counts_as_unset() {
    for document in ["", "# only a comment", "---\n", "vault:\nmirrors:\noutputs: []\nlisten: ~"] {
        assert!(load(&environment(&THREE), Some(document)).is_ok(), "{document:?}");
    }
}

#[test]
fn command_line_overrides_path_and_path_overrides_inline_text() {
    let both = environment(&[("KEYFERRY_CONFIG", "/c.yaml"), ("KEYFERRY_CONFIG_INLINE", "listen: ':1'")]);
    assert_eq!(document_location(&both, Some("/cli.yaml".into())), Some(DocumentLocation::File("/cli.yaml".into())));
    assert_eq!(document_location(&both, None), Some(DocumentLocation::File("/c.yaml".into())));
    let inline = environment(&[("KEYFERRY_CONFIG", ""), ("KEYFERRY_CONFIG_INLINE", "listen: ':1'")]);
    assert_eq!(document_location(&inline, None), Some(DocumentLocation::Inline("listen: ':1'".into())));
    assert_eq!(document_location(&environment(&[]), None), None);
}

#[test]
fn unrelated_variables_are_ignored() {
    let others = [("KEYFERRY_SERVICE_HOST", "10.0.0.1"), ("KEYFERRY_PORT", "tcp://10.0.0.1:80"), ("PATH", "/bin")];
    loaded(&[&THREE[..], &others].concat(), None);
}

#[test]
fn proxy_variables_are_ignored_with_a_warning() {
    let proxies = [("https_proxy", "http://proxy:3128"), ("VAULT_PROXY_ADDR", "http://proxy:3128"), ("HTTP_PROXY", "")];
    let variables = [&THREE[..], &proxies].concat();
    let warning = proxy_warning(&environment(&variables));
    let expected = "VAULT_PROXY_ADDR, https_proxy are ignored; keyferry connects to Vault directly";
    assert_eq!(warning.as_deref(), Some(expected));
    let one = proxy_warning(&environment(&[("HTTPS_PROXY", "proxy")]));
    assert_eq!(one.as_deref(), Some("HTTPS_PROXY is ignored; keyferry connects to Vault directly"));
    assert_eq!(proxy_warning(&environment(&THREE)), None);
    assert!(loaded(&variables, None) == loaded(&THREE, None));
}

#[test]
fn checkpoint_file_must_be_outside_the_output_directory() {
    let settings = loaded(&[("KEYFERRY_DIRECTORY", "/run/keyferry/sensitive")], Some(MINIMAL));
    let found = |variable: &str, line: Option<&str>| {
        checkpoint_file(&environment(&[("KEYFERRY_CHECKPOINT", variable)]), line.map(Into::into), &settings)
    };
    assert_eq!(found("", None), Ok(None));
    assert_eq!(found("/run/keyferry/checkpoint", None), Ok(Some("/run/keyferry/checkpoint".into())));
    assert_eq!(found("/a", Some("/run/keyferry/sensitive2")), Ok(Some("/run/keyferry/sensitive2".into())));
    for wrong in
        ["/run/keyferry/sensitive/x", "/run/keyferry/sensitive", "checkpoint", "/run/keyferry/a/../sensitive/x", "/"]
    {
        assert!(found(wrong, None).is_err_and(|why| why.contains(wrong)), "{wrong}");
    }
}
