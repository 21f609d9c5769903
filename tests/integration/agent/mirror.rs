//! The mirrored Secret.

use anyhow::Result;
use serde_json::json;

use crate::setup::{QUICK, SOON, Setup, login};

#[tokio::test]
async fn unmanaged_secret_is_rejected_and_left_unchanged() -> Result<()> {
    Setup::shared("foreign", async |setup| {
        let theirs = "apiVersion: v1\nkind: Secret\nmetadata: {name: top-secret-ks}\nstringData: {other: fremd}\n";
        setup.case.cluster.apply(&setup.case.namespace, theirs).await?;
        let before = setup.case.cluster.secret(&setup.case.namespace, "top-secret-ks").await?;
        let mut agent = setup.agent(&["run"], QUICK)?;
        setup.condition_is(&mut agent, "Mirrored", "False", "Foreign").await?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        setup.case.put(&login("Nutzername", "geheim-vor-Fremden")).await?;
        setup.file_is(&mut agent, "password", "geheim-vor-Fremden").await?;
        let after = setup.case.cluster.secret(&setup.case.namespace, "top-secret-ks").await?;
        assert_eq!(before, after, "unchanged, including its resourceVersion");
        let mut once = setup.agent(&["once"], &[("KEYFERRY_DIRECTORY", &sibling(setup, "once"))])?;
        assert_eq!(once.wait(SOON).await?.code(), Some(73), "{}", once.report());
        Ok(())
    })
    .await
}

/// Another directory in the same volume, for a second agent.
fn sibling(setup: &Setup<'_>, name: &str) -> String {
    setup.case.directory.with_file_name(name).display().to_string()
}

#[tokio::test]
async fn agents_write_shared_secret_once_per_version() -> Result<()> {
    Setup::shared("two", async |setup| {
        let mut one = setup.agent(&["run"], QUICK)?;
        let mut two = setup.agent(&["run"], &[QUICK[0], ("KEYFERRY_DIRECTORY", &sibling(setup, "two"))])?;
        setup.secret_is(&mut one, "password", "Losungwort").await?;
        for round in 1..=5 {
            let password = format!("Runde-{round}");
            setup.case.put(&login("Nutzername", &password)).await?;
            setup.secret_is(&mut one, "password", &password).await?;
        }
        two.wait_for("both have seen the last round", SOON, || async {
            let text = std::fs::read_to_string(sibling(setup, "two") + "/password").ok()?;
            (text == "Runde-5" && setup.case.read("password")? == "Runde-5").then_some(())
        })
        .await?;
        // The drain finishes running writes, so that nothing is written after the count.
        one.terminate(SOON).await?;
        two.terminate(SOON).await?;
        let count = |text: &str| {
            let lines = [one.log(), two.log()].concat();
            lines.iter().filter(|line| line.contains(text)).count()
        };
        assert_eq!(count("created Secret "), 1, "{}{}", one.report(), two.report());
        assert_eq!(count("updated Secret "), 5, "one write per version: {}{}", one.report(), two.report());
        assert_eq!(setup.secret().await?.expect("there")["password"], "Runde-5");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn missing_rbac_is_reported_and_files_are_delivered() -> Result<()> {
    Setup::shared("norbac", async |setup| {
        let nothing = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: keyferry}\nrules: []\n";
        setup.case.cluster.apply(&setup.case.namespace, nothing).await?;
        let mut agent = setup.agent(&["run"], QUICK)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        agent.wait_for_log("resources: [pods/status], verbs: [patch]", SOON).await?;
        agent
            .wait_for_log("resources: [secrets], resourceNames: [top-secret-ks], verbs: [create, patch]", SOON)
            .await?;
        setup.case.put(&login("Nutzername", "trotzdem")).await?;
        setup.file_is(&mut agent, "password", "trotzdem").await?;
        let reports = agent.log().iter().filter(|line| line.contains("pods/status")).count();
        assert!(reports <= 4, "reported once, not at each refresh: {}", agent.report());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn typed_secret_has_keys_labels_and_owner() -> Result<()> {
    Setup::shared("typed", async |setup| {
        let document = format!(
            "sources: {{webapp: {{path: {}}}}}\nmirrors:\n  top-secret-ks:\n    type: kubernetes.io/basic-auth\n    \
         labels: {{team: blue}}\n    annotations: {{note: mirrored}}\n    \
         owner: {{apiVersion: v1, kind: Pod, name: {}, uid: {}}}\n",
            setup.case.secret_path(),
            setup.case.pod_name,
            setup.case.pod_uid
        );
        let mut agent = setup.agent_with(&["once"], &document)?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(0), "{}", agent.report());
        let secret = setup.case.cluster.secret(&setup.case.namespace, "top-secret-ks").await?.expect("there");
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/basic-auth"));
        assert_eq!(secret.metadata.labels.as_ref().expect("labels")["team"], "blue");
        assert_eq!(secret.metadata.owner_references.as_ref().expect("an owner")[0].uid, setup.case.pod_uid);
        // Data without the keys that the type requires is not sent to the API server.
        setup.case.put(&json!({"unrelated": "passt-nicht"})).await?;
        let mut agent = setup.agent_with(&["once"], &document)?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(64), "{}", agent.report());
        Ok(())
    })
    .await
}
