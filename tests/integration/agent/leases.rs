//! Expiry: leases, static roles with a failed rotation, tokens whose TTL is only in the data.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::leased::{Leased, allow};
use crate::proxy::Proxy;
use crate::setup::{SOON, Setup, configured_by, supplied_token};

#[tokio::test]
async fn lease_is_stale_within_one_second_of_token_expiry() -> Result<()> {
    Setup::shared("leaseexpiry", async |setup| {
        let leased = Leased::new(setup).await?;
        leased.put(setup, json!({"password": "auf-Zeit", "ttl": "1h"})).await?;
        allow(setup, &[&leased.path()]).await?;
        setup.case.vault_role(json!({"token_ttl": "8s", "token_max_ttl": "8s"})).await?;
        let document =
            format!("sources: {{db: {{path: {}, engine: kv-v1}}}}\nretry: {{base: 200ms, slow: 1s}}\n", leased.path());
        let (mut agent, listen) = setup.agent_with_listener(&document, &[])?;
        agent.wait_for_log("logged in to Vault", SOON).await?;
        let ends = Instant::now() + Duration::from_secs(8);
        setup.file_is(&mut agent, "password", "auf-Zeit").await?;
        setup.case.vault_role(json!({"token_ttl": "8s", "bound_service_account_names": ["other"]})).await?;
        let fresh = || async {
            let text = reqwest::get(format!("http://{listen}/metrics")).await.ok()?.text().await.ok()?;
            text.contains("keyferry_condition{condition=\"keyferry.dev/SecretsFresh\"} 0").then_some(())
        };
        agent.wait_for("SecretsFresh is False", SOON, fresh).await?;
        let (early, late) = (ends.saturating_duration_since(Instant::now()), ends.elapsed());
        println!(
            "SecretsFresh is False {early:?} before or {late:?} after the token expires; {} leases",
            leased.alive(setup).await?
        );
        assert!(early < Duration::from_secs(1) && late < Duration::from_secs(1), "{early:?} {late:?}");
        setup.condition_is(&mut agent, "SecretsFresh", "False", "LoginRefused").await?;
        assert_eq!(setup.case.read("password").as_deref(), Some("auf-Zeit"), "the files stay");
        setup.case.vault_role(json!({"token_max_ttl": 0})).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

/// Creates a token with the data of a static role in its cubbyhole.
async fn static_role(setup: &Setup<'_>, data: &Value) -> Result<String> {
    setup.case.leaks.plant_data(&json!({"password": data["password"]}));
    let (token, _) = setup.case.admin.create_token(json!({"policies": ["default"], "ttl": "1h"})).await?;
    setup.servers.vault.client(&token)?.put("cubbyhole/static", data.clone()).await?;
    Ok(token)
}

#[tokio::test]
async fn static_role_with_failed_rotation_backs_off_and_is_mirrored() -> Result<()> {
    Setup::shared("static", async |setup| {
        let data = json!({
            "last_vault_rotation": "2026-01-01T00:00:00Z", "ttl": 0, "username": "u", "password": "festes-Losungswort",
        });
        let token = static_role(setup, &data).await?;
        let proxy = Proxy::counting(setup.servers.vault.address()).await?;
        let url = proxy.url();
        let document = "sources: {static: {path: cubbyhole/static, engine: other}}\nmirrors: {top-secret-ks: {}}\n";
        let changes = [&configured_by(document)[..], &supplied_token(&url, &token)].concat();
        let mut agent = setup.agent(&["run"], &changes)?;
        setup.secret_is(&mut agent, "password", "festes-Losungswort").await?;
        // Sleep, because the number of reads in this time is tested. After five reads, the wait doubles each time.
        tokio::time::sleep(Duration::from_secs(16)).await;
        let reads = proxy.count("cubbyhole/static");
        println!("{reads} reads in 16 s");
        assert!((5..=9).contains(&reads), "{}", proxy.summary());
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn once_with_static_role_revokes_token() -> Result<()> {
    Setup::shared("oncestatic", async |setup| {
        // The same data from KV version 1, because the token of a login has its own cubbyhole.
        let mount = format!("static-{}", setup.case.kv_mount);
        setup.case.admin.enable_secrets(&mount, "kv", json!({"version": "1"})).await?;
        let data = json!({"last_vault_rotation": "2026-01-01T00:00:00Z", "ttl": 0, "password": "festes-Losungswort"});
        setup.case.leaks.plant("festes-Losungswort");
        setup.case.admin.put(&format!("{mount}/app"), data).await?;
        allow(setup, &[&format!("{mount}/app")]).await?;
        let document = format!("sources: {{static: {{path: {mount}/app, engine: other}}}}\n");
        let mut once = setup.agent_with(&["once"], &document)?;
        assert_eq!(once.wait(SOON).await?.code(), Some(0), "{}", once.report());
        assert!(setup.case.admin.accessors_of(&setup.case.auth_mount).await?.is_empty(), "revoked");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ttl_in_data_sets_read_interval() -> Result<()> {
    Setup::shared("oidc", async |setup| {
        let (admin, role) = (&setup.case.admin, setup.case.role.clone());
        admin.put(&format!("identity/oidc/key/{role}"), json!({"allowed_client_ids": "*"})).await?;
        admin.put(&format!("identity/oidc/role/{role}"), json!({"key": role, "ttl": "24h"})).await?;
        // Vault issues such a token only for an entity; a login with the auth method `kubernetes` creates one.
        allow(setup, &[&format!("identity/oidc/token/{role}")]).await?;
        setup.case.vault_role(json!({"token_ttl": "1h"})).await?;
        let proxy = Proxy::counting(setup.servers.vault.address()).await?;
        let document = format!(
            "vault: {{address: \"{}\"}}\nsources: {{id: {{path: identity/oidc/token/{role}, engine: other, refresh: 1s}}}}\n\
             mirrors: {{top-secret-ks: {{allowLeased: true}}}}\n",
            proxy.url()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        agent
            .wait_for("the Secret exists", SOON, || async { setup.secret().await.ok()?.map(drop) })
            .await?;
        let version = || async {
            let secret = setup.case.cluster.secret(&setup.case.namespace, "top-secret-ks").await?;
            secret.and_then(|secret| secret.metadata.resource_version).context("a version")
        };
        let before = version().await?;
        let token = setup.case.read("token").context("a token")?;
        setup.case.leaks.plant_jwt(&token);
        // Sleep, because the number of reads in this time is tested: four refresh intervals.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let reads = proxy.count(&format!("oidc/token/{role}"));
        println!("{reads} reads in 5 s at a refresh of 1 s; token the same: {}", setup.case.read("token").as_ref() == Some(&token));
        assert_eq!(reads, 1, "{}", proxy.summary());
        assert_eq!(setup.case.read("token"), Some(token));
        assert_eq!(version().await?, before, "the Secret was not written again");
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}
