//! The example chart, which enables keyferry by its values, in real pods.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;

use crate::helm::{Helm, NEWEST, Of};
use crate::manifest::{IDLE, Object};
use crate::setup::{Setup, condition, container, containers, is_ready, name};

impl Setup {
    /// Renders the example for this test's Vault and namespace and applies it, including its ServiceAccount and RBAC rules.
    pub async fn install(&self, helm: &Helm, values: &[&str]) -> Result<()> {
        let own = [
            format!("keyferry.vault.address={}", self.cluster.vault.address_inside()),
            format!("keyferry.auth.role={}", self.unique),
            format!("keyferry.auth.mount={}", self.mount()),
            format!("keyferry.secrets[0]=app=secret/{}", self.path()),
            "keyferry.refresh=1s".to_owned(),
        ];
        let mut arguments = Vec::new();
        for value in own.iter().map(String::as_str).chain(values.iter().copied()) {
            arguments.extend(["--set", value]);
        }
        for object in helm.render(Of::Webapp, &self.namespace, NEWEST, &arguments)? {
            let mut object = Object(object);
            if object.0["kind"] == "Deployment" {
                object = object.script(IDLE);
            }
            self.apply(&object).await.with_context(|| format!("failed to apply {:#}", object.0))?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn dependent_chart_delivers_files_secret_and_readiness_gate() -> Result<()> {
    let test = "dependent_chart_delivers_files_secret_and_readiness_gate";
    let Some(helm) = Helm::shared(test) else { return Ok(()) };
    Setup::shared(test, async |setup| {
        setup.install(helm, &[]).await?;
        let pod = setup.ready("webapp").await?;
        setup.file_is(&pod, "password", "Losungwort").await?;
        setup.secret_is("password", "Losungwort").await?;
        let seen = setup.pod(&pod).await?.context("the pod")?;
        let gate = condition(&seen, "keyferry.dev/SecretsReady").map(|(status, _)| status);
        assert_eq!(gate.as_deref(), Some("True"));

        setup.put("Nutzername", "Stichwort").await?;
        setup.file_is(&pod, "password", "Stichwort").await?;
        setup.secret_is("password", "Stichwort").await?;

        // The running agent reloads a changed configuration file.
        let deep = [
            "keyferry.outputs[0].source=app",
            "keyferry.outputs[0].prefix=deep",
            "keyferry.mirror.keys.password=deep/password",
        ];
        setup.install(helm, &deep).await?;
        setup.file_is(&pod, "deep/password", "Stichwort").await?;
        let seen = setup.pod(&pod).await?.context("the same pod")?;
        for name in ["keyferry", "webapp"] {
            assert_eq!(container(&seen, name).map(|status| status.restart_count), Some(0), "{name}");
        }
        assert!(setup.logins().is_none_or(|logins| logins == 1));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn chart_modes_classic_and_init_run_on_kubelet() -> Result<()> {
    let test = "chart_modes_classic_and_init_run_on_kubelet";
    let Some(helm) = Helm::shared(test) else { return Ok(()) };
    Setup::shared(test, async |setup| {
        setup.install(helm, &["keyferry.mode=classic"]).await?;
        let pod = setup.ready("webapp").await?;
        setup.secret_is("password", "Losungwort").await?;
        setup.put("Nutzername", "im-Paar").await?;
        setup.file_is(&pod, "password", "im-Paar").await?;
        setup.secret_is("password", "im-Paar").await?;
        assert_eq!(setup.vault.accessors_of(&setup.mount()).await?.len(), 1, "one login for both containers");
        let seen = setup.pod(&pod).await?.context("the pod")?;
        let init = container(&seen, "keyferry-init").context("the init container")?.state.unwrap_or_default();
        assert_eq!(init.terminated.map(|end| end.exit_code), Some(0));

        // In mode init, the agent of the new pod has exited when the application starts.
        setup.install(helm, &["keyferry.mode=init"]).await?;
        let ended = |pod: &Pod| {
            let end = container(pod, "keyferry")?.state?.terminated?;
            (is_ready(pod) && containers(pod).len() == 2).then_some(end.exit_code)
        };
        let (seen, code) = setup.pod_where("webapp", "the new pod is Ready", ended).await?;
        assert_eq!(code, 0);
        assert_eq!(setup.file(&name(&seen), "password").as_deref(), Some("im-Paar"));
        setup
            .wait_for("both pods' tokens are revoked", || async {
                let left = setup.vault.accessors_of(&setup.mount()).await.ok()?;
                left.is_empty().then_some(())
            })
            .await?;
        Ok(())
    })
    .await
}
