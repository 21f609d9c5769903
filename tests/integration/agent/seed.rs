//! A start without Vault, from the volume of the mirrored Secret.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::setup::{SOON, Setup, login};

/// Configuration with a seed at `directory`.
fn document(setup: &Setup<'_>, directory: &Path) -> String {
    format!(
        "sources: {{webapp: {{path: {}, refresh: 1s, maxStale: 3s}}}}\nretry: {{base: 200ms, max: 2s, slow: 2s}}\n\
         vault: {{timeout: 2s}}\nmirrors: {{top-secret-ks: {{}}}}\nseed: {{directory: {}, after: 2s}}\n",
        setup.case.secret_path(),
        directory.display()
    )
}

/// Runs an agent until the Secret exists, and mounts the Secret as the kubelet does. Returns the directory of the volume.
/// The published files are removed, as for a new pod.
async fn mirrored_volume(setup: &Setup<'_>) -> Result<PathBuf> {
    let volume = setup.case.jwt_file.with_file_name("seed");
    let mut agent = setup.agent_with(&["run"], &document(setup, &volume))?;
    setup.secret_is(&mut agent, "password", "Losungwort").await?;
    agent.terminate(SOON).await?;
    std::fs::remove_dir_all(&setup.case.directory)?;
    let set = volume.join("..2026_11_28_00_00_00.1");
    std::fs::create_dir_all(&set)?;
    std::os::unix::fs::symlink("..2026_11_28_00_00_00.1", volume.join("..data"))?;
    for (key, value) in setup.secret().await?.context("the Secret")? {
        std::fs::write(set.join(&key), value)?;
        std::os::unix::fs::symlink(format!("..data/{key}"), volume.join(&key))?;
    }
    Ok(volume)
}

/// The version of the mirrored Secret, which changes with each write.
async fn resource_version(setup: &Setup<'_>) -> Result<Option<String>> {
    let secret = setup.case.cluster.secret(&setup.case.namespace, "top-secret-ks").await?;
    Ok(secret.and_then(|secret| secret.metadata.resource_version))
}

#[tokio::test]
async fn pod_starts_from_seed_and_is_fresh_when_vault_is_back() -> Result<()> {
    Setup::own("seed", async |setup| {
        let volume = mirrored_volume(setup).await?;
        let before = resource_version(setup).await?;
        setup.servers.vault.stop().await?;
        let mut agent = setup.agent_with(&["run"], &document(setup, &volume))?;
        setup.condition_is(&mut agent, "SecretsReady", "True", "Seeded").await?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "Seeded").await?;
        setup.condition_is(&mut agent, "Mirrored", "False", "Seeded").await?;
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"));
        let warnings = setup.events("Warning").await?;
        ensure!(warnings.iter().any(|(reason, _)| reason == "Seeded"), "{warnings:?}");

        agent.kill().await?;
        let mut agent = setup.agent_with(&["run"], &document(setup, &volume))?;
        agent.wait_for_log("the adopted set contains files of the seed", SOON).await?;
        agent.wait_for_log("VaultUnreachable", SOON).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "Seeded").await?;
        assert_eq!(resource_version(setup).await?, before, "the seed is not mirrored back");

        setup.servers.vault.start_again(&setup.servers.watchdog).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        setup.condition_is(&mut agent, "SecretsReady", "True", "Published").await?;
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        setup.case.put(&login("Nutzername", "nach-dem-Ausfall")).await?;
        setup.file_is(&mut agent, "password", "nach-dem-Ausfall").await?;
        setup.secret_is(&mut agent, "password", "nach-dem-Ausfall").await
    })
    .await
}

#[tokio::test]
async fn once_uses_seed_while_vault_is_frozen_but_not_if_vault_refuses() -> Result<()> {
    Setup::own("seedonce", async |setup| {
        let volume = mirrored_volume(setup).await?;
        let seeded = document(setup, &volume);
        setup.servers.vault.freeze().await?;
        let mut frozen = setup.agent_with(&["once", "--timeout", "20s"], &seeded)?;
        assert_eq!(frozen.wait(SOON).await?.code(), Some(0), "{}", frozen.report());
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"));
        let log = frozen.log().join("\n");
        ensure!(log.contains("no answer from Vault for 2s") && log.contains("\"reason\":\"Seeded\""), "{log}");
        std::fs::remove_dir_all(&setup.case.directory)?;
        setup.servers.vault.thaw().await?;

        // The role does not exist; the policy does not allow the path.
        let role = format!("auth: {{role: unknown}}\n{seeded}");
        let path = seeded.replace("webapp/config", "webapp/other");
        for refused in [role, path] {
            let mut agent = setup.agent_with(&["once", "--timeout", "15s"], &refused)?;
            assert_eq!(agent.wait(SOON).await?.code(), Some(77), "{}", agent.report());
            assert_eq!(setup.case.read("password"), None, "{}", agent.report());
        }
        Ok(())
    })
    .await
}
