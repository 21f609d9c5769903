//! Vault denies requests or returns something else than before.

use anyhow::Result;
use reqwest::Method;
use serde_json::json;

use crate::setup::{QUICK, SOON, Setup, login};
use crate::testbed::wait_until;

/// A configuration with short intervals, in which a set is stale two seconds after its last successful read.
fn short_max_stale(setup: &Setup<'_>) -> String {
    format!(
        "sources: {{webapp: {{path: {}, refresh: 1s, maxStale: 2s}}}}\nretry: {{base: 200ms, max: 1s, slow: 1s}}\n\
         mirrors: {{top-secret-ks: {{}}}}\n",
        setup.case.secret_path()
    )
}

#[tokio::test]
async fn set_is_stale_while_policy_is_removed_and_fresh_once_restored() -> Result<()> {
    Setup::shared("policy", async |setup| {
        let mut agent = setup.agent_with(&["run"], &short_max_stale(setup))?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        setup.case.admin.policy(&setup.case.role, "path \"nothing\" { capabilities = [\"read\"] }").await?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "Denied").await?;
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"), "the last good set stays");
        assert_eq!(setup.condition("SecretsReady").await, Some(("True".into(), "Published".into())));
        let policy = format!("path \"{}/data/webapp/config\" {{ capabilities = [\"read\"] }}", setup.case.kv_mount);
        agent.wait_for_log(&policy.replace('"', "\\\""), SOON).await?;
        setup.case.admin.policy(&setup.case.role, &policy).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn revoked_token_is_replaced_by_new_login() -> Result<()> {
    Setup::shared("revoked", async |setup| {
        let mut agent = setup.agent(&["run"], QUICK)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        let accessors = setup.case.admin.accessors_of(&setup.case.auth_mount).await?;
        assert_eq!(accessors.len(), 1, "one login");
        setup.case.admin.revoke_accessor(&accessors[0]).await?;
        setup.case.put(&login("Nutzername", "nach-dem-Widerruf")).await?;
        setup.file_is(&mut agent, "password", "nach-dem-Widerruf").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn short_lived_token_is_renewed_then_replaced_before_max_ttl() -> Result<()> {
    Setup::shared("short", async |setup| {
        setup.case.vault_role(json!({"token_ttl": "3s", "token_max_ttl": "8s"})).await?;
        let mut agent = setup.agent(&["run"], QUICK)?;
        agent.wait_for_log("renewed the Vault token", SOON).await?;
        let logins = || agent_log_count(&agent.log(), "logged in to Vault");
        wait_until("a second login", SOON, || {
            let found = (logins() >= 2).then_some(());
            async move { found }
        })
        .await?;
        let log = agent.log().join("\n");
        assert!(!log.contains("TokenExpired"), "the token expired before it was replaced:\n{log}");
        Ok(())
    })
    .await
}

fn agent_log_count(log: &[String], text: &str) -> usize {
    log.iter().filter(|line| line.contains(text)).count()
}

#[tokio::test]
async fn deleted_or_destroyed_version_keeps_files() -> Result<()> {
    Setup::shared("deleted", async |setup| {
        let mut agent = setup.agent_with(&["run"], &short_max_stale(setup))?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        let mount = &setup.case.kv_mount;
        setup.case.admin.delete(&format!("{mount}/data/webapp/config")).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "SecretDeleted").await?;
        agent.wait_for_log("was deleted at", SOON).await?;
        setup.case.admin.put(&format!("{mount}/destroy/webapp/config"), json!({"versions": [1]})).await?;
        agent.wait_for_log("permanently destroyed", SOON).await?;
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"));
        setup.case.put(&login("Nutzername", "neue-Fassung")).await?;
        setup.file_is(&mut agent, "password", "neue-Fassung").await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        // Delete all versions and the metadata: numbers restart at 1, which counts as newer.
        setup.case.admin.delete(&format!("{mount}/metadata/webapp/config")).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "SecretNotFound").await?;
        setup.case.put(&login("Nutzername", "von-vorn")).await?;
        setup.file_is(&mut agent, "password", "von-vorn").await?;
        setup.secret_is(&mut agent, "password", "von-vorn").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn moved_mount_keeps_files_until_moved_back() -> Result<()> {
    Setup::shared("moved", async |setup| {
        let mut agent = setup.agent_with(&["run"], &short_max_stale(setup))?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        let (here, there) = (setup.case.kv_mount.clone(), format!("{}-elsewhere", setup.case.kv_mount));
        remount(setup, &here, &there).await?;
        agent
            .wait_for("SecretsFresh is False", SOON, || async {
                (setup.condition("SecretsFresh").await?.0 == "False").then_some(())
            })
            .await?;
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"));
        remount(setup, &there, &here).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        Ok(())
    })
    .await
}

async fn remount(setup: &Setup<'_>, from: &str, to: &str) -> Result<()> {
    let admin = &setup.case.admin;
    let started = admin.ok(Method::POST, "sys/remount", json!({"from": from, "to": to})).await?;
    let id = started["data"]["migration_id"].as_str().unwrap_or_default().to_owned();
    wait_until("the mount is moved", SOON, || async {
        let status = admin.get(&format!("sys/remount/status/{id}")).await.ok()?;
        (status["data"]["migration_info"]["status"] == "success").then_some(())
    })
    .await
}

#[tokio::test]
async fn rate_limited_agent_honors_retry_after() -> Result<()> {
    Setup::own("quota", async |setup| {
        let mut agent = setup.agent_with(&["run"], &short_max_stale(setup))?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        let admin = &setup.case.admin;
        admin.put("sys/quotas/config", json!({"enable_rate_limit_response_headers": true})).await?;
        let quota =
            json!({"path": format!("{}/", setup.case.kv_mount), "rate": 1, "interval": "10s", "block_interval": "4s"});
        admin.put("sys/quotas/rate-limit/tight", quota).await?;
        agent.wait_for_log("RateLimited", SOON).await?;
        // Retry-After is some seconds; the retry schedule alone would retry within one.
        let count = |log: &[String]| log.iter().filter(|line| line.contains("\"RateLimited\"")).count();
        let before = count(&agent.log());
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert!(count(&agent.log()) <= before + 1, "the agent did not wait for Retry-After:\n{}", agent.report());
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"));
        admin.delete("sys/quotas/rate-limit/tight").await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        Ok(())
    })
    .await
}
