//! Other deployment modes: the smallest manifest, kustomize, classic mode (init container and ordinary container); and the
//! demo application.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::manifest::{self, IDLE};
use crate::setup::{Setup, condition, container, is_ready, name};

#[tokio::test]
async fn smallest_manifest_works_with_three_variables_and_without_rbac() -> Result<()> {
    Setup::shared("smallest_manifest_works_with_three_variables_and_without_rbac", async |setup| {
        // This manifest does not meet Pod Security `restricted` and mounts no token for Vault. So the namespace enforces
        // `baseline`, and Vault accepts the default token of every container.
        let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
        let patch = ["patch", "namespace", &setup.namespace, "--type=merge", "--patch", &labels.to_string()];
        setup.kubectl(&patch)?;
        setup.admin.service_account(&setup.namespace, "webapp").await?;
        let bound = json!({"audience": "", "bound_service_account_names": ["webapp"],
        "bound_service_account_namespaces": [setup.namespace], "token_policies": [setup.unique]});
        setup.vault.role(&setup.mount(), &setup.unique, bound).await?;
        let smallest = setup.configure(manifest::one("manifests/sidecar.yaml", "Deployment")?).script(IDLE);
        setup.apply(&smallest).await?;
        let pod = setup.ready("webapp").await?;
        assert_eq!(setup.file(&pod, "password").as_deref(), Some("Losungwort"));
        setup.put("Nutzername", "auch-im-Kleinen").await?;
        setup.file_is(&pod, "password", "auch-im-Kleinen").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn kustomize_component_adds_keyferry_to_application() -> Result<()> {
    Setup::shared("kustomize_component_adds_keyferry_to_application", async |setup| {
        for object in manifest::kustomize(&mut setup.cluster.kubectl(), "manifests/component/example")? {
            let object = if object.0["kind"] == "Deployment" { setup.configure(object).script(IDLE) } else { object };
            setup.apply(&object.namespace(&setup.namespace)).await?;
        }
        let pod = setup.ready("webapp").await?;
        assert_eq!(setup.file(&pod, "password").as_deref(), Some("Losungwort"));
        setup.secret_is("password", "Losungwort").await?;
        let now = setup.pod(&pod).await?.context("the pod")?;
        assert_eq!(condition(&now, "keyferry.dev/SecretsReady"), Some(("True".into(), "Published".into())));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn classic_mode_needs_one_login_across_restarts() -> Result<()> {
    Setup::with_node_control("classic_mode_needs_one_login_across_restarts", async |setup| {
        let classic = setup.configure(manifest::one("manifests/classic.yaml", "Deployment")?).script(IDLE);
        setup.apply(&classic).await?;
        let pod = setup.ready("webapp").await?;
        assert_eq!(setup.file(&pod, "password").as_deref(), Some("Losungwort"));
        setup.put("Nutzername", "uebernommen").await?;
        setup.file_is(&pod, "password", "uebernommen").await?;
        setup.secret_is("password", "uebernommen").await?;
        assert_eq!(setup.logins(), Some(1));
        let now = setup.pod(&pod).await?.context("the pod")?;
        let volume = setup.cluster.volume(now.metadata.uid.as_deref().context("a UID")?, "keyferry");
        assert!(volume.join("checkpoint").exists());
        let seen = setup.exec(&pod, "webapp", "find / -name 'checkpoint*' -path '*keyferry*' 2>/dev/null || true")?;
        assert_eq!(seen, "", "the application cannot see it");

        // A restarted container continues with the token.
        setup.kill(&now, "/keyferry")?;
        setup
            .pod_where("webapp", "the agent runs again", |pod| {
                let status = container(pod, "keyferry")?;
                (status.restart_count == 1 && is_ready(pod)).then_some(())
            })
            .await?;
        setup.put("Nutzername", "nach-dem-Neustart").await?;
        setup.file_is(&pod, "password", "nach-dem-Neustart").await?;
        assert_eq!(setup.logins(), Some(1));
        let before = setup.vault.accessors_of(&setup.mount()).await?;
        assert_eq!(before.len(), 1);
        setup.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
        setup
            .wait_for("the token is revoked", || async {
                let now = setup.vault.accessors_of(&setup.mount()).await.ok()?;
                // The new pod has one as well.
                (!now.contains(&before[0])).then_some(())
            })
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn demo_application_shows_generations_without_values() -> Result<()> {
    Setup::with_node_control("demo_application_shows_generations_without_values", async |setup| {
        setup.apply(&setup.demo()?).await?;
        let pod = setup.ready("webapp").await?;
        let status = setup.pod(&pod).await?.context("the pod")?.status.context("a status")?;
        let inside: SocketAddr = format!("{}:8080", status.pod_ip.context("an address")?).parse()?;
        let url = format!("http://{}", setup.cluster.relay(inside)?);
        let seen = async || anyhow::Ok(reqwest::get(format!("{url}/generation")).await?.json::<Value>().await?);
        let before = seen().await?;
        assert_eq!(before["files"].as_array().map(Vec::len), Some(2), "{before}");
        assert!(before["files"].as_array().is_some_and(|files| files.iter().all(|file| file["readable"] == true)));
        setup.put("Nutzername", "kein-Wort-davon").await?;
        let after = setup
            .wait_for("the application sees another generation", || async {
                seen().await.ok().filter(|now| now["generation"] != before["generation"])
            })
            .await?;
        assert_eq!(after["changes"], 1, "without a restart: {after}");
        let page = reqwest::get(format!("{url}/")).await?.text().await?;
        assert!(page.contains(after["generation"].as_str().context("a name")?), "{page}");
        let log = setup.logs(&pod, "webapp")?;
        for output in [&page, &log, &after.to_string()] {
            for secret in ["Losungwort", "kein-Wort-davon", "Nutzername"] {
                assert!(!output.contains(secret), "{output}");
            }
        }
        assert_eq!(name(&setup.pods_of("webapp").await?[0]), pod);
        Ok(())
    })
    .await
}
