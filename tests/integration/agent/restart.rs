//! A set that an earlier process published, and directories that are not as the agent left them.

use anyhow::Result;
use serde_json::json;

use crate::leased::{allow, data_path, put_secret};
use crate::stage::{QUICK, SOON, Stage, login};

#[tokio::test]
async fn an_agent_that_is_killed_while_vault_is_away_adopts_the_set_and_stays_ready() -> Result<()> {
    Stage::own("adopts", async |stage| {
        let document = format!(
            "sources: {{webapp: {{path: {}, refresh: 1s}}}}\nretry: {{base: 200ms, max: 1s, slow: 1s}}\n\
             mirrors: {{top-secret-ks: {{}}}}\n",
            stage.case.secret_path()
        );
        let mut agent = stage.agent_with(&["run"], &document)?;
        stage.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        let set = std::fs::read_link(stage.case.directory.join("..data"))?;
        stage.servers.vault.stop().await?;
        agent.kill().await?;

        let mut agent = stage.agent_with(&["run"], &document)?;
        stage.condition_is(&mut agent, "SecretsReady", "True", "Adopted").await?;
        agent
            .wait_for("SecretsFresh says why", SOON, || async {
                (stage.condition("SecretsFresh").await? == ("False".into(), "Adopted".into())).then_some(())?;
                stage.message("SecretsFresh").await?.contains("failed to reach Vault").then_some(())
            })
            .await?;
        println!("{:?}\n{:?}", stage.message("SecretsReady").await, stage.message("SecretsFresh").await);
        for what in ["startup", "ready", "live"] {
            let mut probe = stage.agent(&["probe", what], &[])?;
            assert_eq!(probe.wait(SOON).await?.code(), Some(0), "{what}: {}", probe.report());
        }
        assert_eq!(stage.case.read("password").as_deref(), Some("Losungwort"));
        assert_eq!(std::fs::read_link(stage.case.directory.join("..data"))?, set, "not published again");

        stage.servers.vault.start_again(&stage.servers.watchdog).await?;
        stage.condition_is(&mut agent, "SecretsReady", "True", "Published").await?;
        stage.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        assert_eq!(std::fs::read_link(stage.case.directory.join("..data"))?, set, "the same bytes are the same set");
        // A change of SecretsReady would take the pod out of its Service.
        let flapped = agent.log().into_iter().find(|line| line.contains("SecretsReady") && line.contains("\"False\""));
        assert_eq!(flapped, None);
        stage.case.put(&login("Nutzername", "nach-dem-Ausfall")).await?;
        stage.file_is(&mut agent, "password", "nach-dem-Ausfall").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_directory_that_somebody_removed_is_created_again() -> Result<()> {
    Stage::shared("removed", async |stage| {
        let mut agent = stage.agent(&["run"], QUICK)?;
        stage.file_is(&mut agent, "password", "Losungwort").await?;
        std::fs::remove_dir_all(&stage.case.directory)?;
        stage.case.put(&login("Nutzername", "wieder-angelegt")).await?;
        stage.file_is(&mut agent, "password", "wieder-angelegt").await?;
        stage.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        let mut probe = stage.agent(&["probe", "ready"], &[])?;
        assert_eq!(probe.wait(SOON).await?.code(), Some(0), "{}{}", probe.report(), agent.report());
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_second_agent_on_the_same_directory_ends_and_names_the_first() -> Result<()> {
    Stage::shared("twoagents", async |stage| {
        allow(stage, &[&data_path(stage, "*")]).await?;
        put_secret(stage, "other", json!({"theirs": "des-zweiten"})).await?;
        let mut first = stage.agent(&["run"], &[QUICK[0], ("KEYFERRY_MIRROR", "")])?;
        stage.file_is(&mut first, "password", "Losungwort").await?;
        let document = format!(
            "sources: {{other: {{path: {}/other, refresh: 1s}}}}\nstatus: {{conditions: false, events: false}}\n",
            stage.case.kv_mount
        );
        let mut second = stage.agent_with(&["run"], &document)?;
        assert_eq!(second.wait(SOON).await?.code(), Some(74), "{}", second.report());
        let said = second.report();
        assert!(
            said.contains("DirectoryUnusable") && said.contains(&format!("another agent (pid {})", first.id())),
            "{said}"
        );
        assert_eq!(stage.case.read("password").as_deref(), Some("Losungwort"), "the first one's files stay");
        stage.case.put(&login("Nutzername", "der-erste-arbeitet")).await?;
        stage.file_is(&mut first, "password", "der-erste-arbeitet").await?;
        assert_eq!(stage.case.read("theirs"), None);
        // When the first one is gone, the directory is free.
        first.kill().await?;
        let mut second = stage.agent_with(&["run"], &document)?;
        stage.file_is(&mut second, "theirs", "des-zweiten").await?;
        second.terminate(SOON).await?;
        Ok(())
    })
    .await
}
