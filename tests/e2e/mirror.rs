//! The mirrored Secret after changes by others: deleted, edited, and without the ServiceAccount that owns it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::manifest::IDLE;
use crate::setup::{ACCOUNT, Setup, condition, is_ready, message, name};
use crate::testbed::reference_scenario::SECRET;

/// One minute, and a margin for a loaded machine.
const MINUTE: Duration = Duration::from_secs(70);

fn mirrored(pod: &Pod) -> Option<(String, String)> {
    condition(pod, "keyferry.dev/Mirrored")
}

#[tokio::test]
async fn deleted_and_edited_secrets_are_restored_within_one_minute() -> Result<()> {
    Setup::shared("deleted_and_edited_secrets_are_restored_within_one_minute", async |setup| {
        setup.permit_mirror("edited")?;
        let document = "mirrors: {top-secret-ks: {}, edited: {}}\nretry: {base: 100ms, max: 1s, slow: 1s}";
        let demo = setup.demo()?.script(IDLE).env("KEYFERRY_MIRROR", "").env("KEYFERRY_CONFIG_INLINE", document);
        setup.apply(&demo).await?;
        let pod_name = setup.ready("webapp").await?;
        let is_mirrored = |pod: &Pod| (mirrored(pod)? == ("True".into(), "Mirrored".into())).then_some(());
        setup.pod_where("webapp", "both Secrets are mirrored", is_mirrored).await?;

        let foreign = "{\"stringData\": {\"password\": \"von-Hand\", \"extra\": \"auch\"}}";
        setup.kubectl(&["patch", "secret", "edited", "--type=merge", "--patch", foreign])?;
        setup.kubectl(&["delete", "secret", SECRET])?;
        let touched = Instant::now();
        setup.secret_is("password", "Losungwort").await?;
        let back = touched.elapsed();
        setup
            .wait_for("the edited Secret holds the published set", || async {
                let data = setup.admin.secret(&setup.namespace, "edited").await.ok()??.data?;
                let right = data.len() == 2 && data.get("password")?.0 == b"Losungwort";
                right.then_some(())
            })
            .await?;
        let repaired = touched.elapsed();
        println!("deleted Secret re-created after {back:.1?}, edited Secret repaired after {repaired:.1?}");
        ensure!(back < MINUTE && repaired < MINUTE, "{back:?}, {repaired:?}");
        let log = setup.logs(&pod_name, "keyferry")?;
        ensure!(
            log.contains("Drifted") && !log.contains("von-Hand"),
            "the log reports the edit without its values: {log}"
        );
        setup.pod_where("webapp", "both Secrets are mirrored again", is_mirrored).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn deleted_service_account_removes_secret_and_files_still_update() -> Result<()> {
    Setup::shared("deleted_service_account_removes_secret_and_files_still_update", async |setup| {
        let document = "mirrors: {top-secret-ks: {owner: serviceAccount}}\nretry: {base: 100ms, max: 1s, slow: 1s}";
        let demo = setup.demo()?.script(IDLE).env("KEYFERRY_MIRROR", "").env("KEYFERRY_CONFIG_INLINE", document);
        setup.apply(&demo).await?;
        let pod_name = setup.ready("webapp").await?;
        setup.secret_is("password", "Losungwort").await?;
        let owners = setup.secret().await?.context("the Secret")?.metadata.owner_references.unwrap_or_default();
        let owner = owners.first().context("an owner")?;
        assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("ServiceAccount", ACCOUNT));
        assert_eq!(owner.block_owner_deletion, None, "keyferry does not block the deletion of the account");

        let deleted = Instant::now();
        setup.kubectl(&["delete", "serviceaccount", ACCOUNT])?;
        setup
            .wait_for("the Secret is garbage-collected", || async {
                setup.secret().await.ok()?.is_none().then_some(())
            })
            .await?;
        println!("the Secret was deleted {:.1?} after its ServiceAccount", deleted.elapsed());

        // The token for Vault is still valid; the token for the API server is not.
        setup.put("Nutzername", "ohne-Konto").await?;
        setup.file_is(&pod_name, "password", "ohne-Konto").await?;
        let report = setup
            .wait_for("the agent reports that the API server rejects its token", || async {
                let log = setup.logs(&pod_name, "keyferry").ok()?;
                log.lines().find(|line| line.contains("answered 401")).map(str::to_owned)
            })
            .await?;
        println!("{report}");
        ensure!(
            report.contains("the ServiceAccount was deleted or re-created") && report.contains("re-create the pod"),
            "{report}"
        );
        ensure!(setup.secret().await?.is_none(), "the Secret is not re-created");
        let pod = setup.pod(&pod_name).await?.context("the pod")?;
        println!("unchanged conditions: {:?} {:?}", mirrored(&pod), message(&pod, "keyferry.dev/Mirrored"));
        Ok(())
    })
    .await
}

/// The cluster has the admission plugin `OwnerReferencesPermissionEnforcement`, as `OpenShift` has it.
#[tokio::test]
async fn existing_secret_is_mirrored_without_owner_if_owner_change_is_denied() -> Result<()> {
    Setup::with_node_control("existing_secret_is_mirrored_without_owner_if_owner_change_is_denied", async |setup| {
        setup.apply(&setup.demo()?.script(IDLE)).await?;
        let old = setup.ready("webapp").await?;
        setup.secret_is("password", "Losungwort").await?;

        let document = "mirrors: {top-secret-ks: {owner: serviceAccount}}";
        let owned = setup.demo()?.script(IDLE).env("KEYFERRY_MIRROR", "").env("KEYFERRY_CONFIG_INLINE", document);
        setup.apply(&owned).await?;
        let is_mirrored = |pod: &Pod| {
            let new = name(pod) != old && is_ready(pod);
            (new && mirrored(pod)? == ("True".into(), "Mirrored".into())).then_some(())
        };
        let (new, ()) = setup.pod_where("webapp", "the new pod mirrors", is_mirrored).await?;
        setup.put("Nutzername", "ohne-Besitzer").await?;
        setup.secret_is("password", "ohne-Besitzer").await?;
        let log = setup.logs(&name(&new), "keyferry")?;
        let count = log.lines().filter(|line| line.contains("OwnerReferencesPermissionEnforcement")).count();
        assert_eq!(count, 1, "the denied owner change is logged once: {log}");
        assert_eq!(setup.secret().await?.context("the Secret")?.metadata.owner_references, None);

        // As the log advises: a Secret that is created again gets its owner.
        let gone = || async { setup.pod(&old).await.ok()?.is_none().then_some(()) };
        setup.wait_for("the old pod, whose agent sets no owner, is gone", gone).await?;
        setup.kubectl(&["delete", "secret", SECRET])?;
        setup.put("Nutzername", "mit-Besitzer").await?;
        setup.secret_is("password", "mit-Besitzer").await?;
        let owners = setup.secret().await?.context("the Secret")?.metadata.owner_references.unwrap_or_default();
        assert_eq!(owners.first().map(|owner| owner.name.as_str()), Some(ACCOUNT));
        Ok(())
    })
    .await
}

impl Setup {
    /// Permits keyferry to mirror into one more Secret.
    fn permit_mirror(&self, name: &str) -> Result<()> {
        let rules = json!([{"op": "add", "path": "/rules/0/resourceNames/-", "value": name}]);
        self.kubectl(&["patch", "role", "keyferry", "--type=json", "--patch", &rules.to_string()])?;
        let writers = format!("keyferry.dev/secret-writers={ACCOUNT}={SECRET},{ACCOUNT}={name}");
        self.kubectl(&["annotate", "namespace", &self.namespace, "--overwrite", &writers]).map(|_| ())
    }
}
