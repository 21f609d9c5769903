//! Messages in conditions and Events.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::leased::{allow, data_path};
use crate::setup::{QUICK, SOON, Setup, login};
use crate::testbed::requirements;

#[tokio::test]
async fn denied_read_reports_tolerance_and_then_last_read_time() -> Result<()> {
    Setup::shared("since", async |setup| {
        let document = format!(
            "sources: {{webapp: {{path: {}, refresh: 1s, maxStale: 6s}}}}\nretry: {{base: 200ms, max: 1s, slow: 2s}}\n",
            setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        setup.case.admin.policy(&setup.case.role, "path \"nothing\" { capabilities = [\"read\"] }").await?;
        let text = |words: &'static str| async move {
            setup.message("SecretsFresh").await.filter(|message| message.contains(words))
        };
        let within =
            agent.wait_for("the tolerance is reported", SOON, || text("within its staleness tolerance until")).await?;
        assert!(within.contains("source webapp") && within.contains("policy rule is missing"), "{within}");
        assert_eq!(setup.condition("SecretsFresh").await.map(|(status, _)| status).as_deref(), Some("True"));
        setup.condition_is(&mut agent, "SecretsFresh", "False", "Denied").await?;
        let stale = agent.wait_for("the last read time is reported", SOON, || text("not read since")).await?;
        println!("{within}\n{stale}");
        let warned = || async {
            setup.events("Warning").await.ok()?.into_iter().find(|(reason, _)| reason == "Denied").map(drop)
        };
        agent.wait_for("a Warning Event", SOON, warned).await?;
        allow(setup, &[&data_path(setup, "webapp/config")]).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn undeleted_version_is_fresh_and_secret_without_versions_is_not_found() -> Result<()> {
    Setup::shared("undelete", async |setup| {
        let mount = setup.case.kv_mount.clone();
        let document = format!(
            "sources: {{webapp: {{path: {}, refresh: 1s, maxStale: 2s}}}}\nretry: {{base: 200ms, max: 1s, slow: 1s}}\n",
            setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        setup.case.admin.delete(&format!("{mount}/data/webapp/config")).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "SecretDeleted").await?;
        let message = setup.message("SecretsFresh").await.unwrap_or_default();
        assert!(message.contains("undelete it or write a new version"), "{message}");
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"));
        setup.case.admin.put(&format!("{mount}/undelete/webapp/config"), json!({"versions": [1]})).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        agent.terminate(SOON).await?;

        setup.case.admin.delete(&format!("{mount}/metadata/webapp/config")).await?;
        let once =
            format!("{document}directory: {{path: {}}}\n", setup.case.directory.with_file_name("once").display());
        let mut once = setup.agent_with(&["once", "--timeout", "10s"], &once)?;
        assert_eq!(once.wait(SOON).await?.code(), Some(66), "{}", once.report());
        assert!(
            once.report().contains("SecretNotFound") && once.report().contains("check the path"),
            "{}",
            once.report()
        );
        Ok(())
    })
    .await
}

/// A tmpfs at the case's volume; unmounted when dropped.
struct Volume(std::path::PathBuf);

impl Volume {
    fn mount(at: &std::path::Path) -> Result<Self> {
        let mounted =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(at).status()?;
        anyhow::ensure!(mounted.success(), "failed to mount a tmpfs");
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[tokio::test]
async fn volume_filled_by_other_files_is_not_reported_as_too_small() -> Result<()> {
    if !requirements::is_root("volume_filled_by_other_files_is_not_reported_as_too_small") {
        return Ok(());
    }
    Setup::shared("full", async |setup| {
        let parent = setup.case.directory.parent().expect("the directory has a parent").to_owned();
        let _volume = Volume::mount(&parent)?;
        let document = format!(
            "sources: {{webapp: {{path: {}, refresh: 1s}}}}\nretry: {{base: 200ms, max: 1s, slow: 1s}}\n",
            setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        let foreign = parent.join("foreign");
        std::fs::write(&foreign, vec![0; 220 << 10])?;
        setup.case.put(&login("Nutzername", &"sehr-lang-".repeat(2000))).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "NoSpace").await?;
        let message = setup.message("SecretsFresh").await.unwrap_or_default();
        println!("{message}");
        assert!(
            message.contains("of 256 KiB free") && message.contains("files that keyferry did not create"),
            "{message}"
        );
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"), "the last set stays");
        assert_eq!(setup.condition("SecretsReady").await, Some(("True".into(), "Published".into())));
        std::fs::remove_file(&foreign)?;
        setup.file_is(&mut agent, "password", &"sehr-lang-".repeat(2000)).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn rbac_denial_is_reported_though_message_contains_secret_value() -> Result<()> {
    Setup::shared("rbacword", async |setup| {
        let nothing = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: keyferry}\nrules: []\n";
        setup.case.cluster.apply(&setup.case.namespace, nothing).await?;
        // A user name that equals the namespace is common. It is not a secret here, so it is not planted for the leak test.
        let data = json!({"username": setup.case.namespace, "password": "Losungwort"});
        setup.case.admin.put_kv(&setup.case.kv_mount, "webapp/config", &data).await?;
        let mut agent = setup.agent(&["run"], QUICK)?;
        let line = agent
            .wait_for_log("resources: [secrets], resourceNames: [top-secret-ks], verbs: [create, patch]", SOON)
            .await?;
        println!("{line}");
        assert!(line.contains("\"Forbidden\"") && line.contains("the Role needs the rule"), "{line}");
        tokio::time::timeout(Duration::from_secs(20), agent.terminate(SOON)).await??;
        Ok(())
    })
    .await
}
