//! The order of readings by version.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::proxy::Proxy;
use crate::setup::{QUICK, SOON, Setup, login};
use crate::testbed::wait_until;

#[tokio::test]
async fn higher_version_is_newer_despite_older_creation_time() -> Result<()> {
    Setup::shared("ahead", async |setup| {
        let proxy = Proxy::with_rule(setup.servers.vault.address(), |request, _, answer| {
            let created = &mut answer["data"]["metadata"];
            if request.path.contains("/data/") && created["version"].as_u64().is_some_and(|version| version >= 2) {
                created["created_time"] = json!("2026-01-01T00:00:00.5Z");
            }
        })
        .await?;
        let url = proxy.url();
        let mut agent = setup.agent(&["run"], &[QUICK[0], ("VAULT_ADDR", &url)])?;
        setup.secret_is(&mut agent, "password", "Losungwort").await?;
        for password in ["zweite-Fassung", "dritte-Fassung"] {
            setup.case.put(&login("Nutzername", password)).await?;
            setup.file_is(&mut agent, "password", password).await?;
            setup.secret_is(&mut agent, "password", password).await?;
        }
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn agent_and_mirror_follow_vault_snapshot_restore() -> Result<()> {
    Setup::own("restore", async |setup| {
        let vault = &setup.servers.vault;
        let document = format!(
            "sources: {{webapp: {{path: {}, refresh: 1s, maxStale: 3s}}}}\nretry: {{base: 200ms, max: 1s, slow: 1s}}\n\
             mirrors: {{top-secret-ks: {{}}}}\n",
            setup.case.secret_path()
        );
        let http = reqwest::Client::builder().no_proxy().build()?;
        let url = |path: &str| format!("{}/v1/sys/storage/raft/{path}", vault.address());
        let request = |request: reqwest::RequestBuilder| request.header("x-vault-token", vault.root_token()).send();
        let snapshot = request(http.get(url("snapshot"))).await?.error_for_status()?.bytes().await?;
        setup.case.put(&login("Nutzername", "nach-dem-Schnappschuss")).await?;
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.secret_is(&mut agent, "password", "nach-dem-Schnappschuss").await?;

        let restored = request(http.post(url("snapshot-force")).body(snapshot)).await?;
        ensure!(restored.status().is_success(), "{}", restored.text().await?);
        wait_until("the previous version is restored", SOON, || async {
            let answer = setup.case.admin.get(&format!("{}/data/webapp/config", setup.case.kv_mount)).await.ok()?;
            (answer["data"]["metadata"]["version"] == 1).then_some(())
        })
        .await?;
        let since = std::time::Instant::now();
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        println!("the file is updated after {:?} (maxStale is 3 s)", since.elapsed());
        setup.secret_is(&mut agent, "password", "Losungwort").await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        assert!(agent.log().iter().any(|line| line.contains("OlderVersion")), "{}", agent.report());
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}
