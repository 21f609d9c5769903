//! Sources with a method and parameters, at engines of a real Vault.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use reqwest::Method;
use serde_json::{Value, json};

use super::certificates::Pki;
use crate::database::Database;
use crate::leased::{data_path, put_secret};
use crate::setup::{SOON, Setup};

/// Enables an engine for the case. Returns its mount path.
async fn mount(setup: &Setup<'_>, engine: &str) -> Result<String> {
    let mount = format!("{engine}-{}", setup.case.kv_mount);
    setup.case.admin.put(&format!("sys/mounts/{mount}"), json!({"type": engine})).await?;
    Ok(mount)
}

/// A PKI engine with a root certificate and the role `web`.
async fn pki(setup: &Setup<'_>) -> Result<String> {
    let mount = mount(setup, "pki").await?;
    let root = json!({"common_name": "test root", "ttl": "48h", "key_type": "ec"});
    setup.case.admin.put(&format!("{mount}/root/generate/internal"), root).await?;
    let role =
        json!({"allowed_domains": ["example.com"], "allow_subdomains": true, "max_ttl": "24h", "key_type": "ec"});
    setup.case.admin.put(&format!("{mount}/roles/web"), role).await?;
    Ok(mount)
}

/// Number of certificates that a PKI engine has issued, including its root.
async fn issued(setup: &Setup<'_>, mount: &str) -> Result<usize> {
    let list = Method::from_bytes(b"LIST")?;
    let (_, answer) = setup.case.admin.request(list, &format!("{mount}/certs"), Value::Null).await?;
    Ok(answer["data"]["keys"].as_array().map_or(0, Vec::len))
}

#[tokio::test]
async fn certificate_is_issued_once_for_the_pod() -> Result<()> {
    Setup::shared("issue", async |setup| {
        let mount = pki(setup).await?;
        put_secret(setup, "often", json!({"often": "version-1"})).await?;
        let rules = format!(
            "path \"{mount}/issue/web\" {{ capabilities = [\"update\"] }}\n\
             path \"{}\" {{ capabilities = [\"read\"] }}\n",
            data_path(setup, "often")
        );
        setup.case.admin.policy(&setup.case.role, &rules).await?;
        let document = format!(
            "sources:\n  certificate:\n    path: {mount}/issue/web\n    engine: other\n    method: write\n    refresh: 1s\n    \
             parameters: {{common_name: \"${{POD_NAME}}.example.com\", ttl: 12h}}\n  \
             often: {{path: {}/often, refresh: 1s}}\n",
            setup.case.kv_mount
        );
        let (mut agent, listen) = setup.agent_with_listener(&document, &[("POD_NAME", "web-0")])?;
        setup.file_is(&mut agent, "often", "version-1").await?;
        let metrics = reqwest::get(format!("http://{listen}/metrics")).await?.text().await?;
        assert!(metrics.contains("keyferry_vault_requests_total 3"), "one login, one request per source: {metrics}");

        let key = setup.case.read("private_key").context("a private key")?;
        setup.case.leaks.plant_data(&json!({"private_key": key}));
        let pem = setup.case.read("certificate").context("a certificate")?;
        let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let certificate = base64::engine::general_purpose::STANDARD.decode(lines)?;
        let name: &[u8] = b"web-0.example.com";
        assert!(certificate.windows(name.len()).any(|part| part == name), "the certificate has the name of the pod");

        // The refresh interval of a certificate is its lifetime, not `refresh`.
        for version in 2..=4 {
            let value = format!("version-{version}");
            put_secret(setup, "often", json!({"often": value})).await?;
            setup.file_is(&mut agent, "often", &value).await?;
        }
        assert_eq!(issued(setup, &mount).await?, 2, "the root and one certificate");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn transit_decrypts_a_parameter() -> Result<()> {
    Setup::shared("decrypt", async |setup| {
        let mount = mount(setup, "transit").await?;
        setup.case.admin.put(&format!("{mount}/keys/app"), json!({})).await?;
        let plaintext = base64::engine::general_purpose::STANDARD.encode("entschluesselt");
        setup.case.leaks.plant_data(&json!({"plaintext": "entschluesselt"}));
        let (_, answer) = setup
            .case
            .admin
            .request(Method::POST, &format!("{mount}/encrypt/app"), json!({"plaintext": plaintext}))
            .await?;
        let ciphertext = answer["data"]["ciphertext"].as_str().context("a ciphertext")?;
        let document = format!(
            "sources: {{value: {{path: {mount}/decrypt/app, method: write, parameters: {{ciphertext: \"{ciphertext}\"}}}}}}\n\
             outputs: [{{source: value, key: plaintext, file: value, encoding: base64}}]\n"
        );

        // Without the policy.
        let mut denied = setup.agent_with(&["once", "--timeout", "10s"], &document)?;
        assert_eq!(denied.wait(SOON).await?.code(), Some(77), "{}", denied.report());
        let rule = format!("path \\\"{mount}/decrypt/app\\\" {{ capabilities = [\\\"update\\\"] }}");
        assert!(denied.log().iter().any(|line| line.contains(&rule)), "{}", denied.report());

        let rules = format!("path \"{mount}/decrypt/app\" {{ capabilities = [\"update\"] }}\n");
        setup.case.admin.policy(&setup.case.role, &rules).await?;
        let mut agent = setup.agent_with(&["once", "--timeout", "10s"], &document)?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(0), "{}", agent.report());
        assert_eq!(setup.case.read("value").as_deref(), Some("entschluesselt"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn start_sends_one_login_and_one_request_per_source() -> Result<()> {
    let Some(programs) = Database::programs("start_sends_one_login_and_one_request_per_source") else {
        return Ok(());
    };
    Setup::own("start", async |setup| {
        let pki = Pki::new(setup, "200h", json!({})).await?;
        let database = Database::start_at(setup, &programs, "database").await?;
        let credentials = database.dynamic_role(setup, "app", 3600, 7200).await?;
        put_secret(setup, "config", json!({"greeting": "hello"})).await?;
        let rules = format!(
            "path \"{}\" {{ capabilities = [\"read\"] }}\npath \"{credentials}\" {{ capabilities = [\"read\"] }}\n\
             path \"{}/issue/web\" {{ capabilities = [\"update\"] }}\n",
            data_path(setup, "config"),
            pki.mount
        );
        setup.case.admin.policy(&setup.case.role, &rules).await?;
        let document = format!(
            "sources:\n  app: {{path: {}/config}}\n  db: {{path: {credentials}}}\n  tls: {}\n",
            setup.case.kv_mount,
            pki.source("issue", "ttl: 24h")
        );
        let (mut agent, listen) = setup.agent_with_listener(&document, &[])?;
        setup.file_is(&mut agent, "greeting", "hello").await?;
        for (file, key) in [("password", "password"), ("tls.key", "key")] {
            let secret = setup.case.read(file).with_context(|| format!("{file} in the first set"))?;
            setup.case.leaks.plant_data(&json!({key: secret}));
        }
        let metrics = reqwest::get(format!("http://{listen}/metrics")).await?.text().await?;
        assert!(metrics.contains("keyferry_vault_requests_total 4\n"), "{metrics}");
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}
