//! Logins that are denied, too early, or answered by a lagging standby.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use reqwest::Method;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use crate::proxy::Proxy;
use crate::setup::{QUICK, SOON, Setup, configured_by, login};

#[tokio::test]
async fn repeated_logins_back_off_while_reads_succeed() -> Result<()> {
    Setup::shared("relogin", async |setup| {
        setup.case.vault_role(json!({"token_ttl": "12s", "token_max_ttl": "12s"})).await?;
        let proxy = Proxy::counting(setup.servers.vault.address()).await?;
        let document = format!(
            "vault: {{address: \"{}\"}}\nsources: {{webapp: {{path: {}, refresh: 1s}}}}\nretry: {{base: 200ms, slow: 4s}}\n",
            proxy.url(),
            setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        // The token stays valid, but the login that replaces it is denied from some seconds before the expiry.
        let other = json!({"token_ttl": "12s", "token_max_ttl": "12s", "bound_service_account_names": ["other"]});
        setup.case.vault_role(other).await?;
        let denied = || proxy.of("/login").into_iter().filter(|seen| seen.status >= 400).collect::<Vec<_>>();
        agent
            .wait_for("five denied logins", Duration::from_secs(60), || {
                let found = (denied().len() >= 5).then_some(());
                async move { found }
            })
            .await?;
        let times: Vec<Instant> = denied().iter().map(|seen| seen.at).collect();
        let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let reads = proxy.of("webapp/config").iter().filter(|seen| seen.status == 200 && seen.at > times[0]).count();
        println!("gaps between denied logins {gaps:?}; {reads} successful reads since the first");
        assert!(gaps.len() >= 4 && gaps[3] >= Duration::from_millis(1800), "{gaps:?}\n{}", agent.report());
        assert!(reads >= 1, "no read succeeded: {}", proxy.summary());
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"));
        setup.case.vault_role(json!({"token_max_ttl": 0})).await?;
        setup.case.put(&login("Nutzername", "wieder-angemeldet")).await?;
        setup.file_is(&mut agent, "password", "wieder-angemeldet").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

/// A JWT that becomes valid in `valid_in` seconds, and the public key.
fn jwt(subject: &str, valid_in: u64) -> Result<(String, String)> {
    let key = rcgen::KeyPair::generate()?;
    let rng = ring::rand::SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der(), &rng)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let claims = json!({"sub": subject, "aud": "vault", "iat": now, "nbf": now + valid_in, "exp": now + 600});
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "ES256", "typ": "JWT"})), part(&claims));
    let signature = pair.sign(&rng, signed.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok((format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref())), key.public_key_pem()))
}

#[tokio::test]
async fn login_waits_for_jwt_that_is_not_yet_valid() -> Result<()> {
    Setup::shared("future", async |setup| {
        let (admin, role) = (&setup.case.admin, setup.case.role.clone());
        let start = async |mode: &str| -> Result<()> {
            let mount = format!("jwt-{mode}-{role}");
            admin.enable_auth(&mount, "jwt").await?;
            let bound = json!({
                "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "token_policies": [role],
                "clock_skew_leeway": -1,
            });
            let (jwt, key) = jwt("webapp", 6)?;
            admin.put(&format!("auth/{mount}/config"), json!({"jwt_validation_pubkeys": [key]})).await?;
            admin.put(&format!("auth/{mount}/role/webapp"), bound).await?;
            setup.case.leaks.plant_jwt(&jwt);
            let file = setup.case.jwt_file.with_file_name(format!("{mode}.jwt"));
            std::fs::write(&file, &jwt)?;
            let proxy = Proxy::counting(setup.servers.vault.address()).await?;
            let document = format!(
                "vault: {{address: \"{}\"}}\nauth: {{method: jwt, mount: {mount}, role: webapp, jwtFile: {}}}\n\
                 sources: {{s: {{path: {}}}}}\n",
                proxy.url(),
                file.display(),
                setup.case.secret_path()
            );
            let directory = setup.case.directory.with_file_name(mode).display().to_string();
            let none = [&configured_by(&document)[..], &[("KEYFERRY_DIRECTORY", directory.as_str())]].concat();
            let started = Instant::now();
            let arguments: &[&str] = if mode == "once" { &["once", "--timeout", "60s"] } else { &["run"] };
            let mut agent = setup.agent(arguments, &none)?;
            if mode == "once" {
                assert_eq!(agent.wait(Duration::from_secs(60)).await?.code(), Some(0), "{}", agent.report());
            } else {
                let file = format!("{directory}/password");
                agent
                    .wait_for("the first set", Duration::from_secs(60), || {
                        let found = std::fs::exists(&file).is_ok_and(|found| found).then_some(());
                        async move { found }
                    })
                    .await?;
            }
            println!("{mode}: files after {:?}, {} logins", started.elapsed(), proxy.count("/login"));
            assert!(started.elapsed() < Duration::from_secs(11), "{mode}: {:?}", started.elapsed());
            assert!(proxy.count("/login") <= 3, "{}", proxy.summary());
            if mode == "run" {
                agent.terminate(SOON).await?;
            }
            Ok(())
        };
        tokio::try_join!(start("once"), start("run"))?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn lagging_standby_is_retried_with_same_token() -> Result<()> {
    Setup::shared("lagging", async |setup| {
        let proxy = || async {
            let mut issued: std::collections::BTreeMap<String, Instant> = std::collections::BTreeMap::new();
            Proxy::with_rule(setup.servers.vault.address(), move |request, status, answer| {
                if let Some(token) = answer["auth"]["client_token"].as_str() {
                    issued.insert(token.to_owned(), request.at);
                }
                let young = request.token.as_ref().and_then(|token| issued.get(token));
                if young.is_some_and(|issued| request.at < *issued + Duration::from_millis(300)) {
                    (*status, *answer) = (403, json!({"errors": ["permission denied"]}));
                }
            })
            .await
        };
        let node = proxy().await?;
        let url = node.url();
        let started = Instant::now();
        let mut agent = setup.agent(&["run"], &[QUICK[0], ("VAULT_ADDR", &url)])?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        let first = started.elapsed();
        println!("run: files after {first:?}\n{}", node.summary());
        assert_eq!(node.count("/login"), 1, "{}", node.summary());
        assert!(first < Duration::from_secs(3), "{first:?}");
        agent.terminate(SOON).await?;
        assert!(setup.case.admin.accessors_of(&setup.case.auth_mount).await?.is_empty(), "no token is left");

        let node = proxy().await?;
        let url = node.url();
        let directory = setup.case.directory.with_file_name("once").display().to_string();
        let mut once = setup.agent(&["once"], &[("VAULT_ADDR", &url), ("KEYFERRY_DIRECTORY", &directory)])?;
        assert_eq!(once.wait(SOON).await?.code(), Some(0), "{}", once.report());
        assert_eq!(node.count("/login"), 1, "{}", node.summary());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn used_wrapping_token_after_restart_names_earlier_process() -> Result<()> {
    Setup::shared("wrapped", async |setup| {
        let (admin, role) = (&setup.case.admin, setup.case.role.clone());
        let mount = format!("approle-{role}");
        admin.enable_auth(&mount, "approle").await?;
        admin.put(&format!("auth/{mount}/role/webapp"), json!({"token_policies": [role], "token_ttl": "5m"})).await?;
        let id = admin.get(&format!("auth/{mount}/role/webapp/role-id")).await?;
        let role_id = setup.case.credential("role-id", id["data"]["role_id"].as_str().context("a role ID")?)?;
        let path = format!("auth/{mount}/role/webapp/secret-id");
        let url = format!("{}/v1/{path}", setup.servers.vault.address());
        let request = reqwest::Client::new().post(url).header("x-vault-token", setup.servers.vault.root_token());
        let answer: Value = request.header("x-vault-wrap-ttl", "300s").json(&json!({})).send().await?.json().await?;
        let wrapped = answer["wrap_info"]["token"].as_str().context("a wrapping token")?;
        let secret_id = setup.case.credential("secret-id", wrapped)?;
        let document = format!(
            "auth: {{method: approle, mount: {mount}, roleIdFile: {role_id}, secretIdFile: {secret_id}, \
             wrappedCreationPath: {path}}}\nsources: {{s: {{path: {}}}}}\n",
            setup.case.secret_path()
        );
        let changes = configured_by(&document);
        let mut agent = setup.agent(&["run"], &changes)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        agent.kill().await?;
        let mut agent = setup.agent(&["run"], &changes)?;
        let line = agent.wait_for_log("LoginRefused", SOON).await?;
        assert!(line.contains("An earlier process of this pod may have used it"), "{line}");
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"), "the files stay");
        // A new secret ID fixes it.
        let fresh = admin.ok(Method::POST, &path, json!({})).await?;
        let plain = fresh["data"]["secret_id"].as_str().context("a secret ID")?;
        setup.condition_is(&mut agent, "SecretsReady", "True", "Adopted").await?;
        setup.case.leaks.plant(plain);
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}
