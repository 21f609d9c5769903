//! Outages of the servers. Each test starts its own servers, because it stops them.

use std::time::Duration;

use anyhow::Result;

use crate::setup::{QUICK, SOON, Setup, login};
use crate::testbed::wait_until;

const FAST_RETRY: &str = "retry: {base: 200ms, max: 2s, slow: 2s}\nmirrors: {top-secret-ks: {}}\n";

fn document(setup: &Setup<'_>) -> String {
    let path = setup.case.secret_path();
    format!("sources: {{webapp: {{path: {path}, refresh: 1s, maxStale: 3s}}}}\n{FAST_RETRY}")
}

#[tokio::test]
async fn set_is_stale_during_vault_outage_and_fresh_afterwards() -> Result<()> {
    Setup::own("outage", async |setup| {
        let mut agent = setup.agent_with(&["run"], &document(setup))?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        setup.servers.vault.stop().await?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "VaultUnreachable").await?;
        // During the whole minute the agent must not give up, send many requests, or change the files.
        let minute = tokio::time::Instant::now() + Duration::from_secs(60);
        while tokio::time::Instant::now() < minute {
            assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"));
            assert_eq!(setup.case.read("username").as_deref(), Some("Nutzername"));
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        setup.servers.vault.start_again(&setup.servers.watchdog).await?;
        setup.case.put(&login("Nutzername", "wieder-da")).await?;
        setup.file_is(&mut agent, "password", "wieder-da").await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        // The log contains the number of failures instead of a line for each.
        let log = agent.log();
        let counts = log.iter().filter_map(|line| line.split_once("recovered after ")?.1.split_once(" failures"));
        let tries: u32 = counts.filter_map(|(count, _)| count.parse::<u32>().ok()).max().unwrap_or_default();
        assert!((10..200).contains(&tries), "{tries} tries in a minute: {}", agent.report());
        let lines = log.iter().filter(|line| line.contains("\"reason\":\"VaultUnreachable\"")).count();
        assert!(lines < 10, "{lines} lines about one outage: {}", agent.report());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn sealed_vault_is_reported_and_keeps_files() -> Result<()> {
    Setup::own("sealed", async |setup| {
        let mut agent = setup.agent_with(&["run"], &document(setup))?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        setup.servers.vault.seal().await?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "Sealed").await?;
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"));
        setup.servers.vault.unseal().await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn files_update_while_api_server_is_down() -> Result<()> {
    Setup::own("noapi", async |setup| {
        let mut agent = setup.agent(&["run"], QUICK)?;
        setup.secret_is(&mut agent, "password", "Losungwort").await?;
        setup.servers.kube.stop().await?;
        for round in 0..3 {
            let password = format!("ohne-Schnittstelle-{round}");
            setup.case.put(&login("Nutzername", &password)).await?;
            setup.file_is(&mut agent, "password", &password).await?;
        }
        agent.wait_for_log("ApiUnavailable", SOON).await?;
        setup.servers.kube.start_again(&setup.servers.watchdog).await?;
        // The mirror is updated to the last set and skips the earlier ones.
        wait_until("the Secret has the last password", Duration::from_secs(90), || async {
            let data = setup.secret().await.ok()??;
            (data["password"] == "ohne-Schnittstelle-2").then_some(())
        })
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn once_exits_at_deadline_if_vault_is_unreachable() -> Result<()> {
    Setup::own("absent", async |setup| {
        setup.servers.vault.stop().await?;
        let mut agent = setup.agent(&["once", "--timeout", "2s"], &[])?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(69), "{}", agent.report());
        Ok(())
    })
    .await
}
