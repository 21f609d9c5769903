//! Notifications in real pods: a restart of all containers by exit code 88, and a signal to another container.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::manifest::{self, IDLE, Object};
use crate::setup::{Setup, container, is_ready, name};

/// Number of rotations.
const ROUNDS: i32 = 5;

/// Minimum time between two restarts.
const INTERVAL: Duration = Duration::from_secs(10);

/// The demo with a kustomize component, whose configuration is replaced.
fn with_component(demo: Object, component: &str, notify: &str) -> Result<Object> {
    let file = format!("manifests/component/{component}/deployment.yaml");
    let mut component = manifest::one(&file, "Deployment")?;
    let (pod, agent) = (component.pod().clone(), component.agent().clone());
    let demo = demo.change(|demo| {
        if let Some(shared) = pod.get("shareProcessNamespace") {
            demo.pod()["shareProcessNamespace"] = shared.clone();
        }
        if let Some(rules) = agent.get("restartPolicyRules") {
            demo.agent()["restartPolicyRules"] = rules.clone();
        }
        for key in ["runAsUser", "runAsGroup"] {
            if let Some(id) = agent["securityContext"].get(key) {
                demo.agent()["securityContext"][key] = id.clone();
            }
        }
        let env = agent["env"].as_array().expect("a list").clone();
        demo.agent()["env"].as_array_mut().expect("a list").extend(env);
    });
    Ok(demo.env("KEYFERRY_CONFIG_INLINE", notify))
}

/// How often the application was restarted.
fn restarts(pod: &Pod) -> Option<i32> {
    container(pod, "webapp").map(|status| status.restart_count)
}

#[tokio::test]
async fn five_rotations_restart_the_containers_five_times_with_one_login() -> Result<()> {
    Setup::shared("five_rotations_restart_the_containers_five_times_with_one_login", async |setup| {
        let notify =
            format!("notify: {{restart: {{restart: containers, minInterval: {}s, jitter: 0s}}}}", INTERVAL.as_secs());
        let demo = with_component(setup.demo()?.script(IDLE), "restart", &notify)?;
        setup.apply(&demo).await?;
        let pod = setup.ready("webapp").await?;
        let first = setup.pod(&pod).await?.context("the pod")?;
        let accessors = setup.vault.accessors_of(&setup.mount()).await?;
        ensure!(accessors.len() == 1, "one login at the start: {accessors:?}");
        let address = first.status.as_ref().and_then(|status| status.pod_ip.clone());
        for round in 1..=ROUNDS {
            // Rotations that come sooner than the interval would double it.
            tokio::time::sleep(INTERVAL).await;
            let password = format!("nach-der-Rotation-{round}");
            setup.put("Nutzername", &password).await?;
            let rotated = Instant::now();
            let restarted = |pod: &Pod| (restarts(pod) == Some(round) && is_ready(pod)).then_some(());
            let (now, ()) = setup.pod_where("webapp", "all containers have restarted", restarted).await?;
            println!("round {round}: Ready {:.1?} after the rotation", rotated.elapsed());
            assert_eq!((name(&now), &now.metadata.uid), (pod.clone(), &first.metadata.uid), "the same pod");
            assert_eq!(now.status.as_ref().and_then(|status| status.pod_ip.clone()), address, "the same address");
            assert_eq!(container(&now, "keyferry").map(|agent| agent.restart_count), Some(round));
            assert_eq!(setup.file(&pod, "password").as_deref(), Some(password.as_str()));
            assert_eq!(setup.vault.accessors_of(&setup.mount()).await?, accessors, "the same token");
            ensure!(setup.logs(&pod, "keyferry")?.contains("restored the Vault token"));
        }
        // No restart without a rotation.
        tokio::time::sleep(INTERVAL * 2).await;
        let last = setup.pod(&pod).await?.context("the pod")?;
        assert_eq!(restarts(&last), Some(ROUNDS));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn signal_reaches_the_application_in_a_shared_process_namespace() -> Result<()> {
    Setup::shared("signal_reaches_the_application_in_a_shared_process_namespace", async |setup| {
        let notify = "notify: {application: {signal: {process: sh, name: HUP}, debounce: 0s}}";
        let script = "trap 'echo got HUP' HUP; while :; do sleep 1; done";
        let demo = with_component(setup.demo()?.script(script), "notify", notify)?.change(|demo| {
            let app = demo.container("webapp");
            app["securityContext"]["runAsUser"] = json!(1000);
        });
        setup.apply(&demo).await?;
        let pod = setup.ready("webapp").await?;
        setup.put("Nutzername", "nach-dem-Signal").await?;
        setup
            .wait_for("the application handles the signal", || async {
                setup.logs(&pod, "webapp").ok()?.contains("got HUP").then_some(())
            })
            .await?;
        setup.file_is(&pod, "password", "nach-dem-Signal").await?;
        let now = setup.pod(&pod).await?.context("the pod")?;
        assert_eq!(restarts(&now), Some(0));
        Ok(())
    })
    .await
}
