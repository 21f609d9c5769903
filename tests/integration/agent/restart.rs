//! Restarts: adoption of the set of an earlier process, and output directories that were changed in the meantime.

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::leased::{allow, data_path, put_secret};
use crate::setup::{QUICK, SOON, Setup, login};
use crate::testbed::free_port;

#[tokio::test]
async fn restarted_agent_adopts_set_during_outage_and_stays_ready() -> Result<()> {
    Setup::own("adoption", async |setup| {
        let document = format!(
            "sources: {{webapp: {{path: {}, refresh: 1s}}}}\nretry: {{base: 200ms, max: 1s, slow: 1s}}\n\
             mirrors: {{top-secret-ks: {{}}}}\n",
            setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        let set = std::fs::read_link(setup.case.directory.join("..data"))?;
        setup.servers.vault.stop().await?;
        agent.kill().await?;

        let listen = format!("127.0.0.1:{}", free_port()?);
        let changes = [
            ("KEYFERRY_SECRETS", ""),
            ("KEYFERRY_MIRROR", ""),
            ("KEYFERRY_CONFIG_INLINE", &document),
            ("KEYFERRY_LISTEN", &listen),
        ];
        let mut agent = setup.agent(&["run"], &changes)?;
        setup.condition_is(&mut agent, "SecretsReady", "True", "Adopted").await?;
        let metrics = reqwest::get(format!("http://{listen}/metrics")).await?.text().await?;
        let published = metrics.lines().find_map(|line| line.strip_prefix("keyferry_published_timestamp_seconds "));
        let published: i64 = published.context("the time of the adopted set")?.parse()?;
        let age = jiff::Timestamp::now().as_second() - published;
        assert!((0..60).contains(&age), "the set was published {age} s ago");
        assert!(!metrics.contains("keyferry_source_stale{"), "unknown before the first read: {metrics}");
        agent
            .wait_for("SecretsFresh reports the cause", SOON, || async {
                (setup.condition("SecretsFresh").await? == ("False".into(), "Adopted".into())).then_some(())?;
                setup.message("SecretsFresh").await?.contains("failed to reach Vault").then_some(())
            })
            .await?;
        println!("{:?}\n{:?}", setup.message("SecretsReady").await, setup.message("SecretsFresh").await);
        for what in ["startup", "ready", "live"] {
            let mut probe = setup.agent(&["probe", what], &[])?;
            assert_eq!(probe.wait(SOON).await?.code(), Some(0), "{what}: {}", probe.report());
        }
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"));
        assert_eq!(std::fs::read_link(setup.case.directory.join("..data"))?, set, "not published again");

        setup.servers.vault.start_again(&setup.servers.watchdog).await?;
        setup.condition_is(&mut agent, "SecretsReady", "True", "Published").await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        assert_eq!(std::fs::read_link(setup.case.directory.join("..data"))?, set, "the same bytes are the same set");
        // If SecretsReady became False, the pod would be removed from its Service.
        let flapped = agent.log().into_iter().find(|line| line.contains("SecretsReady") && line.contains("\"False\""));
        assert_eq!(flapped, None);
        setup.case.put(&login("Nutzername", "nach-dem-Ausfall")).await?;
        setup.file_is(&mut agent, "password", "nach-dem-Ausfall").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn removed_directory_is_recreated() -> Result<()> {
    Setup::shared("removed", async |setup| {
        let mut agent = setup.agent(&["run"], QUICK)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        std::fs::remove_dir_all(&setup.case.directory)?;
        setup.case.put(&login("Nutzername", "wieder-angelegt")).await?;
        setup.file_is(&mut agent, "password", "wieder-angelegt").await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        let mut probe = setup.agent(&["probe", "ready"], &[])?;
        assert_eq!(probe.wait(SOON).await?.code(), Some(0), "{}{}", probe.report(), agent.report());
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn second_agent_on_same_directory_exits_and_names_first() -> Result<()> {
    Setup::shared("twoagents", async |setup| {
        allow(setup, &[&data_path(setup, "*")]).await?;
        put_secret(setup, "other", json!({"theirs": "des-zweiten"})).await?;
        let mut first = setup.agent(&["run"], &[QUICK[0], ("KEYFERRY_MIRROR", "")])?;
        setup.file_is(&mut first, "password", "Losungwort").await?;
        let document = format!(
            "sources: {{other: {{path: {}/other, refresh: 1s}}}}\nstatus: {{conditions: false, events: false}}\n",
            setup.case.kv_mount
        );
        let mut second = setup.agent_with(&["run"], &document)?;
        assert_eq!(second.wait(SOON).await?.code(), Some(74), "{}", second.report());
        let report = second.report();
        assert!(
            report.contains("DirectoryUnusable") && report.contains(&format!("another agent (PID {})", first.id())),
            "{report}"
        );
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"), "the files of the first agent stay");
        setup.case.put(&login("Nutzername", "der-erste-arbeitet")).await?;
        setup.file_is(&mut first, "password", "der-erste-arbeitet").await?;
        assert_eq!(setup.case.read("theirs"), None);
        // After the exit of the first agent, the directory is free.
        first.kill().await?;
        let mut second = setup.agent_with(&["run"], &document)?;
        setup.file_is(&mut second, "theirs", "des-zweiten").await?;
        second.terminate(SOON).await?;
        Ok(())
    })
    .await
}
