//! Pods during a Vault outage, and the exit report of an agent that stops before its first set.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use serde_json::json;

use crate::manifest::{IDLE, Object};
use crate::setup::{Setup, condition, container, containers, is_ready, message, name};

/// Time between two observations of the pod.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum time that the pod is unready because the kubelet restarts one of its containers. The kubelet runs a startup
/// probe once per second and notices an exited container within another second.
const RESTART: Duration = Duration::from_secs(20);

/// Observes a pod until `until` completes: the time that it was not Ready, and each status of its readiness gate other than
/// `True`.
async fn observe_until(
    setup: &Setup,
    pod: &str,
    until: impl Future<Output = Result<()>>,
) -> Result<(Duration, Vec<String>)> {
    let (mut unready, mut gates) = (Duration::ZERO, Vec::new());
    let mut until = std::pin::pin!(until);
    let mut last = Instant::now();
    loop {
        tokio::select! {
            ended = &mut until => return ended.map(|()| (unready, gates)),
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        let now = setup.pod(pod).await?.context("the pod exists")?;
        if !is_ready(&now) {
            unready += last.elapsed();
        }
        last = Instant::now();
        let gate = condition(&now, "keyferry.dev/SecretsReady").map(|(status, _)| status).unwrap_or_default();
        if gate != "True" {
            gates.push(gate);
        }
    }
}

#[tokio::test]
async fn application_waits_for_vault_that_starts_late() -> Result<()> {
    Setup::with_node_control("application_waits_for_vault_that_starts_late", async |setup| {
        let port = 8301;
        let address = format!("http://{}:{port}", crate::testbed::cluster::SPARE);
        let quick = "retry: {max: 10s}";
        let demo = setup.demo()?.script(IDLE).env("VAULT_ADDR", &address).env("KEYFERRY_CONFIG_INLINE", quick);
        setup.apply(&demo).await?;
        let since = Instant::now();
        let running = |pod: &Pod| container(pod, "keyferry")?.state?.running;
        let (pod, _) = setup.pod_where("webapp", "the agent runs", running).await?;
        let pod = name(&pod);
        setup
            .wait_for("the agent reports why it waits", || async {
                setup.logs(&pod, "keyferry").ok()?.contains("VaultUnreachable").then_some(())
            })
            .await?;
        let not_started = |pod: &Pod| {
            let state = container(pod, "webapp").and_then(|status| status.state);
            state.is_some_and(|state| state.waiting.is_some_and(|why| why.reason.as_deref() == Some("PodInitializing")))
        };
        while since.elapsed() < Duration::from_secs(60) {
            let now = setup.pod(&pod).await?.context("the pod exists")?;
            assert!(not_started(&now) && !is_ready(&now));
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let vault = setup.cluster.spare_vault(false, port).await?;
        setup.seed_vault(&vault.admin()?).await?;
        let started = Instant::now();
        assert_eq!(setup.ready("webapp").await?, pod, "the same pod");
        println!("ready {:.1?} after the start of Vault", started.elapsed());
        assert_eq!(setup.file(&pod, "password").as_deref(), Some("Losungwort"));
        let now = setup.pod(&pod).await?.context("the pod exists")?;
        assert!(containers(&now).iter().all(|status| status.restart_count == 0), "no container was restarted");
        vault.stop().await
    })
    .await
}

#[tokio::test]
async fn agent_killed_during_outage_leaves_pod_ready() -> Result<()> {
    Setup::with_node_control("agent_killed_during_outage_leaves_pod_ready", async |setup| {
        let vault = setup.cluster.spare_vault(false, 8303).await?;
        setup.seed_vault(&vault.admin()?).await?;
        setup.apply(&setup.demo()?.script(IDLE).env("VAULT_ADDR", vault.address_inside())).await?;
        let name = setup.ready("webapp").await?;
        setup.secret_is("password", "Losungwort").await?;
        let before = setup.pod(&name).await?.context("the pod")?;

        vault.stop().await?;
        setup.kill(&before, "/keyferry")?;
        let killed = Instant::now();
        let adopted = async {
            let ready = |pod: &Pod| {
                let agent = container(pod, "keyferry")?;
                let fresh = condition(pod, "keyferry.dev/SecretsFresh")?;
                let done =
                    agent.restart_count == 1 && agent.started == Some(true) && is_ready(pod) && fresh.1 == "Adopted";
                done.then_some(())
            };
            setup.pod_where("webapp", "the pod is Ready with an adopted set", ready).await.map(|_| ())
        };
        let (unready, gates) = observe_until(setup, &name, adopted).await?;
        println!("agent killed during an outage: adopted after {:.1?}, not Ready for {unready:.1?}", killed.elapsed());
        ensure!(gates.is_empty(), "the readiness gate keeps passing: {gates:?}");
        ensure!(unready < RESTART, "not Ready for {unready:?}");
        let now = setup.pod(&name).await?.context("the pod")?;
        assert_eq!(condition(&now, "keyferry.dev/SecretsReady"), Some(("True".into(), "Adopted".into())));
        assert_eq!(condition(&now, "keyferry.dev/SecretsFresh"), Some(("False".into(), "Adopted".into())));
        assert_eq!(container(&now, "webapp").map(|app| app.restart_count), Some(0));
        assert_eq!(
            setup.file(&name, "password").as_deref(),
            Some("Losungwort"),
            "the application still reads the file"
        );

        vault.start_again(&setup.cluster.watchdog).await?;
        let admin = vault.admin()?;
        setup.put_to(&admin, "Nutzername", "nach-dem-Ausfall").await?;
        setup.file_is(&name, "password", "nach-dem-Ausfall").await?;
        let fresh = |pod: &Pod| {
            let (ready, fresh) =
                (condition(pod, "keyferry.dev/SecretsReady")?, condition(pod, "keyferry.dev/SecretsFresh")?);
            (ready.1 == "Published" && fresh == ("True".into(), "Fresh".into()) && is_ready(pod)).then_some(())
        };
        setup.pod_where("webapp", "everything is fresh again", fresh).await?;
        vault.stop().await
    })
    .await
}

/// The demo under another name, with a startup probe that fails after 4 attempts.
fn with_short_startup_probe(demo: Object, app: &str) -> Object {
    demo.script(IDLE).env("KEYFERRY_MIRROR", "").change(|demo| {
        demo.0["metadata"]["name"] = json!(app);
        demo.0["spec"]["selector"]["matchLabels"]["app"] = json!(app);
        demo.0["spec"]["template"]["metadata"]["labels"]["app"] = json!(app);
        demo.agent()["startupProbe"]["failureThreshold"] = json!(4);
    })
}

#[tokio::test]
async fn agent_stopped_before_first_set_reports_cause_and_exit_code() -> Result<()> {
    Setup::shared("agent_stopped_before_first_set_reports_cause_and_exit_code", async |setup| {
        // Nothing listens there.
        let unreachable = format!("http://{}:8309", crate::testbed::cluster::SPARE);
        let missing = format!("secret/{}/none", setup.unique);
        let policy = format!("path \"secret/data/{}/*\" {{ capabilities = [\"read\"] }}", setup.unique);
        setup.vault.policy(&setup.unique, &policy).await?;
        let table = [
            ("unreachable", "VAULT_ADDR", unreachable.as_str(), 69, "VaultUnreachable", "failed to reach Vault at"),
            ("role", "KEYFERRY_ROLE", "unknown-role", 77, "LoginRefused", "invalid role name"),
            ("path", "KEYFERRY_SECRETS", "secret/nothing/here", 77, "Denied", "secret/data/nothing/here"),
            ("missing", "KEYFERRY_SECRETS", &missing, 66, "SecretNotFound", "check the path and the namespace"),
        ];
        for (app, variable, value, ..) in table {
            setup.apply(&with_short_startup_probe(setup.demo()?, app).env(variable, value)).await?;
        }
        for (app, _, _, code, reason, words) in table {
            let ended = |pod: &Pod| -> Option<ContainerStateTerminated> {
                let agent = container(pod, "keyferry")?;
                let last = agent.last_state.and_then(|state| state.terminated);
                last.or_else(|| agent.state?.terminated)
            };
            let (pod, end) = setup.pod_where(app, "the kubelet has stopped the agent", ended).await?;
            assert_eq!(end.exit_code, code, "{app}: {end:?}");
            let last = end.message.unwrap_or_default();
            let line = last
                .lines()
                .find(|line| line.contains("stopped before the first set was published"))
                .unwrap_or_default();
            println!("{app}: {line}");
            ensure!(
                line.contains(reason) && line.contains(words),
                "{app}: the termination message contains no cause: {last}"
            );
            let events = setup.kubectl(&["get", "events", "--output=jsonpath={.items[*].message}"])?;
            ensure!(!events.contains("the published files remain"), "no file was published: {events}");
            assert_eq!(
                condition(&pod, "keyferry.dev/SecretsReady").map(|(status, _)| status).as_deref(),
                Some("False")
            );
            let has_cause = |pod: &Pod| message(pod, "keyferry.dev/SecretsReady")?.contains(words).then_some(());
            setup.pod_where(app, "the condition contains the cause as well", has_cause).await?;
            setup.kubectl(&["delete", "deployment", app, "--wait=false"])?;
        }
        Ok(())
    })
    .await
}
