//! Reloads that are applied, rejected or reverted; a rejected reload changes nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::leased::{allow, data_path, put_secret};
use crate::setup::{SOON, Setup, login};
use crate::testbed::free_port;

fn with_role(setup: &Setup<'_>, role: &str) -> String {
    format!("auth: {{role: {role}}}\nsources: {{webapp: {{path: {}, refresh: 1s}}}}\n", setup.case.secret_path())
}

#[tokio::test]
async fn failed_login_on_reload_keeps_session_and_successful_login_replaces_it() -> Result<()> {
    Setup::shared("newrole", async |setup| {
        let (admin, mount, role) = (&setup.case.admin, &setup.case.auth_mount, setup.case.role.clone());
        let mut agent = setup.agent_with_file(&["run"], &with_role(setup, &role))?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        let first = admin.accessors_of(mount).await?;
        assert_eq!(first.len(), 1);

        setup.write_config(&with_role(setup, "unknown-role"))?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "ConfigRejected").await?;
        let message = setup.message("SecretsFresh").await.unwrap_or_default();
        println!("{message}");
        assert!(
            message.contains("invalid role name \\\"unknown-role\\\"")
                || message.contains("invalid role name \"unknown-role\"")
        );
        let warned = || async {
            let events = setup.events("Warning").await.ok()?;
            events.into_iter().find(|(reason, note)| reason == "ConfigRejected" && note.contains("unknown-role"))
        };
        agent.wait_for("a Warning Event", SOON, warned).await?;
        setup.case.put(&login("Nutzername", "trotz-der-Ablehnung")).await?;
        setup.file_is(&mut agent, "password", "trotz-der-Ablehnung").await?;
        assert_eq!(setup.condition("SecretsReady").await, Some(("True".into(), "Published".into())));
        assert_eq!(admin.accessors_of(mount).await?, first, "the previous session is in use");

        setup.write_config(&with_role(setup, &role))?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        assert_eq!(admin.accessors_of(mount).await?, first, "the previous session was kept");

        let second = format!("{role}-2");
        let body = json!({
            "audience": "vault",
            "bound_service_account_names": [setup.case.account],
            "bound_service_account_namespaces": [setup.case.namespace],
            "token_policies": [role],
            "token_ttl": "20m",
        });
        admin.role(mount, &second, body).await?;
        setup.write_config(&with_role(setup, &second))?;
        agent.wait_for_log("the new configuration is active", SOON).await?;
        let reloaded = Instant::now();
        setup.case.put(&login("Nutzername", "durch-die-neue-Rolle")).await?;
        setup.file_is(&mut agent, "password", "durch-die-neue-Rolle").await?;
        // The previous token is kept for some time, for applications that have just read a credential that depends on it.
        agent
            .wait_for("the previous token is revoked", Duration::from_secs(60), || async {
                admin.token(&first[0]).await.ok()?.is_none().then_some(())
            })
            .await?;
        println!("the previous token was revoked {:?} after the reload", reloaded.elapsed());
        assert_eq!(admin.accessors_of(mount).await?.len(), 1);
        agent.terminate(SOON).await?;
        assert!(admin.accessors_of(mount).await?.is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn mirror_follows_source_moved_to_older_secret() -> Result<()> {
    Setup::shared("moves", async |setup| {
        allow(setup, &[&data_path(setup, "*")]).await?;
        put_secret(setup, "a", json!({"password": "frueher-geschrieben"})).await?;
        put_secret(setup, "b", json!({"password": "b-erste-Fassung"})).await?;
        put_secret(setup, "b", json!({"password": "b-zweite-Fassung"})).await?;
        let document = |path: &str| {
            let mount = &setup.case.kv_mount;
            format!("sources: {{app: {{path: {mount}/{path}, refresh: 1s}}}}\nmirrors: {{top-secret-ks: {{}}}}\n")
        };
        let mut agent = setup.agent_with_file(&["run"], &document("b"))?;
        setup.secret_is(&mut agent, "password", "b-zweite-Fassung").await?;
        for (path, wanted) in
            [("a", "frueher-geschrieben"), ("b", "b-zweite-Fassung"), ("b, version: 1", "b-erste-Fassung")]
        {
            setup.write_config(&document(path))?;
            setup.file_is(&mut agent, "password", wanted).await?;
            setup.secret_is(&mut agent, "password", wanted).await?;
            setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        }
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn source_added_by_reload_raises_no_warning() -> Result<()> {
    Setup::shared("adds", async |setup| {
        allow(setup, &[&data_path(setup, "*")]).await?;
        put_secret(setup, "added", json!({"token": "dazu-gekommen"})).await?;
        let one = format!("sources:\n  webapp: {{path: {}, refresh: 1s}}\n", setup.case.secret_path());
        let mut agent = setup.agent_with_file(&["run"], &one)?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        setup.write_config(&format!("{one}  added: {{path: {}/added, refresh: 1s}}\n", setup.case.kv_mount))?;
        setup.file_is(&mut agent, "token", "dazu-gekommen").await?;
        let reloaded = || async {
            setup.events("Normal").await.ok()?.into_iter().find(|(reason, _)| reason == "ConfigReloaded").map(drop)
        };
        agent.wait_for("an Event about the reload", SOON, reloaded).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        let warning = agent.log().into_iter().find(|line| line.contains("SecretsFresh") && line.contains("\"False\""));
        assert_eq!(warning, None);
        assert_eq!(setup.events("Warning").await?, []);
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn directory_change_on_reload_removes_secrets_from_old_directory() -> Result<()> {
    Setup::shared("newdir", async |setup| {
        let (old, new) = (setup.case.directory.clone(), setup.case.directory.with_file_name("elsewhere"));
        let document = |directory: &std::path::Path| {
            let path = setup.case.secret_path();
            format!(
                "directory: {{path: {}}}\nsources: {{webapp: {{path: {path}, refresh: 1s}}}}\n",
                directory.display()
            )
        };
        let mut agent = setup.agent_with_file(&["run"], &document(&old))?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        setup.write_config(&document(&new))?;
        agent
            .wait_for("the files are in the new directory and not in the old directory", SOON, || {
                let there = std::fs::read_to_string(new.join("password")).is_ok_and(|text| text == "Losungwort");
                let gone = !old.join("password").exists() && !old.join("..data").exists();
                async move { (there && gone).then_some(()) }
            })
            .await?;
        let left: Vec<_> = std::fs::read_dir(&old).into_iter().flatten().filter_map(Result::ok).collect();
        println!("left in the old directory: {left:?}");
        assert!(left.iter().all(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir())), "{left:?}");
        setup.case.put(&login("Nutzername", "am-neuen-Ort")).await?;
        let found = || {
            let found = std::fs::read_to_string(new.join("password")).context("no file").ok();
            async move { found.filter(|text| text == "am-neuen-Ort").map(drop) }
        };
        agent.wait_for("a rotation reaches the file", SOON, found).await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn listener_stays_open_until_reloaded_address_is_free() -> Result<()> {
    Setup::shared("newport", async |setup| {
        let (old, new) = (free_port()?, std::net::TcpListener::bind("127.0.0.1:0")?);
        let taken = new.local_addr()?;
        let document = |listen: &str| {
            format!("listen: \"{listen}\"\nsources: {{webapp: {{path: {}, refresh: 1s}}}}\n", setup.case.secret_path())
        };
        let old = format!("127.0.0.1:{old}");
        let is_ready = |address: String| async move {
            reqwest::get(format!("http://{address}/readyz")).await.is_ok_and(|response| response.status().is_success())
        };
        let file = setup.write_config(&document(&old))?;
        let changes = [("KEYFERRY_SECRETS", ""), ("KEYFERRY_CONFIG", file.as_str()), ("KEYFERRY_LISTEN", "")];
        let mut agent = setup.agent(&["run"], &changes)?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        setup.write_config(&document(&taken.to_string()))?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "ListenFailed").await?;
        assert!(is_ready(old.clone()).await, "the previous address serves");
        drop(new);
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        assert!(is_ready(taken.to_string()).await && !is_ready(old).await);
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn restart_after_reload_with_missing_source_stays_ready_and_updates_other_files() -> Result<()> {
    Setup::shared("rerun", async |setup| {
        let one = format!("sources:\n  webapp: {{path: {}, refresh: 1s}}\n", setup.case.secret_path());
        let mut agent = setup.agent_with_file(&["run"], &one)?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        let two = format!("{one}  later: {{path: {}/later, refresh: 1s}}\n", setup.case.kv_mount);
        setup.write_config(&two)?;
        agent.wait_for_log("the new configuration is active", SOON).await?;
        agent.kill().await?;
        let mut agent = setup.agent_with_file(&["run"], &two)?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "Denied").await?;
        setup.case.put(&login("Nutzername", "nach-dem-Neustart")).await?;
        setup.file_is(&mut agent, "password", "nach-dem-Neustart").await?;
        let (status, _) = setup.condition("SecretsReady").await.context("it is reported")?;
        assert_eq!(status, "True");
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}
