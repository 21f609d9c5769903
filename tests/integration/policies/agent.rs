//! The agent under all policies at once.

use anyhow::Result;
use serde_json::{Value, json};

use super::setup::{MOUNTS, STATUS, WRITERS, wait_until_enforced};
use crate::setup::{QUICK, SOON, Setup, login};

/// The shipped Namespace manifest with another name.
fn shipped(namespace: &str) -> Result<String> {
    let mut object: Value = serde_saphyr::from_str(include_str!("../../../deploy/manifests/namespace.yaml"))?;
    object["metadata"]["name"] = json!(namespace);
    Ok(object.to_string())
}

#[tokio::test]
async fn agent_mirrors_and_reports_under_all_policies() -> Result<()> {
    Setup::shared("policies", async |setup| {
        let case = &setup.case;
        case.cluster.apply("", &shipped(&case.namespace)?).await?;
        wait_until_enforced(setup.servers, &case.cluster, &case.namespace, &[STATUS, WRITERS, MOUNTS]).await?;
        let mut agent = setup.agent(&["run"], QUICK)?;
        setup.condition_is(&mut agent, "SecretsReady", "True", "Published").await?;
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        setup.secret_is(&mut agent, "password", "Losungwort").await?;
        case.put(&login("Nutzername", "Stichwort")).await?;
        setup.file_is(&mut agent, "password", "Stichwort").await?;
        setup.secret_is(&mut agent, "password", "Stichwort").await?;
        agent
            .wait_for("an Event is recorded", SOON, || async {
                let events = case.cluster.events(&case.namespace).await.ok()?;
                events.iter().any(|event| event.involved_object.name.as_ref() == Some(&case.pod_name)).then_some(())
            })
            .await?;
        agent.terminate(SOON).await?;
        let log = agent.log();
        assert!(!log.iter().any(|line| line.contains("Forbidden")), "{}", agent.report());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn agent_reports_forbidden_if_secret_is_not_listed() -> Result<()> {
    Setup::shared("unnamed", async |setup| {
        let case = &setup.case;
        let mut namespace: Value = serde_saphyr::from_str(&shipped(&case.namespace)?)?;
        namespace["metadata"]["annotations"]["keyferry.dev/secret-writers"] = json!("secret-privileged-sa=another");
        case.cluster.apply("", &namespace.to_string()).await?;
        wait_until_enforced(setup.servers, &case.cluster, &case.namespace, &[STATUS, WRITERS, MOUNTS]).await?;
        let mut agent = setup.agent(&["run"], QUICK)?;
        setup.condition_is(&mut agent, "SecretsReady", "True", "Published").await?;
        setup.condition_is(&mut agent, "Mirrored", "False", "Forbidden").await?;
        assert_eq!(setup.secret().await?, None);
        // The condition names the annotation.
        let conditions = case.cluster.conditions(&case.namespace, &case.pod_name).await?;
        let mirrored = conditions.iter().find(|condition| condition.type_ == "keyferry.dev/Mirrored");
        let message = mirrored.and_then(|condition| condition.message.clone()).unwrap_or_default();
        assert!(message.contains("keyferry.dev/secret-writers"), "{message}");
        Ok(())
    })
    .await
}
