//! A start without Vault: pods start from the copy of their files in the mirrored Secret.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::manifest::{self, IDLE, Object};
use crate::setup::{Setup, condition, container, is_ready, name};

/// Maximum time until all pods are Ready while Vault is frozen.
const START: Duration = Duration::from_secs(30);

/// The demo with the kustomize component `seed`.
fn with_seed(demo: Object) -> Result<Object> {
    let mut component = manifest::one("manifests/component/seed/deployment.yaml", "Deployment")?;
    let (volumes, agent) = (component.pod()["volumes"].clone(), component.agent().clone());
    Ok(demo.change(|demo| {
        let add = |to: &mut serde_json::Value, from: &serde_json::Value| {
            let more = from.as_array().expect("a list").clone();
            to.as_array_mut().expect("a list").extend(more);
        };
        add(&mut demo.pod()["volumes"], &volumes);
        add(&mut demo.agent()["env"], &agent["env"]);
        add(&mut demo.agent()["volumeMounts"], &agent["volumeMounts"]);
    }))
}

/// Another Deployment without a seed, which does not share the Secret.
fn without_seed(demo: Object) -> Object {
    demo.env("KEYFERRY_MIRROR", "").change(|demo| {
        for at in ["/metadata/name", "/spec/selector/matchLabels/app", "/spec/template/metadata/labels/app"] {
            *demo.0.pointer_mut(at).expect("a name") = json!("waiting");
        }
    })
}

fn is_seeded(pod: &Pod) -> bool {
    condition(pod, "keyferry.dev/SecretsReady") == Some(("True".into(), "Seeded".into()))
        && condition(pod, "keyferry.dev/SecretsFresh") == Some(("False".into(), "Seeded".into()))
}

fn is_fresh(pod: &Pod) -> bool {
    is_ready(pod) && condition(pod, "keyferry.dev/SecretsFresh") == Some(("True".into(), "Fresh".into()))
}

#[tokio::test]
async fn pods_start_from_seed_while_vault_is_frozen() -> Result<()> {
    Setup::with_node_control("pods_start_from_seed_while_vault_is_frozen", async |setup| {
        let vault = setup.cluster.spare_vault(false, 8305).await?;
        setup.seed_vault(&vault.admin()?).await?;
        let demo = setup.demo()?.script(IDLE).env("VAULT_ADDR", vault.address_inside());
        setup.apply(&with_seed(demo.clone())?).await?;
        let first = setup.ready("webapp").await?;
        setup.secret_is("password", "Losungwort").await?;

        vault.freeze().await?;
        setup.apply(&without_seed(demo)).await?;
        setup.kubectl(&["scale", "deployment", "demo-dp", "--replicas=3"])?;
        let scaled = Instant::now();
        let pods = setup
            .wait_for("three pods are Ready", || async {
                let pods = setup.pods_of("webapp").await.ok()?;
                (pods.len() == 3 && pods.iter().all(is_ready)).then_some(pods)
            })
            .await?;
        let took = scaled.elapsed();
        println!("three pods Ready {took:.1?} after the scale-up without Vault");
        ensure!(took < START, "Ready only after {took:?}");
        for pod in pods.iter().filter(|pod| name(pod) != first) {
            ensure!(is_seeded(pod), "{}: {:?}", name(pod), pod.status);
            assert_eq!(setup.file(&name(pod), "password").as_deref(), Some("Losungwort"));
            ensure!(setup.logs(&name(pod), "keyferry")?.contains("starting with the files of seed /etc/keyferry/seed"));
            let app = setup.exec(&name(pod), "webapp", "ls /etc/keyferry/seed");
            ensure!(app.is_err(), "only keyferry's container mounts the copy: {app:?}");
        }
        let waits = |pod: &Pod| {
            let waiting = container(pod, "webapp")?.state?.waiting?.reason? == "PodInitializing";
            (waiting && !is_ready(pod)).then_some(())
        };
        let (waiting, ()) = setup.pod_where("waiting", "a pod without a seed waits", waits).await?;
        setup
            .wait_for("it reports that Vault does not answer", || async {
                setup.logs(&name(&waiting), "keyferry").ok()?.contains("VaultUnreachable").then_some(())
            })
            .await?;
        ensure!(waits(&setup.pod(&name(&waiting)).await?.context("the pod")?).is_some(), "it still waits");

        vault.thaw().await?;
        setup
            .wait_for("all pods are fresh", || async {
                let pods = [setup.pods_of("webapp").await.ok()?, setup.pods_of("waiting").await.ok()?].concat();
                (pods.len() == 4 && pods.iter().all(is_fresh)).then_some(())
            })
            .await?;
        setup.put_to(&vault.admin()?, "Nutzername", "nach-dem-Frost").await?;
        for pod in &pods {
            setup.file_is(&name(pod), "password", "nach-dem-Frost").await?;
        }
        setup.secret_is("password", "nach-dem-Frost").await?;
        vault.stop().await
    })
    .await
}
