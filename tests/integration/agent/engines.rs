//! The pages in `docs/engines`: their configurations and their policies, unchanged, on a real Vault.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::agent::auth::wrap;
use crate::database::Database;
use crate::markdown::blocks;
use crate::proxy::Proxy;
use crate::setup::{SOON, Setup};

/// A page: its configurations and its policies, in the order of the page.
pub(super) struct Page {
    pub(super) configurations: Vec<String>,
    policies: String,
}

impl Page {
    pub(super) fn new(text: &str) -> Self {
        let of = |language| blocks(text, language).into_iter().map(|(_, block)| block).collect::<Vec<_>>();
        Self { configurations: of("yaml"), policies: of("hcl").join("\n") }
    }

    /// Gives the case the policies of the page, and runs `keyferry once` with a configuration of the page. Returns the requests
    /// for the sources.
    pub(super) async fn publish(&self, setup: &Setup<'_>, configuration: &str) -> Result<Vec<String>> {
        setup.case.admin.policy(&setup.case.role, &self.policies).await?;
        let proxy = Proxy::counting(setup.servers.vault.address()).await?;
        let url = proxy.url();
        let changes = [
            ("KEYFERRY_SECRETS", ""),
            ("KEYFERRY_MIRROR", ""),
            ("KEYFERRY_CONFIG_INLINE", configuration),
            ("VAULT_ADDR", url.as_str()),
        ];
        let mut once = setup.agent(&["once"], &changes)?;
        ensure!(once.wait(SOON).await?.code() == Some(0), "{}{}", proxy.summary(), once.report());
        let of_source = |path: &str| !path.starts_with("auth/");
        Ok(proxy.seen().into_iter().map(|seen| seen.path).filter(|path| of_source(path)).collect())
    }
}

/// A published file, which is planted for the leak test.
fn secret_file(setup: &Setup<'_>, file: &str) -> Result<String> {
    let text = setup.case.read(file).with_context(|| format!("no file {file}"))?;
    setup.case.leaks.plant_data(&Value::from(text.as_str()));
    Ok(text)
}

async fn mount(setup: &Setup<'_>, engine: &str) -> Result<()> {
    setup.case.admin.put(&format!("sys/mounts/{engine}"), json!({"type": engine})).await.map(drop)
}

#[tokio::test]
async fn transit_page_works() -> Result<()> {
    Setup::shared("pagetransit", async |setup| {
        let page = Page::new(include_str!("../../../docs/engines/transit.md"));
        let admin = &setup.case.admin;
        mount(setup, "transit").await?;
        admin.put("transit/keys/webapp", json!({})).await?;
        setup.case.leaks.plant("the license");
        let plaintext = BASE64_STANDARD.encode("the license");
        let answer = admin.put("transit/encrypt/webapp", json!({"plaintext": plaintext})).await?;
        let ciphertext = answer["data"]["ciphertext"].as_str().context("a ciphertext")?;
        let (before, rest) = page.configurations[0].split_once("vault:v1:").context("the example of a ciphertext")?;
        let (_, after) = rest.split_once('"').context("a quote")?;
        let requests = page.publish(setup, &format!("{before}{ciphertext}\"{after}")).await?;
        assert_eq!(requests.len(), 2, "one request per source: {requests:?}");
        assert_eq!(setup.case.read("license").as_deref(), Some("the license"));
        let key = std::fs::read(setup.case.directory.join("data.key"))?;
        assert_eq!(key.len(), 32, "an AES-256 key");
        let encrypted = secret_file(setup, "data.key.encrypted")?;
        let answer = admin.put("transit/decrypt/webapp", json!({"ciphertext": encrypted})).await?;
        assert_eq!(answer["data"]["plaintext"], BASE64_STANDARD.encode(key), "both files are of one key");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn totp_page_works() -> Result<()> {
    Setup::shared("pagetotp", async |setup| {
        let page = Page::new(include_str!("../../../docs/engines/totp.md"));
        setup.servers.vault.offer_plugin("secret", "totp", "vault-plugin-secrets-totp").await?;
        mount(setup, "totp").await?;
        let key = json!({"generate": true, "issuer": "Vault", "account_name": "webapp@example.com"});
        setup.case.admin.put("totp/keys/webapp", key).await?;
        let requests = page.publish(setup, &page.configurations[0]).await?;
        assert_eq!(requests, ["totp/code/webapp"]);
        let mut agent = setup.agent_with(&["run"], &page.configurations[0])?;
        // Two codes: without a lifetime, the second one would be read after a minute. Vault accepts each code once, and in
        // the period before and after as well, so check at the time of the change.
        let mut codes = Vec::new();
        for _ in 0..2 {
            let code = agent
                .wait_for("the file contains another code", SOON * 2, || {
                    let code = setup.case.read("totp").filter(|code| !codes.contains(code));
                    async { code }
                })
                .await?;
            let answer = setup.case.admin.put("totp/code/webapp", json!({"code": code})).await?;
            assert_eq!(answer["data"]["valid"], true, "{answer}");
            codes.push(code);
        }
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn identity_page_works() -> Result<()> {
    Setup::shared("pageidentity", async |setup| {
        let page = Page::new(include_str!("../../../docs/engines/identity.md"));
        let admin = &setup.case.admin;
        admin.put("identity/oidc/key/webapp", json!({"allowed_client_ids": "*"})).await?;
        admin.put("identity/oidc/role/webapp", json!({"key": "webapp", "ttl": "1h"})).await?;
        let requests = page.publish(setup, &page.configurations[0]).await?;
        assert_eq!(requests, ["identity/oidc/token/webapp"]);
        let jwt = setup.case.read("identity.jwt").context("a token")?;
        setup.case.leaks.plant_jwt(&jwt);
        assert_eq!(jwt.split('.').count(), 3);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ssh_page_works() -> Result<()> {
    Setup::shared("pagessh", async |setup| {
        let page = Page::new(include_str!("../../../docs/engines/ssh.md"));
        let admin = &setup.case.admin;
        mount(setup, "ssh").await?;
        admin.put("ssh/config/ca", json!({"generate_signing_key": true, "key_type": "ed25519"})).await?;
        let user = json!({"key_type": "ca", "allow_user_certificates": true, "allowed_users": "deploy", "ttl": "30m"});
        admin.put("ssh/roles/webapp", user).await?;
        let host = json!({
            "key_type": "ca", "allow_host_certificates": true, "allowed_domains": "shop.svc", "allow_subdomains": true,
        });
        admin.put("ssh/roles/host", host).await?;

        let requests = page.publish(setup, &page.configurations[0]).await?;
        assert_eq!(requests, ["ssh/issue/webapp"]);
        assert!(secret_file(setup, "id_ed25519")?.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
        let certificate = setup.case.read("id_ed25519-cert.pub").context("a certificate")?;
        assert!(certificate.starts_with("ssh-ed25519-cert-v01@openssh.com "), "{certificate}");

        let requests = page.publish(setup, &page.configurations[1]).await?;
        assert_eq!(requests, ["ssh/sign/host"]);
        let certificate = setup.case.read("ssh_host_ed25519_key-cert.pub").context("a certificate")?;
        let encoded = certificate.split_whitespace().nth(1).context("two words")?;
        let decoded = BASE64_STANDARD.decode(encoded)?;
        let principal = format!("{}.shop.svc", setup.case.pod_name);
        assert!(decoded.windows(principal.len()).any(|part| part == principal.as_bytes()), "no {principal}");

        // The certificate of a second is replaced long before the refresh interval of a minute.
        let short = page.configurations[0].replace("ttl: 1h", "ttl: 4s");
        ensure!(short != page.configurations[0]);
        let mut agent = setup.agent_with(&["run"], &short)?;
        agent
            .wait_for("the certificate is replaced", SOON, || {
                let now = setup.case.read("id_ed25519-cert.pub");
                async { now.filter(|now| *now != certificate) }
            })
            .await?;
        let first = secret_file(setup, "id_ed25519")?;
        agent
            .wait_for("the key is replaced", SOON, || {
                let now = setup.case.read("id_ed25519");
                async { now.filter(|now| *now != first) }
            })
            .await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn cubbyhole_page_works() -> Result<()> {
    Setup::shared("pagecubbyhole", async |setup| {
        let page = Page::new(include_str!("../../../docs/engines/cubbyhole.md"));
        let (token, accessor) = setup.case.admin.create_token(json!({"policies": ["default"], "ttl": "1h"})).await?;
        setup.case.leaks.plant("aus-dem-Versteck");
        setup.servers.vault.client(&token)?.put("cubbyhole/bootstrap", json!({"key": "aus-dem-Versteck"})).await?;
        let file = setup.case.credential("supplied-token", &token)?;
        let document = page.configurations[0].replace("/run/token/vault-token", &file);
        let changes = [&crate::setup::configured_by(&document)[..], &[("VAULT_ADDR", setup.servers.vault.address())]];
        let mut once = setup.agent(&["once"], &changes.concat())?;
        ensure!(once.wait(SOON).await?.code() == Some(0), "{}", once.report());
        assert_eq!(setup.case.read("bootstrap/key").as_deref(), Some("aus-dem-Versteck"));
        assert!(setup.case.admin.token(&accessor).await?.is_some(), "a supplied token is not revoked");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn wrapped_secret_of_cubbyhole_page_works() -> Result<()> {
    Setup::shared("pagewrapped", async |setup| {
        let page = Page::new(include_str!("../../../docs/engines/cubbyhole.md"));
        let mount = &setup.case.kv_mount;
        let put = async |value: &str| {
            setup.case.leaks.plant(value);
            setup.case.admin.put_kv(mount, "webapp/bootstrap", &json!({"key": value})).await
        };
        put("eingewickelt").await?;
        let path = format!("{mount}/data/webapp/bootstrap");
        let file = setup.case.credential("wrapped", &wrap(setup.servers, Method::GET, &path).await?)?;
        let document = page.configurations[1]
            .replace("secret/data/webapp/bootstrap", &path)
            .replace("/run/wrapped/token,", &format!("{file}, refresh: 1s,"))
            .replace("/run/wrapped/token}", &format!("{file}, refresh: 1s}}"));
        let checkpoint = setup.case.directory.parent().context("a parent")?.join("checkpoint").display().to_string();
        let environment = [
            ("KEYFERRY_SECRETS", ""),
            ("KEYFERRY_MIRROR", ""),
            ("KEYFERRY_CONFIG_INLINE", document.as_str()),
            ("KEYFERRY_CHECKPOINT", &checkpoint),
        ];
        for _ in 0..2 {
            // The second process has the secret from the checkpoint.
            let mut agent = setup.agent(&["run"], &environment)?;
            setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
            assert_eq!(setup.case.read("bootstrap/key").as_deref(), Some("eingewickelt"));
            let is_saved = || async { std::fs::exists(&checkpoint).ok()?.then_some(()) };
            agent.wait_for("the checkpoint exists", SOON, is_saved).await?;
            assert!(!agent.report().contains("INTERCEPTED"), "{}", agent.report());
            agent.kill().await?;
        }
        let mut agent = setup.agent(&["run"], &environment)?;
        put("neu eingewickelt").await?;
        setup.case.credential("wrapped", &wrap(setup.servers, Method::GET, &path).await?)?;
        setup.file_is(&mut agent, "bootstrap/key", "neu eingewickelt").await?;
        // A token that someone else has used.
        let used = wrap(setup.servers, Method::GET, &path).await?;
        setup.servers.vault.client(&used)?.put("sys/wrapping/unwrap", json!({})).await?;
        setup.case.credential("wrapped", &used)?;
        agent.wait_for_log("the secret MAY HAVE BEEN INTERCEPTED", SOON).await?;
        assert_eq!(setup.case.read("bootstrap/key").as_deref(), Some("neu eingewickelt"), "the files stay");
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn database_page_works() -> Result<()> {
    let Some(programs) = Database::programs("database_page_works") else { return Ok(()) };
    Setup::shared("pagedatabase", async |setup| {
        let page = Page::new(include_str!("../../../docs/engines/databases.md"));
        let database = Database::start_at(setup, &programs, "database").await?;
        database.dynamic_role(setup, "webapp", 3600, 7200).await?;
        let requests = page.publish(setup, &page.configurations[0]).await?;
        assert_eq!(requests, ["database/creds/webapp"]);
        let (user, password) = (secret_file(setup, "db/username")?, secret_file(setup, "db/password")?);
        database.postgres.log_in(&user, &password).await?;

        database.static_role(setup, "reporting", 3600).await?;
        let requests = page.publish(setup, &page.configurations[1]).await?;
        assert_eq!(requests, ["database/static-creds/reporting"]);
        assert_eq!(setup.case.read("db/username").as_deref(), Some("reporting"));
        database.postgres.log_in("reporting", &secret_file(setup, "db/password")?).await?;
        Ok(())
    })
    .await
}
