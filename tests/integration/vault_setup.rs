//! The Vault configuration of `deploy/vault`: the agent can log in and read, and its token allows nothing else.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::setup::{QUICK, SOON, Setup};
use crate::testbed::binaries::find_or_build;
use crate::testbed::pki;

#[tokio::test]
async fn agent_logs_in_after_vault_setup_script() -> Result<()> {
    Setup::shared("setup", async |setup| {
        let (case, servers) = (&setup.case, setup.servers);
        case.cluster.apply("vault", include_str!("../../deploy/vault/reviewer.yaml")).await?;
        let files = tempfile::tempdir()?;
        let (ca, jwt) = (files.path().join("ca.crt"), files.path().join("jwt"));
        pki::write(&ca, servers.kube.ca_pem())?;
        pki::write(&jwt, &case.cluster.token("vault", "vault", None, None).await?)?;

        let vault = find_or_build("vault")?;
        let directory = vault.parent().context("a program is in a directory")?;
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());
        let (mount, role) = (format!("script-{}", case.auth_mount), format!("script-{}", case.role));
        // Run twice: to add an application, users run the script again, without the parts that exist once per cluster.
        for round in 1..=2 {
            let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/vault/setup.sh"));
            script
                .env("PATH", &path)
                .env("HOME", files.path())
                .env("VAULT_ADDR", servers.vault.address())
                .env("VAULT_TOKEN", servers.vault.root_token())
                .envs([("MOUNT", &mount), ("ROLE", &role), ("KV", &case.kv_mount)])
                .envs([("NAMESPACE", &case.namespace), ("ACCOUNT", &case.account)]);
            if round == 1 {
                script.env("API_SERVER", servers.kube.url()).env("API_SERVER_CA", &ca).env("REVIEWER_JWT", &jwt);
            }
            let output = script.output()?;
            ensure!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
        }

        let mut agent =
            setup.agent(&["run"], &[QUICK[0], ("KEYFERRY_AUTH_MOUNT", &mount), ("KEYFERRY_ROLE", &role)])?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        // The response to a compromise in docs/security.md revokes every token of the auth mount; a running agent logs in again.
        let before = case.admin.accessors_of(&mount).await?;
        let output = Command::new(&vault)
            .args(["token", "revoke", "-mode", "path", &format!("auth/{mount}/login")])
            .env("HOME", files.path())
            .env("VAULT_ADDR", servers.vault.address())
            .env("VAULT_TOKEN", servers.vault.root_token())
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        agent
            .wait_for("another token is in use", SOON, || async {
                let now = case.admin.accessors_of(&mount).await.ok()?;
                (now.len() == 1 && now != before).then_some(())
            })
            .await?;
        agent.terminate(SOON).await?;

        case.admin.put_kv(&case.kv_mount, "other/config", &serde_json::json!({"a": "b"})).await?;
        let other = format!("{}/other/config", case.kv_mount);
        let changes = [("KEYFERRY_AUTH_MOUNT", mount.as_str()), ("KEYFERRY_ROLE", &role), ("KEYFERRY_SECRETS", &other)];
        let mut once = setup.agent(&["once", "--timeout=2s"], &changes)?;
        assert_eq!(once.wait(SOON).await?.code(), Some(77), "{}", once.report());
        Ok(())
    })
    .await
}
