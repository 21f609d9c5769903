//! The checkpoint: one process continues with the token, the leases, and the secret ID of the previous one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::json;

use crate::agent::auth::wrap;
use crate::leased::{Leased, allow, data_path};
use crate::setup::{QUICK, SOON, Setup, configured_by};

fn file(setup: &Setup<'_>) -> Result<PathBuf> {
    Ok(setup.case.directory.parent().context("a parent")?.join("checkpoint"))
}

fn logins(setup: &Setup<'_>) -> usize {
    setup.servers.vault.audited_requests(&format!("auth/{}/login", setup.case.auth_mount)).len()
}

async fn init(setup: &Setup<'_>, file: &str) -> Result<()> {
    let mut once = setup.agent(&["once", "--checkpoint", file], &[])?;
    assert_eq!(once.wait(SOON).await?.code(), Some(0), "{}", once.report());
    Ok(())
}

#[tokio::test]
async fn second_container_renews_and_revokes_token_of_init_container() -> Result<()> {
    Setup::shared("checkpoint", async |setup| {
        setup.case.vault_role(json!({"token_ttl": "12s"})).await?;
        let file = file(setup)?;
        let path = file.display().to_string();
        init(setup, &path).await?;
        assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o7777, 0o600);
        assert!(setup.secret().await?.is_some(), "the init container has mirrored the Secret");
        let accessors = setup.case.admin.accessors_of(&setup.case.auth_mount).await?;
        assert_eq!((logins(setup), accessors.len()), (1, 1), "the token is still valid");
        let set = std::fs::read_link(setup.case.directory.join("..data"))?;

        let mut agent = setup.agent(&["run", "--app-container"], &[("KEYFERRY_CHECKPOINT", path.as_str())])?;
        agent.wait_for_log("restored the Vault token", SOON).await?;
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        assert_eq!(std::fs::read_link(setup.case.directory.join("..data"))?, set, "the published set is the same");
        agent.wait_for_log("renewed the Vault token", SOON).await?;
        assert_eq!(logins(setup), 1, "one login for both containers: {}", agent.report());
        assert_eq!(setup.case.admin.accessors_of(&setup.case.auth_mount).await?, accessors);
        assert_eq!(agent.terminate(SOON).await?.code(), Some(0), "{}", agent.report());
        assert_eq!(setup.case.admin.token(&accessors[0]).await?, None, "the second container revokes the token");
        assert!(!file.exists(), "there is nothing to save");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn unusable_checkpoint_causes_one_login() -> Result<()> {
    Setup::shared("refused", async |setup| {
        let file = file(setup)?;
        let path = file.display().to_string();
        let with = [QUICK, &[("KEYFERRY_CHECKPOINT", path.as_str())]].concat();
        for (what, expected) in [
            ("nothing", None),
            ("garbage", Some("line 1")),
            ("mode", Some("0644")),
            ("role", Some("auth mount or role")),
            ("revoked", Some("its token cannot be used")),
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
            if what == "revoked" {
                for accessor in setup.case.admin.accessors_of(&setup.case.auth_mount).await? {
                    setup.case.admin.revoke_accessor(&accessor).await?;
                }
            }
            let by_init = logins(setup) - before;
            let mut agent = setup.agent(&["run"], &with)?;
            agent.wait_for_log("logged in to Vault", SOON).await?;
            setup.file_is(&mut agent, "password", "Losungwort").await?;
            if let Some(why) = expected {
                assert!(
                    agent.report().contains("CheckpointRefused") && agent.report().contains(why),
                    "{}",
                    agent.report()
                );
            }
            assert_eq!(logins(setup) - before - by_init, 1, "{what}: {}", agent.report());
            agent.terminate(SOON).await?;
            assert!(!file.exists(), "{what}: the refused file is gone");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn unwritable_checkpoint_fails_init_container_and_revokes_token() -> Result<()> {
    Setup::shared("unwritable", async |setup| {
        let inside = setup.case.directory.join("checkpoint").display().to_string();
        let mut once = setup.agent(&["once", "--checkpoint", &inside], &[])?;
        assert_eq!(once.wait(SOON).await?.code(), Some(64), "{}", once.report());
        assert!(once.report().contains("must be outside the output directory"), "{}", once.report());
        let absent = file(setup)?.join("absent").display().to_string();
        let mut once = setup.agent(&["once", "--checkpoint", &absent], &[])?;
        assert_eq!(once.wait(SOON).await?.code(), Some(74), "{}", once.report());
        assert!(setup.case.admin.accessors_of(&setup.case.auth_mount).await?.is_empty(), "its token is revoked");
        Ok(())
    })
    .await
}

/// An agent with a lease of one hour, a KV secret, and a checkpoint. Returns its environment.
async fn leased_setup(setup: &Setup<'_>) -> Result<(Leased, Vec<(&'static str, String)>)> {
    let leased = Leased::new(setup).await?;
    leased.put(setup, json!({"password": "auf-Zeit", "ttl": "1h"})).await?;
    allow(setup, &[&leased.path(), &data_path(setup, "*")]).await?;
    let document = format!(
        "sources: {{db: {{path: {}, engine: kv-v1}}, app: {{path: {}}}}}\noutputs: [{{source: db}}, {{source: app, prefix: app}}]\n\
         retry: {{base: 200ms, slow: 1s}}\n",
        leased.path(),
        setup.case.secret_path()
    );
    let environment = vec![
        ("KEYFERRY_SECRETS", String::new()),
        ("KEYFERRY_MIRROR", String::new()),
        ("KEYFERRY_CONFIG_INLINE", document),
        ("KEYFERRY_CHECKPOINT", file(setup)?.display().to_string()),
    ];
    Ok((leased, environment))
}

#[tokio::test]
async fn killed_agent_causes_no_login_and_no_lease() -> Result<()> {
    Setup::shared("kills", async |setup| {
        let (leased, environment) = leased_setup(setup).await?;
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for round in 0..50 {
            let mut agent = setup.agent(&["run"], &environment)?;
            agent
                .wait_for_log(if round == 0 { "logged in to Vault" } else { "restored the Vault token" }, SOON)
                .await?;
            // A kill at the very start of the first process could lose a lease that Vault has just issued.
            let saved = || async { leased.is_saved(&file(setup).ok()?).then_some(()) };
            agent.wait_for("the lease is saved", SOON, saved).await?;
            setup.file_is(&mut agent, "password", "auf-Zeit").await?;
            agent.kill().await?;
        }
        println!("50 kills: {} login, {} lease", logins(setup), leased.alive(setup).await?);
        assert_eq!((logins(setup), leased.alive(setup).await?), (1, 1));
        // The restart of the container alone: the token and its lease stay valid for the next process.
        let mut agent = setup.agent(&["run"], &environment)?;
        agent.wait_for_log("restored the Vault token", SOON).await?;
        assert_eq!(agent.terminate(SOON).await?.code(), Some(0), "{}", agent.report());
        let mut agent = setup.agent(&["run"], &environment)?;
        agent.wait_for_log("restored the Vault token", SOON).await?;
        assert_eq!((logins(setup), leased.alive(setup).await?), (1, 1));
        agent.kill().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn checkpoint_survives_outage_of_vault() -> Result<()> {
    Setup::own("checkpointoutage", async |setup| {
        let (leased, environment) = leased_setup(setup).await?;
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut agent = setup.agent(&["run"], &environment)?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        agent.kill().await?;
        setup.servers.vault.stop().await?;
        let mut agent = setup.agent(&["run"], &environment)?;
        setup.condition_is(&mut agent, "SecretsReady", "True", "Adopted").await?;
        agent.wait_for_log("failed to reach Vault", SOON).await?;
        setup.servers.vault.start_again(&setup.servers.watchdog).await?;
        agent.wait_for_log("restored the Vault token", SOON).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        assert_eq!(leased.alive(setup).await?, 1);
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn wrapped_secret_id_survives_restart() -> Result<()> {
    Setup::shared("wrappedagain", async |setup| {
        let (admin, role) = (&setup.case.admin, setup.case.role.clone());
        let mount = format!("approle-{role}");
        admin.enable_auth(&mount, "approle").await?;
        // Tokens so short that the second process must log in.
        let config = json!({"token_policies": [role], "token_ttl": "4s", "token_max_ttl": "4s"});
        admin.put(&format!("auth/{mount}/role/webapp"), config).await?;
        let id = admin.get(&format!("auth/{mount}/role/webapp/role-id")).await?;
        let role_id = setup.case.credential("role-id", id["data"]["role_id"].as_str().context("a role ID")?)?;
        let path = format!("auth/{mount}/role/webapp/secret-id");
        let secret_id = setup.case.credential("secret-id", &wrap(setup.servers, Method::POST, &path).await?)?;
        let document = format!(
            "sources: {{app: {{path: {}, refresh: 1s}}}}\nretry: {{base: 200ms, slow: 1s}}\n\
             auth: {{method: approle, mount: {mount}, roleIdFile: {role_id}, secretIdFile: {secret_id}, \
             wrappedCreationPath: {path}}}\n",
            setup.case.secret_path()
        );
        let checkpoint = file(setup)?.display().to_string();
        let environment = [&configured_by(&document)[..], &[("KEYFERRY_CHECKPOINT", &checkpoint)]].concat();
        for _ in 0..3 {
            let mut agent = setup.agent(&["run"], &environment)?;
            // The token of the previous process ends within its life, so each process logs in with the secret ID.
            agent.wait_for_log("logged in to Vault", SOON).await?;
            setup.file_is(&mut agent, "password", "Losungwort").await?;
            assert!(!agent.report().contains("INTERCEPTED"), "{}", agent.report());
            agent.kill().await?;
        }
        Ok(())
    })
    .await
}
