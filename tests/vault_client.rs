//! The Vault client against a scripted server on loopback: requests, their number, and the meaning of each response.
#![allow(clippy::disallowed_methods, reason = "tests write files, start threads and read the clock")]

#[path = "vault_client/certificate.rs"]
mod certificate;
#[path = "vault_client/checkpoint.rs"]
mod checkpoint;
#[path = "vault_client/child_token.rs"]
mod child_token;
#[path = "vault_client/connection.rs"]
mod connection;
#[path = "vault_client/engines.rs"]
mod engines;
#[path = "vault_client/list.rs"]
mod list;
#[path = "vault_client/login.rs"]
mod login;
#[path = "support/blocks.rs"]
mod markdown;
#[path = "vault_client/previous.rs"]
mod previous;
#[path = "vault_client/reading.rs"]
mod reading;
#[path = "vault_client/redirect.rs"]
mod redirect;
#[path = "vault_client/request.rs"]
mod request;
#[path = "vault_client/secret_id.rs"]
mod secret_id;
#[path = "vault_client/stub.rs"]
mod stub;
#[path = "vault_client/tls.rs"]
mod tls;
#[path = "vault_client/tokens.rs"]
mod tokens;
#[path = "vault_client/validity.rs"]
mod validity;
#[path = "vault_client/wrapped.rs"]
mod wrapped;

use std::time::Duration;

use keyferry::model::{KvEngine, Parameters, Reading, RequestMethod, Source, Tls, VaultServer, VaultToken};
use keyferry::vault::{OneTimeSecrets, Vault};
use serde_json::{Value, json};

const TOKEN: &str = "hvs.planted-token";

fn token() -> VaultToken {
    VaultToken::new(TOKEN)
}

fn server(address: &str) -> VaultServer {
    VaultServer {
        address: address.to_owned(),
        redirect_to: Vec::new(),
        namespace: None,
        tls: Tls::default(),
        timeout: Duration::from_secs(5),
    }
}

fn vault(address: &str) -> Vault {
    vault_at(&server(address))
}

fn vault_at(server: &VaultServer) -> Vault {
    // As main does at startup. Later calls find the provider installed.
    rustls::crypto::ring::default_provider().install_default().ok();
    Vault::new(server, OneTimeSecrets::default()).expect("a good address")
}

fn source(path: &str) -> Source {
    Source {
        path: path.to_owned(),
        list: None,
        wrapping_token_file: None,
        mount: None,
        engine: KvEngine::Detect,
        version: None,
        previous: None,
        method: RequestMethod::default(),
        parameters: Parameters::new(),
        certificate: None,
        refresh: Duration::from_mins(1),
        max_stale: Duration::from_hours(1),
        overlap: None,
        watch_lease: None,
        required: true,
    }
}

/// A response of KV version 2.
fn kv2(data: &Value, version: u64) -> Value {
    let metadata = json!({
        "version": version, "created_time": "2026-01-02T03:04:05.678901234Z", "deletion_time": "", "destroyed": false,
        "custom_metadata": null,
    });
    json!({"lease_id": "", "lease_duration": 0, "renewable": false, "data": {"data": data, "metadata": metadata}})
}

/// A 404 of KV version 2 for a deleted or destroyed version.
fn deleted(deletion_time: &str, destroyed: bool) -> Value {
    json!({"data": {"data": null, "metadata": {
        "version": 3, "created_time": "2026-01-02T03:04:05Z", "deletion_time": deletion_time, "destroyed": destroyed,
        "custom_metadata": null,
    }}})
}

/// A response of an engine without versions.
fn plain(data: &Value, lease_id: &str, lease_duration: u64) -> Value {
    json!({"lease_id": lease_id, "lease_duration": lease_duration, "renewable": !lease_id.is_empty(), "data": data})
}

/// A response about a mount.
fn mount(path: &str, kind: &str, version: Option<&str>) -> Value {
    let options = version.map(|version| json!({"version": version}));
    json!({"data": {"path": path, "type": kind, "options": options}})
}

fn errors(text: &str) -> Value {
    json!({"errors": [text]})
}

fn no_secret() -> Value {
    json!({"errors": []})
}

fn text(reading: &Reading, key: &str) -> String {
    let value = reading.data.get(key).expect("the key");
    value.bytes().expose_str().expect("text").to_owned()
}

#[test]
fn client_can_be_shared_between_tasks() {
    fn shared<T: Send + Sync>(_: &T) {}
    fn sent<T: Send>(_: &T) {}
    let vault = vault("http://127.0.0.1:1");
    let (token, source) = (token(), source("secret/a"));
    shared(&vault);
    sent(&vault.read(&token, &source));
}
