//! Templates, byte for byte as the Vault Agent and OpenBao's agent render them from the same Vault.
//!
//! What keyferry refuses is tested without a server, in `tests/template_oracle`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::json;

use crate::setup::{SOON, Setup};
use crate::template_cases::{ENGINE_EXISTS, ENVIRONMENT, Expect, TemplateCase, cases, readable, secrets};
use crate::testbed::binaries::find_or_build;
use crate::testbed::openbao;
use crate::testbed::template_agent::TemplateAgent;

/// Files by the id of their case.
type Files = BTreeMap<String, Vec<u8>>;

#[tokio::test]
async fn templates_render_as_vault_agent_renders_them() -> Result<()> {
    // The cases name fixed mounts, so they need a server of their own.
    Setup::own("templates", async |setup| {
        let ciphertext = write_secrets(setup).await?;
        let mut all = cases()?;
        for case in &mut all {
            case.template = case.template.replace("CIPHERTEXT", &ciphertext);
        }
        let vault = find_or_build("vault")?;
        let bao = openbao::find_or_download("templates_render_as_vault_agent_renders_them")?;
        let agent = |program| TemplateAgent {
            program,
            address: setup.servers.vault.address(),
            token: setup.servers.vault.root_token(),
            env: &ENVIRONMENT,
            watchdog: &setup.servers.watchdog,
        };
        let mut differences = String::new();
        for missing_error in [true, false] {
            let of = |expect: &[Expect], is_given: fn(&TemplateCase) -> bool| {
                let chosen = |case: &&TemplateCase| {
                    case.missing_error == missing_error && expect.contains(&case.expect) && is_given(case)
                };
                all.iter()
                    .filter(chosen)
                    .map(|case| (case.id.clone(), case.template.as_str()))
                    .collect::<BTreeMap<_, _>>()
            };
            let (rendered, refused) = ([Expect::Same, Expect::Stricter], [Expect::Error, Expect::Lenient]);
            let from_vault = agent(&vault).render(&of(&rendered, TemplateCase::is_for_vault), missing_error).await?;
            let from_keyferry =
                keyferry(setup, &of(&[Expect::Same], TemplateCase::is_for_vault), missing_error).await?;
            for case in &all {
                compare(case, &from_vault, &from_keyferry, "keyferry", &mut differences)?;
            }
            for files in [&from_vault, &from_keyferry] {
                check_key(&all, files)?;
            }
            agent(&vault).refuse(&of(&refused, TemplateCase::is_for_vault), missing_error).await?;
            let Some(bao) = bao.as_deref() else { continue };
            let from_bao = agent(bao).render(&of(&rendered, TemplateCase::is_for_openbao), missing_error).await?;
            for case in &all {
                compare(case, &from_vault, &from_bao, "bao agent", &mut differences)?;
            }
            agent(bao).refuse(&of(&refused, TemplateCase::is_for_openbao), missing_error).await?;
        }
        ensure!(differences.is_empty(), "\n{differences}");
        Ok(())
    })
    .await
}

/// Notes a difference between the output of the Vault Agent and that of another program, if both have the case.
fn compare(case: &TemplateCase, vault: &Files, other: &Files, name: &str, differences: &mut String) -> Result<()> {
    let (Some(vault), Some(other)) = (vault.get(&case.id), other.get(&case.id)) else { return Ok(()) };
    if case.comparable(vault) != case.comparable(other) {
        let (vault, other) = (readable(vault), readable(other));
        writeln!(differences, "{} ({})\n  vault agent: {vault}\n  {name}: {other}", case.name, case.template)?;
    }
    Ok(())
}

/// The certificate and the key, which two templates read with equal arguments, are of one issue call.
fn check_key(all: &[TemplateCase], files: &Files) -> Result<()> {
    let file = |name: &str| all.iter().find(|case| case.name == name).and_then(|case| files.get(&case.id));
    let (Some(certificate), Some(key)) = (file("shape 40, certificate"), file("shape 40, its key")) else {
        return Ok(());
    };
    let (chain, key) = (vec![CertificateDer::from_pem_slice(certificate)?], PrivateKeyDer::from_pem_slice(key)?);
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).context("the key does not belong to the certificate")?;
    Ok(())
}

/// Renders all templates with one `keyferry once`.
async fn keyferry(setup: &Setup<'_>, templates: &BTreeMap<String, &str>, missing_error: bool) -> Result<Files> {
    if !ENGINE_EXISTS {
        return Ok(Files::new());
    }
    let missing_key = if missing_error { "error" } else { "default" };
    let output =
        |(id, text): (&String, &&str)| json!({"file": id, "template": with_secret(text), "missingKey": missing_key});
    let outputs: Vec<_> = templates.iter().map(output).collect();
    // JSON is YAML. In a file, because the leak test searches the environment, and the templates contain parts of secrets.
    let file = setup.write_config(&json!({"outputs": outputs}).to_string())?;
    let changes =
        [("KEYFERRY_SECRETS", ""), ("KEYFERRY_MIRROR", ""), ("KEYFERRY_CONFIG", file.as_str()), ENVIRONMENT[0]];
    let mut once = setup.agent(&["once"], &changes)?;
    ensure!(once.wait(SOON).await?.code() == Some(0), "{}", once.report());
    let read = |id: &String| {
        let bytes = std::fs::read(setup.case.directory.join(id)).with_context(|| format!("no file {id}"))?;
        Ok((id.clone(), bytes))
    };
    templates.keys().map(read).collect()
}

/// keyferry refuses a template that reads no secret; such a template gets a call that prints nothing.
fn with_secret(template: &str) -> String {
    let reads = ["secret \"", "secrets \"", "pkiCert \""].iter().any(|call| template.contains(call));
    if reads { template.to_owned() } else { format!("{{{{ with secret \"kv1/app\" }}}}{{{{ end }}}}{template}") }
}

/// Writes all secrets that the cases read, and allows the pod to read them. Returns a text encrypted by transit.
async fn write_secrets(setup: &Setup<'_>) -> Result<String> {
    let admin = &setup.case.admin;
    for (mount, engine) in [
        ("kv1", json!({"type": "kv", "options": {"version": "1"}})),
        ("leased", json!({"type": "kv", "options": {"version": "1", "leased_passthrough": "true"}})),
        ("pki", json!({"type": "pki", "config": {"max_lease_ttl": "240h"}})),
        ("transit", json!({"type": "transit"})),
    ] {
        admin.put(&format!("sys/mounts/{mount}"), engine).await?;
    }
    let root = json!({"common_name": "template test CA", "ttl": "240h", "key_type": "ec"});
    admin.put("pki/root/generate/internal", root).await?;
    let role =
        json!({"allowed_domains": ["example.test"], "allow_subdomains": true, "key_type": "ec", "max_ttl": "72h"});
    admin.put("pki/roles/app", role).await?;
    admin.put("transit/keys/app", json!({})).await?;
    let plaintext = BASE64_STANDARD.encode("hello");
    let encrypted = admin.put("transit/encrypt/app", json!({"plaintext": plaintext})).await?;

    // The mount is ready after the first write (`put_kv` waits for that).
    admin.put_kv("secret", "ready", &json!({"a": "b"})).await?;
    let versions = |path: &str| if path == "secret/data/app" { 3 } else { 1 };
    for (path, data) in secrets()? {
        for _ in 0..versions(&path) {
            let body = if path.starts_with("secret/") { format!("{{\"data\":{data}}}") } else { data.get().to_owned() };
            admin.put_text(&path, body).await?;
        }
    }
    for password in ["p'a\"s $s\\ <&>", "kv1 password", "lease password"] {
        setup.case.leaks.plant(password);
    }
    let allowed =
        |mount| format!("path \"{mount}/*\" {{ capabilities = [\"create\", \"read\", \"update\", \"list\"] }}\n");
    let rules: String = ["secret", "kv1", "leased", "pki", "transit"].map(allowed).concat();
    admin.policy(&setup.case.role, &rules).await?;
    Ok(encrypted["data"]["ciphertext"].as_str().context("transit returns a text")?.to_owned())
}
