//! Classic mode: `once` as an init container writes its token to a handover file, which `run` as an ordinary container uses.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::setup::{QUICK, SOON, Setup};

fn file(setup: &Setup<'_>) -> Result<PathBuf> {
    Ok(setup.case.directory.parent().context("a parent")?.join("handover"))
}

fn logins(setup: &Setup<'_>) -> usize {
    setup.servers.vault.audited_requests(&format!("auth/{}/login", setup.case.auth_mount)).len()
}

async fn init(setup: &Setup<'_>, file: &str) -> Result<()> {
    let mut once = setup.agent(&["once", "--handover", file], &[])?;
    assert_eq!(once.wait(SOON).await?.code(), Some(0), "{}", once.report());
    Ok(())
}

#[tokio::test]
async fn second_container_renews_and_revokes_handed_over_token() -> Result<()> {
    Setup::shared("handover", async |setup| {
        setup.case.vault_role(json!({"token_ttl": "12s"})).await?;
        let file = file(setup)?;
        let path = file.display().to_string();
        init(setup, &path).await?;
        assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o7777, 0o600);
        assert!(setup.secret().await?.is_some(), "the init container has mirrored the Secret");
        let accessors = setup.case.admin.accessors_of(&setup.case.auth_mount).await?;
        assert_eq!((logins(setup), accessors.len()), (1, 1), "the token is still valid");
        let set = std::fs::read_link(setup.case.directory.join("..data"))?;

        let mut agent = setup.agent(&["run"], &[("KEYFERRY_HANDOVER", path.as_str())])?;
        agent.wait_for_log("restored the Vault token", SOON).await?;
        assert!(!file.exists(), "the handover file is removed");
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        assert_eq!(std::fs::read_link(setup.case.directory.join("..data"))?, set, "the published set is the same");
        agent.wait_for_log("renewed the Vault token", SOON).await?;
        assert_eq!(logins(setup), 1, "one login for both containers: {}", agent.report());
        assert_eq!(setup.case.admin.accessors_of(&setup.case.auth_mount).await?, accessors);
        assert_eq!(agent.terminate(SOON).await?.code(), Some(0), "{}", agent.report());
        assert_eq!(setup.case.admin.token(&accessors[0]).await?, None, "the second container revokes the token");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn unusable_handover_file_causes_one_login() -> Result<()> {
    Setup::shared("refused", async |setup| {
        let file = file(setup)?;
        let path = file.display().to_string();
        let with = [QUICK, &[("KEYFERRY_HANDOVER", path.as_str())]].concat();
        for (what, expected) in [
            ("nothing", None),
            ("garbage", Some("line 1")),
            ("mode", Some("0644")),
            ("role", Some("auth mount or role")),
        ] {
            let before = logins(setup);
            match what {
                "garbage" => std::fs::write(&file, "{}")?,
                "nothing" => {}
                _ => init(setup, &path).await?,
            }
            if what == "garbage" {
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
            } else if what == "mode" {
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644))?;
            } else if what == "role" {
                let text = std::fs::read_to_string(&file)?;
                assert!(text.contains(&format!("\"{}\"", setup.case.role)));
                std::fs::write(&file, text.replace(&format!("\"{}\"", setup.case.role), "\"another\""))?;
            }
            let by_init = logins(setup) - before;
            let mut agent = setup.agent(&["run"], &with)?;
            agent.wait_for_log("logged in to Vault", SOON).await?;
            setup.file_is(&mut agent, "password", "Losungwort").await?;
            if let Some(why) = expected {
                assert!(
                    agent.report().contains("HandoverRefused") && agent.report().contains(why),
                    "{}",
                    agent.report()
                );
            }
            assert!(!file.exists(), "{what}: the handover file is removed");
            assert_eq!(logins(setup) - before - by_init, 1, "{what}: {}", agent.report());
            agent.terminate(SOON).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn unwritable_handover_file_fails_init_container_and_revokes_token() -> Result<()> {
    Setup::shared("unwritable", async |setup| {
        let inside = setup.case.directory.join("handover").display().to_string();
        let mut once = setup.agent(&["once", "--handover", &inside], &[])?;
        assert_eq!(once.wait(SOON).await?.code(), Some(64), "{}", once.report());
        assert!(once.report().contains("must be outside the output directory"), "{}", once.report());
        let absent = file(setup)?.join("absent").display().to_string();
        let mut once = setup.agent(&["once", "--handover", &absent], &[])?;
        assert_eq!(once.wait(SOON).await?.code(), Some(74), "{}", once.report());
        assert!(setup.case.admin.accessors_of(&setup.case.auth_mount).await?.is_empty(), "its token is revoked");
        Ok(())
    })
    .await
}
