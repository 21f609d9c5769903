//! Environment variables from an env file that the kubelet reads: no Secret, and no mount in the application.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::helm::{Helm, NEWEST, Of};
use crate::manifest::{self, IDLE, Object};
use crate::setup::{Setup, container, containers};

/// The secret of the manifest, which belongs to the reference scenario.
const SECRET: &str = "secret/webapp/config";

/// The environment of the application in each manifest.
const PRINT: &str = "printf %s \"$APP_USERNAME:$APP_PASSWORD\"";

impl Setup {
    /// Waits until the application has these variables.
    async fn variables_are(&self, pod: &str, wanted: &str) -> Result<()> {
        self.wait_for(&format!("the variables are {wanted}"), || async {
            (self.exec(pod, "webapp", PRINT).ok()? == wanted).then_some(())
        })
        .await
    }

    /// The object, with the secret, the role, and the namespace of this test.
    fn own_environment(&self, object: &Object) -> Result<Object> {
        let text = object.0.to_string().replace(SECRET, &format!("secret/{}", self.path()));
        let object = Object(serde_json::from_str(&text)?).namespace(&self.namespace);
        if object.0["kind"] != "Deployment" {
            return Ok(object);
        }
        let object = object
            .env("VAULT_ADDR", self.cluster.vault.address_inside())
            .env("KEYFERRY_ROLE", &self.unique)
            .env("KEYFERRY_AUTH_MOUNT", &self.mount())
            .env("KEYFERRY_REFRESH", "1s");
        Ok(object.script(IDLE))
    }

    /// No Secret exists in the namespace.
    fn no_secret(&self) -> Result<()> {
        let secrets = self.kubectl(&["get", "secrets", "--output=name"])?;
        ensure!(secrets.trim().is_empty(), "{secrets}");
        Ok(())
    }
}

#[tokio::test]
async fn application_gets_variables_without_secret_and_mount() -> Result<()> {
    Setup::shared("application_gets_variables_without_secret_and_mount", async |setup| {
        let demo = setup.own_environment(&manifest::one("manifests/environment.yaml", "Deployment")?)?;
        ensure!(demo.clone().container("webapp").get("volumeMounts").is_none(), "the manifest needs no mount");
        setup.apply(&demo).await?;
        let pod = setup.ready("webapp").await?;
        setup.variables_are(&pod, "Nutzername:Losungwort").await?;
        setup.no_secret()?;
        // Neither the Pod nor its Events contain a value; the leak test at the end searches them too.
        let shown = setup.kubectl(&["get", "pod", &pod, "--output=yaml"])?;
        ensure!(shown.contains("fileKeyRef") && !shown.contains("Losungwort"), "{shown}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn restarted_container_gets_the_new_values() -> Result<()> {
    Setup::shared("restarted_container_gets_the_new_values", async |setup| {
        for object in manifest::kustomize(&mut setup.cluster.kubectl(), "manifests/component/environment")? {
            setup.apply(&setup.own_environment(&object)?).await?;
        }
        let pod = setup.ready("webapp").await?;
        setup.variables_are(&pod, "Nutzername:Losungwort").await?;

        // Spaces, `$`, quotes, and several lines arrive unchanged. A running container keeps its variables.
        let new = "zwei \"Zeilen\"\n$HOME \\n #";
        setup.put("Nutzername", new).await?;
        setup.file_is(&pod, "app.env", &format!("password='{new}'\nusername='Nutzername'\n")).await?;
        assert_eq!(setup.exec(&pod, "webapp", PRINT)?, "Nutzername:Losungwort");

        // The shell exits at SIGTERM, and the kubelet starts the container again.
        let _ended_with_the_container = setup.exec(&pod, "webapp", "kill -TERM 1");
        setup.variables_are(&pod, &format!("Nutzername:{new}")).await?;
        let seen = setup.pod(&pod).await?.context("the same pod")?;
        assert_eq!(container(&seen, "webapp").map(|status| status.restart_count), Some(1));
        assert_eq!(container(&seen, "keyferry").map(|status| status.restart_count), Some(0));

        // A value that cannot be written leaves the file, and keyferry reports source and key.
        setup.put("Nutzername", "it's not possible").await?;
        let log = || async { setup.logs(&pod, "keyferry").ok()?.contains("contains a single quote").then_some(()) };
        setup.wait_for("the log names the value that cannot be written", log).await?;
        assert_eq!(setup.file(&pod, "app.env"), Some(format!("password='{new}'\nusername='Nutzername'\n")));
        setup.no_secret()
    })
    .await
}

#[tokio::test]
async fn chart_sets_variables_of_the_application() -> Result<()> {
    let test = "chart_sets_variables_of_the_application";
    let Some(helm) = Helm::shared(test) else { return Ok(()) };
    Setup::shared(test, async |setup| {
        let values = helm.values(Of::Webapp, "environment")?;
        let settings = [
            format!("keyferry.vault.address={}", setup.cluster.vault.address_inside()),
            format!("keyferry.auth.role={}", setup.unique),
            format!("keyferry.auth.mount={}", setup.mount()),
            "keyferry.mirror.name=".to_owned(),
        ];
        let mut arguments = vec!["--values", &values];
        for setting in &settings {
            arguments.extend(["--set", setting]);
        }
        for object in helm.render(Of::Webapp, &setup.namespace, NEWEST, &arguments)? {
            setup.apply(&setup.own_environment(&Object(object))?).await?;
        }
        let pod = setup.ready("webapp").await?;
        setup.variables_are(&pod, "Nutzername:Losungwort").await?;
        // The file has no key for the optional variable.
        assert_eq!(setup.exec(&pod, "webapp", "printf %s \"${APP_HINT-unset}\"")?, "unset");
        setup.no_secret()?;
        let seen = setup.pod(&pod).await?.context("the pod")?;
        assert_eq!(containers(&seen).len(), 2);
        let spec = json!(seen.spec);
        assert_eq!(spec["containers"][0]["env"][0]["valueFrom"]["fileKeyRef"]["path"], "sensitive/env/app.env");
        Ok(())
    })
    .await
}
