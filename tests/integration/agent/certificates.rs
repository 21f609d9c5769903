//! Certificates of the PKI engine of a real Vault.

use anyhow::{Context as _, Result};
use reqwest::Method;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::setup::{SOON, Setup};
use crate::testbed::Agent;
use crate::testbed::reference_scenario::SECRET;

/// A root CA in one engine, an intermediate CA in another one, and the role `web` of the latter.
pub(super) struct Pki {
    pub(super) mount: String,
    root: String,
    /// Number of CA certificates in `mount`.
    cas: usize,
}

impl Pki {
    /// `ttl`: lifetime of the intermediate CA. `role`: changes of the role.
    pub(super) async fn new(setup: &Setup<'_>, ttl: &str, role: Value) -> Result<Self> {
        let (root, mount) = (format!("root-{}", setup.case.kv_mount), format!("web-{}", setup.case.kv_mount));
        let admin = &setup.case.admin;
        for name in [&root, &mount] {
            admin
                .put(&format!("sys/mounts/{name}"), json!({"type": "pki", "config": {"max_lease_ttl": "240h"}}))
                .await?;
        }
        let ca = json!({"common_name": "test root", "ttl": "240h", "key_type": "ec"});
        admin.put(&format!("{root}/root/generate/internal"), ca).await?;
        let mut pki = Self { mount, root, cas: 0 };
        pki.issuer(setup, ttl).await?;
        let mut all = json!({
            "allowed_domains": ["example.com"], "allow_subdomains": true, "allow_bare_domains": true,
            "allowed_uri_sans": ["spiffe://example.com/*"], "max_ttl": "48h", "key_type": "any", "no_store": false,
        });
        for (key, value) in role.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        if all["key_type"] == "any" {
            // `issue` needs a type.
            let mut issue = all.clone();
            issue["key_type"] = json!("ec");
            admin.put(&format!("{}/roles/web", pki.mount), issue).await?;
        }
        admin.put(&format!("{}/roles/own", pki.mount), all).await?;
        let rules = ["issue/web", "sign/own"]
            .map(|end| format!("path \"{}/{end}\" {{ capabilities = [\"update\"] }}\n", pki.mount));
        admin.policy(&setup.case.role, &rules.concat()).await?;
        Ok(pki)
    }

    /// Adds an intermediate CA, which becomes the default issuer.
    async fn issuer(&mut self, setup: &Setup<'_>, ttl: &str) -> Result<String> {
        let admin = &setup.case.admin;
        let request = json!({"common_name": "test intermediate", "key_type": "ec"});
        let csr = admin.put(&format!("{}/intermediate/generate/internal", self.mount), request).await?;
        let request = json!({"csr": csr["data"]["csr"], "ttl": ttl, "format": "pem_bundle"});
        let signed = admin.put(&format!("{}/root/sign-intermediate", self.root), request).await?;
        let bundle = json!({"certificate": signed["data"]["certificate"]});
        let imported = admin.put(&format!("{}/intermediate/set-signed", self.mount), bundle).await?;
        let issuer = imported["data"]["imported_issuers"][0].as_str().context("an issuer")?.to_owned();
        admin.put(&format!("{}/config/issuers", self.mount), json!({"default": issuer})).await?;
        admin.put(&format!("{}/issuer/{issuer}", self.mount), json!({"leaf_not_after_behavior": "truncate"})).await?;
        self.cas = self.serials(setup).await?.len();
        Ok(issuer)
    }

    async fn serials(&self, setup: &Setup<'_>) -> Result<Vec<String>> {
        let list = Method::from_bytes(b"LIST")?;
        let (_, answer) = setup.case.admin.request(list, &format!("{}/certs", self.mount), Value::Null).await?;
        let keys = answer["data"]["keys"].as_array().cloned().unwrap_or_default();
        Ok(keys.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect())
    }

    /// Number of certificates that the role has issued.
    pub(super) async fn issued(&self, setup: &Setup<'_>) -> Result<usize> {
        Ok(self.serials(setup).await?.len() - self.cas)
    }

    pub(super) fn source(&self, action: &str, more: &str) -> String {
        let role = if action == "issue" { "web" } else { "own" };
        format!("{{pki: {{{action}: {}/{action}/{role}, commonName: web.example.com, {more}}}}}", self.mount)
    }
}

/// The certificates in a file.
pub(super) fn certificates(setup: &Setup<'_>, file: &str) -> Vec<CertificateDer<'static>> {
    let text = setup.case.read(file).unwrap_or_default();
    CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok).collect()
}

fn has(certificate: &CertificateDer<'_>, name: &[u8]) -> bool {
    certificate.windows(name.len()).any(|part| part == name)
}

/// Waits until the certificate is one that `is_wanted` accepts.
async fn certificate_is(
    setup: &Setup<'_>,
    agent: &mut Agent,
    wanted: &str,
    is_wanted: impl Fn(&CertificateDer<'_>) -> bool,
) -> Result<()> {
    let found = || {
        let found = certificates(setup, "tls.crt");
        let is_wanted = found.first().is_some_and(&is_wanted);
        async move { is_wanted.then_some(()) }
    };
    agent.wait_for(&format!("the certificate is {wanted}"), SOON, found).await
}

/// Waits for a file, and adds the private key in it to the secrets that must not leak.
pub(super) async fn key_appears(setup: &Setup<'_>, agent: &mut Agent, file: &str) -> Result<String> {
    let key = agent
        .wait_for("the private key is published", SOON, || {
            let key = setup.case.read(file);
            async move { key }
        })
        .await?;
    setup.case.leaks.plant_data(&json!({"key": key}));
    Ok(key)
}

async fn metric(listen: &str, name: &str) -> Result<i64> {
    let text = reqwest::get(format!("http://{listen}/metrics")).await?.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|rest| rest.rsplit(' ').next()).with_context(|| format!("{name} in {text}"))?;
    Ok(value.parse()?)
}

#[tokio::test]
async fn issued_certificate_is_a_tls_secret_with_its_chain() -> Result<()> {
    Setup::shared("chain", async |setup| {
        let pki = Pki::new(setup, "200h", json!({})).await?;
        let document = format!(
            "sources:\n  web: {}\nmirrors: {{{SECRET}: {{type: kubernetes.io/tls}}}}\n",
            pki.source("issue", "altNames: ['${POD_NAME}.example.com'], ipSans: ['${POD_IP}'], ttl: 24h")
        );
        let (mut agent, listen) = setup.agent_with_listener(&document, &[("POD_IP", "10.0.0.7")])?;
        let key = key_appears(setup, &mut agent, "tls.key").await?;
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\n"), "PKCS#8: {}", agent.report());
        let chain = certificates(setup, "tls.crt");
        assert_eq!(chain.len(), 2, "the certificate and the intermediate CA");
        for name in [b"web.example.com".as_slice(), setup.case.pod_name.as_bytes(), &[10, 0, 0, 7]] {
            assert!(has(&chain[0], name));
        }
        let ca = certificates(setup, "ca.crt");
        assert!(ca.len() == 1 && has(&ca[0], b"test root"), "the root CA");
        setup.secret_is(&mut agent, "tls.key", &key).await?;
        let data = setup.secret().await?.context("a Secret")?;
        assert_eq!(data.keys().collect::<Vec<_>>(), ["ca.crt", "tls.crt", "tls.key"]);

        let left = metric(&listen, "keyferry_certificate_not_after_timestamp_seconds").await?
            - jiff::Timestamp::now().as_second();
        assert!((86_300..=86_400).contains(&left), "{left}");
        assert_eq!(metric(&listen, "keyferry_vault_requests_total").await?, 2, "the login and one request");
        assert_eq!(pki.issued(setup).await?, 1);

        // SIGUSR1 replaces the certificate.
        agent.signal(rustix::process::Signal::USR1)?;
        certificate_is(setup, &mut agent, "another one", |new| *new != chain[0]).await?;
        key_appears(setup, &mut agent, "tls.key").await?;
        assert_eq!(pki.issued(setup).await?, 2);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn own_keys_are_signed_and_never_sent() -> Result<()> {
    Setup::shared("sign", async |setup| {
        let pki = Pki::new(setup, "200h", json!({})).await?;
        let source = |key: &str| {
            let names = "altNames: [a.example.com], ipSans: ['fd00::7'], uriSans: ['spiffe://example.com/web']";
            pki.source("sign", &format!("keyType: {key}, {names}"))
        };
        let document = format!(
            "sources:\n  p256: {}\n  p384: {}\n  ed: {}\noutputs:\n\
             - {{source: p256, bundle: [private_key, certificate, ca_chain], file: p256.pem}}\n\
             - {{source: p384, prefix: p384}}\n- {{source: ed, key: private_key, file: ed.key, mode: '0400'}}\n\
             - {{source: ed, key: certificate, file: ed.crt}}\n",
            source("ec-p256"),
            source("ec-p384"),
            source("ed25519")
        );
        let mut agent = setup.agent_with(&["once", "--timeout", "20s"], &document)?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(0), "{}", agent.report());
        for file in ["p256.pem", "p384/tls.key", "ed.key"] {
            key_appears(setup, &mut agent, file).await?;
        }
        let bundle = setup.case.read("p256.pem").context("a bundle")?;
        assert!(bundle.starts_with("-----BEGIN PRIVATE KEY-----\n") && !bundle.contains("\n\n"), "one newline");
        assert!(bundle.ends_with("-----END CERTIFICATE-----\n"));
        assert_eq!(certificates(setup, "p256.pem").len(), 3, "certificate, intermediate, root");
        for (file, chain) in [("p256.pem", 3), ("p384/tls.crt", 2), ("ed.crt", 1)] {
            let found = certificates(setup, file);
            assert_eq!(found.len(), chain, "{file}");
            for name in [b"web.example.com".as_slice(), b"a.example.com", b"spiffe://example.com/web", &[0xfd, 0, 0, 0]]
            {
                assert!(has(&found[0], name), "{file}");
            }
        }
        assert_eq!(pki.issued(setup).await?, 3);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn changed_names_are_issued_anew_and_restart_issues_nothing() -> Result<()> {
    Setup::shared("names", async |setup| {
        let pki = Pki::new(setup, "200h", json!({})).await?;
        let document = |more: &str| format!("sources:\n  web: {}\n", pki.source("issue", more));
        let checkpoint = setup.case.directory.parent().context("a parent")?.join("checkpoint").display().to_string();
        let file = setup.write_config(&document("ttl: 24h"))?;
        let changes = [
            ("KEYFERRY_SECRETS", ""),
            ("KEYFERRY_MIRROR", ""),
            ("KEYFERRY_CONFIG", file.as_str()),
            ("KEYFERRY_CHECKPOINT", checkpoint.as_str()),
        ];
        let mut once = setup.agent(&["once"], &changes)?;
        assert_eq!(once.wait(SOON).await?.code(), Some(0), "{}", once.report());
        key_appears(setup, &mut once, "tls.key").await?;
        let first = setup.case.read("tls.crt");
        let mut agent = setup.agent(&["run"], &changes)?;
        agent.wait_for_log("every source is within its staleness tolerance", SOON).await?;
        assert_eq!((setup.case.read("tls.crt"), pki.issued(setup).await?), (first.clone(), 1), "{}", agent.report());

        // The role does not allow the name.
        setup.write_config(&document("ttl: 24h, altNames: [other.test]"))?;
        agent.wait_for_log("failed to issue a certificate at", SOON).await?;
        assert!(agent.log().iter().any(|line| line.contains("other.test")), "{}", agent.report());
        assert_eq!(setup.case.read("tls.crt"), first, "the previous certificate stays");
        setup.condition_is(&mut agent, "SecretsFresh", "False", "InvalidRequest").await?;

        setup.write_config(&document("ttl: 24h, altNames: [second.example.com]"))?;
        certificate_is(setup, &mut agent, "one with the new name", |new| has(new, b"second.example.com")).await?;
        key_appears(setup, &mut agent, "tls.key").await?;
        assert_eq!(pki.issued(setup).await?, 2);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn expiring_and_revoked_ca_are_reported() -> Result<()> {
    Setup::shared("expiring", async |setup| {
        let mut pki = Pki::new(setup, "12s", json!({})).await?;
        let document = format!("sources:\n  web: {}\n", pki.source("issue", "ttl: 24h"));
        let mut agent = setup.agent_with(&["run"], &document)?;
        key_appears(setup, &mut agent, "tls.key").await?;
        let warning = agent.wait_for_log("expires with its CA at", SOON).await?;
        assert!(warning.contains("CaExpiring"), "{warning}");
        setup.condition_is(&mut agent, "SecretsFresh", "False", "CertificateInvalid").await?;
        let message = setup.message("SecretsFresh").await.unwrap_or_default();
        assert!(message.contains("its certificate expired at"), "{message}");
        assert!(message.contains("the CA certificate expired at"), "{message}");
        let before = pki.issued(setup).await?;
        assert!(before < 12, "{before} certificates");

        // A new CA.
        let issuer = pki.issuer(setup, "200h").await?;
        agent.signal(rustix::process::Signal::USR1)?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        key_appears(setup, &mut agent, "tls.key").await?;
        assert_eq!(pki.issued(setup).await?, 1, "the number without the CA certificates and all before them");

        setup.case.admin.put(&format!("{}/issuer/{issuer}/revoke", pki.mount), json!({})).await?;
        agent.signal(rustix::process::Signal::USR1)?;
        let line = agent.wait_for_log("issuing-certificates", SOON).await?;
        assert!(line.contains("failed to issue a certificate at"), "{line}");
        Ok(())
    })
    .await
}
