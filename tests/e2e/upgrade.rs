//! Upgrades of a release with running pods: to a role that cannot log in, back, and to another role that can.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::helm::Helm;
use crate::setup::{ACCOUNT, Setup, condition, containers, is_ready, message, name};
use crate::testbed::reference_scenario::AUDIENCE;

impl Setup {
    /// Waits for a fact about each of these pods.
    async fn wait_for_each(&self, pods: &[String], what: &str, fact: impl Fn(&Pod) -> bool) -> Result<()> {
        for pod in pods {
            self.wait_for(&format!("{pod}: {what}"), || async {
                self.pod(pod).await.ok()?.filter(|pod| fact(pod)).map(|_| ())
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until there are two pods, both Ready, and none of them is one of `old`.
    async fn two_ready_pods(&self, what: &str, old: &[String]) -> Result<Vec<String>> {
        self.wait_for(what, || async {
            let pods = self.pods_of("webapp").await.ok()?;
            let right = pods.len() == 2 && pods.iter().all(|pod| is_ready(pod) && !old.contains(&name(pod)));
            right.then(|| pods.iter().map(name).collect())
        })
        .await
    }

    async fn accessors(&self) -> Result<BTreeSet<String>> {
        Ok(self.vault.accessors_of(&self.mount()).await?.into_iter().collect())
    }
}

fn fresh(pod: &Pod) -> Option<(String, String)> {
    condition(pod, "keyferry.dev/SecretsFresh")
}

#[tokio::test]
async fn upgrade_to_unknown_role_keeps_logins_of_running_pods() -> Result<()> {
    let test = "upgrade_to_unknown_role_keeps_logins_of_running_pods";
    let Some(helm) = Helm::shared(test) else { return Ok(()) };
    Setup::shared(test, async |setup| {
        setup.install(helm, &["replicas=2"]).await?;
        let pods = setup.two_ready_pods("both replicas are Ready", &[]).await?;
        let logins = setup.accessors().await?;
        assert_eq!(logins.len(), 2);

        // An unknown role: new pods do not start, running pods keep their session.
        let upgraded = Instant::now();
        setup.install(helm, &["replicas=2", "keyferry.auth.role=unknown-role"]).await?;
        let rejected = |pod: &Pod| fresh(pod) == Some(("False".into(), "ConfigRejected".into()));
        setup.wait_for_each(&pods, "the new configuration is rejected", rejected).await?;
        println!("both pods have rejected the configuration {:.1?} after the upgrade", upgraded.elapsed());
        for pod in &pods {
            let now = setup.pod(pod).await?.context("the pod")?;
            ensure!(is_ready(&now), "{pod} is not Ready");
            let why = message(&now, "keyferry.dev/SecretsFresh").unwrap_or_default();
            ensure!(why.contains("invalid role name") && why.contains("previous configuration stays active"), "{why}");
            let selector = format!("involvedObject.name={pod},reason=ConfigRejected");
            let events = setup.kubectl(&[
                "get",
                "events",
                "--field-selector",
                &selector,
                "--output=jsonpath={range .items[*]}{.type} {.message}\n{end}",
            ])?;
            ensure!(events.starts_with("Warning ") && events.contains("invalid role name"), "{pod}: {events}");
        }
        setup.put("Nutzername", "trotzdem").await?;
        for pod in &pods {
            setup.file_is(pod, "password", "trotzdem").await?;
        }
        setup.secret_is("password", "trotzdem").await?;
        assert_eq!(setup.accessors().await?, logins, "the same logins");
        setup
            .wait_for("the changed template creates a new pod, which cannot log in", || async {
                let all = setup.pods_of("webapp").await.ok()?;
                let new = all.iter().find(|pod| !pods.contains(&name(pod)))?;
                let ready = condition(new, "keyferry.dev/SecretsReady")?;
                (ready == ("False".into(), "LoginRefused".into())).then_some(())
            })
            .await?;

        // Roll back.
        let back = Instant::now();
        setup.install(helm, &["replicas=2"]).await?;
        setup
            .wait_for_each(&pods, "everything is fresh", |pod| fresh(pod) == Some(("True".into(), "Fresh".into())))
            .await?;
        println!("fresh {:.1?} after the rollback", back.elapsed());
        let mut same = setup.two_ready_pods("the new pod is gone", &[]).await?;
        let mut before = pods.clone();
        same.sort();
        before.sort();
        assert_eq!(same, before, "no pod was replaced");
        for pod in &pods {
            let now = setup.pod(pod).await?.context("the pod")?;
            ensure!(containers(&now).iter().all(|status| status.restart_count == 0), "{pod}");
        }
        assert_eq!(setup.accessors().await?, logins);

        // Another existing role: the changed checksum replaces the pods.
        let other = format!("{}-other", setup.unique);
        let bound = json!({"audience": AUDIENCE, "bound_service_account_names": [ACCOUNT],
            "bound_service_account_namespaces": [setup.namespace], "token_policies": [setup.unique]});
        setup.vault.role(&setup.mount(), &other, bound).await?;
        let role = format!("keyferry.auth.role={other}");
        setup.install(helm, &["replicas=2", &role]).await?;
        let new = setup.two_ready_pods("two new pods are Ready", &pods).await?;
        for pod in &new {
            assert_eq!(setup.file(pod, "password").as_deref(), Some("trotzdem"));
        }
        Ok(())
    })
    .await
}
