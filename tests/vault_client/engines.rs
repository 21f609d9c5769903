//! The pages in `docs/engines` about engines that need a cloud or another server: their configurations, unchanged, with a
//! scripted Vault, which fails on extra requests: each source costs one.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::TOKEN;
use super::markdown::blocks;
use super::stub::{Exchange, Stub, get, post};

/// Runs `keyferry once` with the first configuration of a page.
fn publish(page: &str, volume: &Path, requests: impl IntoIterator<Item = Exchange>) {
    let login = post("/v1/auth/jwt/login").answer(
        200,
        json!({"auth": {"client_token": TOKEN, "accessor": "a", "lease_duration": 3600, "renewable": true}}),
    );
    let stub = Stub::start_in_any_order(std::iter::once(login).chain(requests));
    let (_, configuration) = blocks(page, "yaml").swap_remove(0);
    let jwt = volume.join("jwt");
    std::fs::write(&jwt, "head.body.signature").expect("written");
    let document = format!("{configuration}\nauth: {{method: jwt, role: webapp, jwtFile: {}}}\n", jwt.display());
    let output = Command::new(env!("CARGO_BIN_EXE_keyferry"))
        .arg("once")
        .env_clear()
        .env("VAULT_ADDR", stub.address())
        .env("KEYFERRY_CONFIG_INLINE", document)
        .env("KEYFERRY_DIRECTORY", volume.join("sensitive"))
        .env("KEYFERRY_ALLOW_DISK", "true")
        .stdin(Stdio::null())
        .output()
        .expect("the agent starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The response of an engine with leases.
fn leased(path: &str, renewable: bool, data: &Value) -> Value {
    json!({
        "lease_id": format!("{path}/8Y9hlQ2wPC6RUnZcjrvOMEHq"), "lease_duration": 3600, "renewable": renewable,
        "mount_type": path.split('/').next(), "data": data,
    })
}

fn volume() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

fn assert_files(volume: &Path, expected: &[(&str, &str)]) {
    for (file, content) in expected {
        let found = std::fs::read_to_string(volume.join("sensitive").join(file));
        assert_eq!(found.ok().as_deref(), Some(*content), "{file}");
    }
}

#[test]
fn cloud_page_works() {
    let volume = volume();
    let sts = json!({
        "access_key": "ASIA", "secret_key": "aws-secret", "security_token": "aws-session", "session_token": "aws-session",
        "arn": "arn:aws:sts::123456789012:assumed-role/webapp/vault", "ttl": 3600,
    });
    let azure = json!({"client_id": "azure-id", "client_secret": "azure-secret"});
    // {"type":"service_account"}
    let key = json!({
        "private_key_data": "eyJ0eXBlIjoic2VydmljZV9hY2NvdW50In0=", "key_algorithm": "KEY_ALG_RSA_2048",
        "key_type": "TYPE_GOOGLE_CREDENTIALS_FILE",
    });
    let token = json!({"token": "ya29.gcp", "token_ttl": 3599, "expires_at_seconds": 1_893_456_000});
    let script = [
        get("/v1/aws/creds/webapp?ttl=1h").token(TOKEN).answer(200, leased("aws/creds/webapp", false, &sts)),
        get("/v1/azure/creds/webapp").token(TOKEN).answer(200, leased("azure/creds/webapp", true, &azure)),
        get("/v1/gcp/roleset/backup/key").token(TOKEN).answer(200, leased("gcp/roleset/backup/key", true, &key)),
        get("/v1/gcp/roleset/webapp/token")
            .token(TOKEN)
            .answer(200, json!({"lease_id": "", "lease_duration": 0, "mount_type": "gcp", "data": token})),
    ];
    publish(include_str!("../../docs/engines/cloud.md"), volume.path(), script);
    let expected = [
        ("aws/access_key", "ASIA"),
        ("aws/secret_key", "aws-secret"),
        ("aws/session_token", "aws-session"),
        ("azure/client_id", "azure-id"),
        ("azure/client_secret", "azure-secret"),
        ("gcp/credentials.json", r#"{"type":"service_account"}"#),
        ("gcp/token", "ya29.gcp"),
    ];
    assert_files(volume.path(), &expected);
}

#[test]
fn nomad_and_consul_page_works() {
    let volume = volume();
    let consul = json!({
        "token": "consul-token", "accessor": "c", "consul_namespace": "", "local": false, "partition": "",
    });
    let nomad = json!({"accessor_id": "n", "secret_id": "nomad-token"});
    let rabbitmq = json!({"username": "jwt-webapp", "password": "rabbitmq-password"});
    let script = [
        get("/v1/consul/creds/webapp").token(TOKEN).answer(200, leased("consul/creds/webapp", true, &consul)),
        get("/v1/nomad/creds/webapp").token(TOKEN).answer(200, leased("nomad/creds/webapp", true, &nomad)),
        get("/v1/rabbitmq/creds/webapp").token(TOKEN).answer(200, leased("rabbitmq/creds/webapp", true, &rabbitmq)),
    ];
    publish(include_str!("../../docs/engines/nomad-and-consul.md"), volume.path(), script);
    let expected = [
        ("consul-token", "consul-token"),
        ("nomad-token", "nomad-token"),
        ("rabbitmq/username", "jwt-webapp"),
        ("rabbitmq/password", "rabbitmq-password"),
    ];
    assert_files(volume.path(), &expected);
}
