//! The mirrored Secret.

use anyhow::Result;
use serde_json::json;

use crate::stage::{QUICK, SOON, Stage, login};

#[tokio::test]
async fn a_foreign_secret_of_the_same_name_is_refused_and_untouched() -> Result<()> {
    Stage::shared("foreign", async |stage| {
        let theirs = "apiVersion: v1\nkind: Secret\nmetadata: {name: top-secret-ks}\nstringData: {other: fremd}\n";
        stage.case.cluster.apply(&stage.case.namespace, theirs).await?;
        let before = stage.case.cluster.secret(&stage.case.namespace, "top-secret-ks").await?;
        let mut agent = stage.agent(&["run"], QUICK)?;
        stage.condition_is(&mut agent, "Mirrored", "False", "Foreign").await?;
        stage.file_is(&mut agent, "password", "Losungwort").await?;
        stage.case.put(&login("Nutzername", "geheim-vor-Fremden")).await?;
        stage.file_is(&mut agent, "password", "geheim-vor-Fremden").await?;
        let after = stage.case.cluster.secret(&stage.case.namespace, "top-secret-ks").await?;
        assert_eq!(before, after, "untouched, its version too");
        let mut once = stage.agent(&["once"], &[("KEYFERRY_DIRECTORY", &sibling(stage, "once"))])?;
        assert_eq!(once.wait(SOON).await?.code(), Some(73), "{}", once.report());
        Ok(())
    })
    .await
}

/// Another directory in the same memory, for a second agent.
fn sibling(stage: &Stage<'_>, name: &str) -> String {
    stage.case.directory.with_file_name(name).display().to_string()
}

#[tokio::test]
async fn two_agents_write_one_secret_once_per_version() -> Result<()> {
    Stage::shared("two", async |stage| {
        let mut one = stage.agent(&["run"], QUICK)?;
        let mut two = stage.agent(&["run"], &[QUICK[0], ("KEYFERRY_DIRECTORY", &sibling(stage, "two"))])?;
        stage.secret_is(&mut one, "password", "Losungwort").await?;
        for round in 1..=5 {
            let password = format!("Runde-{round}");
            stage.case.put(&login("Nutzername", &password)).await?;
            stage.secret_is(&mut one, "password", &password).await?;
        }
        two.wait_for("both have seen the last round", SOON, || async {
            let text = std::fs::read_to_string(sibling(stage, "two") + "/password").ok()?;
            (text == "Runde-5" && stage.case.read("password")? == "Runde-5").then_some(())
        })
        .await?;
        // The drain finishes what runs, so that nothing is written after the count.
        one.terminate(SOON).await?;
        two.terminate(SOON).await?;
        let count = |text: &str| {
            let lines = [one.log(), two.log()].concat();
            lines.iter().filter(|line| line.contains(text)).count()
        };
        assert_eq!(count("created Secret "), 1, "{}{}", one.report(), two.report());
        assert_eq!(count("updated Secret "), 5, "one write per version: {}{}", one.report(), two.report());
        assert_eq!(stage.secret().await?.expect("there")["password"], "Runde-5");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_rbac_the_agent_says_so_and_still_delivers_files() -> Result<()> {
    Stage::shared("norbac", async |stage| {
        let nothing = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: keyferry}\nrules: []\n";
        stage.case.cluster.apply(&stage.case.namespace, nothing).await?;
        let mut agent = stage.agent(&["run"], QUICK)?;
        stage.file_is(&mut agent, "password", "Losungwort").await?;
        agent.wait_for_log("resources: [pods/status], verbs: [patch]", SOON).await?;
        agent
            .wait_for_log("resources: [secrets], resourceNames: [top-secret-ks], verbs: [create, patch]", SOON)
            .await?;
        stage.case.put(&login("Nutzername", "trotzdem")).await?;
        stage.file_is(&mut agent, "password", "trotzdem").await?;
        let reports = agent.log().iter().filter(|line| line.contains("pods/status")).count();
        assert!(reports <= 4, "said once, not each round: {}", agent.report());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_typed_secret_has_its_keys_labels_and_owner() -> Result<()> {
    Stage::shared("typed", async |stage| {
        let document = format!(
            "sources: {{webapp: {{path: {}}}}}\nmirrors:\n  top-secret-ks:\n    type: kubernetes.io/basic-auth\n    \
         labels: {{team: blue}}\n    annotations: {{note: mirrored}}\n    \
         owner: {{apiVersion: v1, kind: Pod, name: {}, uid: {}}}\n",
            stage.case.secret_path(),
            stage.case.pod_name,
            stage.case.pod_uid
        );
        let mut agent = stage.agent_with(&["once"], &document)?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(0), "{}", agent.report());
        let secret = stage.case.cluster.secret(&stage.case.namespace, "top-secret-ks").await?.expect("there");
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/basic-auth"));
        assert_eq!(secret.metadata.labels.as_ref().expect("labels")["team"], "blue");
        assert_eq!(secret.metadata.owner_references.as_ref().expect("an owner")[0].uid, stage.case.pod_uid);
        // A secret that lacks what the type needs never reaches the API server.
        stage.case.put(&json!({"unrelated": "passt-nicht"})).await?;
        let mut agent = stage.agent_with(&["once"], &document)?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(64), "{}", agent.report());
        Ok(())
    })
    .await
}
