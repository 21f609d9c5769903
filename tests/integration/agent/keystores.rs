//! PKCS#12 files of a certificate, opened by OpenSSL and, if it is installed, by Java's keytool.

use std::process::Command;

use anyhow::{Context as _, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::certificates::{Pki, certificates, key_appears};
use crate::setup::{SOON, Setup};
use crate::testbed::requirements::has;

/// What OpenSSL reads from a PKCS#12 file.
struct Opened {
    /// PEM of the private key; empty in a trust store.
    key: String,
    certificates: Vec<CertificateDer<'static>>,
}

/// Opens a published file; `None` if it does not exist or has another password.
fn open(setup: &Setup<'_>, file: &str, password: &str) -> Option<Opened> {
    let path = setup.case.directory.join(file);
    let mut read = Command::new("openssl");
    read.args(["pkcs12", "-nodes", "-passin", "env:PASSWORD", "-in"]).arg(path).env("PASSWORD", password);
    let output = read.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let key = text.find("-----BEGIN PRIVATE KEY-----").map(|start| &text[start..]).and_then(|rest| {
        let end = "-----END PRIVATE KEY-----\n";
        rest.find(end).map(|at| rest[..at + end.len()].to_owned())
    });
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok).collect();
    Some(Opened { key: key.unwrap_or_default(), certificates })
}

/// Whether keytool lists one entry of this kind. `true` without Java, which is too large to be required.
fn has_entry(setup: &Setup<'_>, file: &str, password: &str, kind: &str) -> bool {
    let path = setup.case.directory.join(file);
    let Ok(list) = Command::new("keytool").args(["-list", "-storepass", password, "-keystore"]).arg(path).output()
    else {
        eprintln!("skipped: {file} is not read by Java, because keytool is not installed");
        return true;
    };
    let text = String::from_utf8_lossy(&list.stdout);
    text.contains("contains 1 entry") && text.contains(kind)
}

#[tokio::test]
async fn keystore_opens_with_its_password_and_changes_with_certificate_and_password() -> Result<()> {
    const TEST: &str = "keystore_opens_with_its_password_and_changes_with_certificate_and_password";
    if !has(TEST, &[("openssl", "openssl")]) {
        return Ok(());
    }
    Setup::shared("keystore", async |setup| {
        let pki = Pki::new(setup, "200h", json!({})).await?;
        let rules = format!(
            "path \"{}/issue/web\" {{ capabilities = [\"update\"] }}\n\
             path \"{}/data/webapp/config\" {{ capabilities = [\"read\"] }}\n",
            pki.mount, setup.case.kv_mount
        );
        setup.case.admin.policy(&setup.case.role, &rules).await?;
        let (first, second) = ("Losungswort der Keystores", "Neues Losungswort");
        setup.case.put(&json!({"keystorePassword": first})).await?;
        let password = "password: {source: app, key: keystorePassword}";
        let document = format!(
            "sources:\n  web: {}\n  app: {{path: {}, refresh: 1s}}\noutputs:\n- {{source: web}}\n\
             - {{source: web, format: pkcs12, file: keystore.p12, alias: web, {password}}}\n\
             - {{source: web, bundle: [ca], format: pkcs12, file: truststore.p12, {password}}}\n",
            pki.source("issue", "ttl: 24h"),
            setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        let key = key_appears(setup, &mut agent, "tls.key").await?;
        let keystore = open(setup, "keystore.p12", first).with_context(|| agent.report())?;
        assert!(keystore.key == key, "the private key of the same issue");
        assert_eq!(keystore.certificates[..2], certificates(setup, "tls.crt")[..], "certificate and intermediate CA");
        assert_eq!(keystore.certificates[2..], certificates(setup, "ca.crt")[..], "the root CA");
        let truststore = open(setup, "truststore.p12", first).context("a trust store")?;
        assert!(truststore.key.is_empty() && truststore.certificates == certificates(setup, "ca.crt"));
        assert!(open(setup, "keystore.p12", second).is_none(), "another password");
        assert!(has_entry(setup, "keystore.p12", first, "PrivateKeyEntry"));
        assert!(has_entry(setup, "truststore.p12", first, "trustedCertEntry"));

        // A new certificate.
        agent.signal(rustix::process::Signal::USR1)?;
        let new = agent.wait_for("the keystore has another certificate", SOON, || {
            let opened = open(setup, "keystore.p12", first).filter(|opened| opened.key != key);
            async move { opened }
        });
        let new = new.await?;
        assert!(new.key == key_appears(setup, &mut agent, "tls.key").await?);
        assert_eq!(new.certificates[..2], certificates(setup, "tls.crt")[..]);

        // A new password for the same certificate.
        setup.case.put(&json!({"keystorePassword": second})).await?;
        for file in ["keystore.p12", "truststore.p12"] {
            let opened = agent.wait_for("the file has the new password", SOON, || {
                let opened = open(setup, file, second);
                async move { opened }
            });
            let opened = opened.await?;
            assert!(file != "keystore.p12" || opened.key == new.key, "the same certificate");
        }
        assert_eq!(pki.issued(setup).await?, 2);

        // A password that cannot be used.
        setup.case.put(&json!({"keystorePassword": ""})).await?;
        let line = agent.wait_for_log("the value of key \\\"keystorePassword\\\" of source app is empty", SOON).await?;
        assert!(line.contains("RenderFailed"), "{line}");
        assert!(open(setup, "keystore.p12", second).is_some(), "the last good file stays");
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}
