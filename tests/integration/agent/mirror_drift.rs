//! The mirrored Secret after others delete, edit or restore it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::setup::{QUICK, SOON, Setup, login};
use crate::testbed::Agent;

/// One minute, and a margin for a loaded machine.
const RESYNC_TIMEOUT: Duration = Duration::from_secs(70);

fn secrets(setup: &Setup<'_>) -> Api<Secret> {
    Api::namespaced(setup.case.cluster.client.clone(), &setup.case.namespace)
}

/// The shipped permissions, for these Secrets.
async fn permit_writes(setup: &Setup<'_>, names: &[&str]) -> Result<()> {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "keyferry"},
        "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["create", "patch"]},
            {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
            {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
        ],
    });
    setup.case.cluster.apply(&setup.case.namespace, &role.to_string()).await
}

async fn data(setup: &Setup<'_>, name: &str) -> Result<Option<BTreeMap<String, String>>> {
    let secret = secrets(setup).get_opt(name).await?;
    Ok(secret.map(|secret| {
        let data = secret.data.unwrap_or_default().into_iter();
        data.map(|(key, bytes)| (key, String::from_utf8_lossy(&bytes.0).into_owned())).collect()
    }))
}

/// Waits until this Secret contains exactly the data of the reference scenario; returns the time since `since`.
async fn wait_until_restored(setup: &Setup<'_>, agent: &mut Agent, name: &str, since: Instant) -> Result<Duration> {
    let wanted: BTreeMap<_, _> = [("username", "Nutzername"), ("password", "Losungwort")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    agent
        .wait_for(&format!("Secret {name} is restored"), RESYNC_TIMEOUT, || async {
            (data(setup, name).await.ok()?? == wanted).then_some(())
        })
        .await?;
    Ok(since.elapsed())
}

/// Deletes and re-creates a Secret as a backup tool does, without the fields that the API server manages.
async fn restore(setup: &Setup<'_>, name: &str) -> Result<()> {
    let mut object = serde_json::to_value(secrets(setup).get(name).await?)?;
    let metadata = object["metadata"].as_object_mut().context("metadata")?;
    for field in ["managedFields", "uid", "resourceVersion", "creationTimestamp"] {
        metadata.remove(field);
    }
    secrets(setup).delete(name, &DeleteParams::default()).await?;
    let restored: Secret = serde_json::from_value(object)?;
    let by = PostParams { field_manager: Some("kubectl-create".into()), ..PostParams::default() };
    secrets(setup).create(&by, &restored).await?;
    Ok(())
}

async fn patch(setup: &Setup<'_>, name: &str, change: &Value) -> Result<()> {
    let by = PatchParams { field_manager: Some("kubectl-patch".into()), ..PatchParams::default() };
    secrets(setup).patch(name, &by, &Patch::Merge(change)).await?;
    Ok(())
}

#[tokio::test]
async fn deleted_edited_and_restored_secrets_converge_within_one_minute() -> Result<()> {
    Setup::shared("drift", async |setup| {
        let names = ["deleted", "edited", "restored"];
        permit_writes(setup, &names).await?;
        // The default `refresh`: nothing changes in Vault, so only the resync can restore the Secrets.
        let document = format!(
            "sources: {{webapp: {{path: {}}}}}\nmirrors: {{deleted: {{}}, edited: {{}}, restored: {{adopt: true}}}}\n",
            setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        let since = Instant::now();
        secrets(setup).delete("deleted", &DeleteParams::default()).await?;
        patch(setup, "edited", &json!({"stringData": {"password": "von-fremder-Seite", "extra": "auch-von-dort"}}))
            .await?;
        restore(setup, "restored").await?;
        for name in names {
            let took = wait_until_restored(setup, &mut agent, name, since).await?;
            println!("{name}: restored after {took:?}");
        }
        agent
            .wait_for("the restored Secret is adopted", RESYNC_TIMEOUT, || async {
                let managers = secrets(setup).get("restored").await.ok()?.metadata.managed_fields?;
                managers.into_iter().any(|entry| entry.manager.as_deref() == Some("keyferry")).then_some(())
            })
            .await?;
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        println!("{:#?}", agent.log().iter().filter(|line| line.contains("mirror")).collect::<Vec<_>>());
        println!("{:#?}", setup.events("Normal").await?);
        println!("{:#?}", setup.events("Warning").await?);
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn restored_secret_without_adopt_is_rejected_with_remedy() -> Result<()> {
    Setup::shared("restored", async |setup| {
        let mut agent = setup.agent(&["run"], QUICK)?;
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        restore(setup, "top-secret-ks").await?;
        setup.case.put(&login("Nutzername", "nach-der-Sicherung")).await?;
        setup.file_is(&mut agent, "password", "nach-der-Sicherung").await?;
        setup.condition_is(&mut agent, "Mirrored", "False", "Foreign").await?;
        let message = setup.message("Mirrored").await.unwrap_or_default();
        println!("{message}");
        assert!(message.contains("adopt"), "{message}");
        assert_eq!(
            setup.secret().await?.context("the Secret exists")?["password"],
            "Losungwort",
            "the Secret is left unchanged"
        );
        // After a deletion, the agent creates it again.
        secrets(setup).delete("top-secret-ks", &DeleteParams::default()).await?;
        let since = Instant::now();
        agent
            .wait_for("the Secret is re-created", RESYNC_TIMEOUT, || async {
                (data(setup, "top-secret-ks").await.ok()??["password"] == "nach-der-Sicherung").then_some(())
            })
            .await?;
        println!("re-created after {:?}", since.elapsed());
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn conflicting_configurations_do_not_overwrite_each_other_in_turns() -> Result<()> {
    Setup::shared("twokeys", async |setup| {
        let document = |key: &str| {
            format!(
                "sources: {{webapp: {{path: {}, refresh: 1s}}}}\n\
                 mirrors: {{top-secret-ks: {{keys: {{{key}: {key}}}}}}}\n",
                setup.case.secret_path()
            )
        };
        let mut one = setup.agent_with(&["run"], &document("username"))?;
        setup.secret_is(&mut one, "username", "Nutzername").await?;
        let directory = setup.case.directory.with_file_name("two").display().to_string();
        let inline = document("password");
        let changes = [
            ("KEYFERRY_SECRETS", ""),
            ("KEYFERRY_MIRROR", ""),
            ("KEYFERRY_DIRECTORY", directory.as_str()),
            ("KEYFERRY_CONFIG_INLINE", inline.as_str()),
        ];
        let mut two = setup.agent(&["run"], &changes)?;
        setup.secret_is(&mut two, "password", "Losungwort").await?;
        // Rotations cause both agents to compare the Secret; its keys must not change again.
        let mut seen = Vec::new();
        for round in 0..4 {
            setup.case.put(&login(&format!("Nutzer-Runde-{round}"), &format!("Losung-Runde-{round}"))).await?;
            setup.file_is(&mut one, "username", &format!("Nutzer-Runde-{round}")).await?;
            let until = Instant::now() + Duration::from_secs(1);
            while Instant::now() < until {
                let keys: BTreeSet<String> =
                    data(setup, "top-secret-ks").await?.unwrap_or_default().into_keys().collect();
                if seen.last() != Some(&keys) {
                    seen.push(keys);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        println!("the Secret's keys over four rotations: {seen:?}");
        assert_eq!(seen.len(), 1, "{seen:?}\n{}{}", one.report(), two.report());
        let line = one.wait_for_log("MirrorConflict", SOON).await?;
        println!("{line}");
        setup.secret_is(&mut two, "password", "Losung-Runde-3").await?;
        one.terminate(SOON).await?;
        two.terminate(SOON).await?;
        Ok(())
    })
    .await
}
