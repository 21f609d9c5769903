//! Signals, exit codes, probes, reloads.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::setup::{QUICK, SOON, Setup, login};
use crate::testbed::{free_port, skip_test};

#[tokio::test]
async fn sigterm_revokes_token_and_reports_agent_stopped() -> Result<()> {
    Setup::shared("term", async |setup| {
        let mut agent = setup.agent(&["run"], QUICK)?;
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        let accessors = setup.case.admin.accessors_of(&setup.case.auth_mount).await?;
        assert_eq!(accessors.len(), 1, "the agent has logged in once");
        let started = tokio::time::Instant::now();
        assert_eq!(agent.terminate(SOON).await?.code(), Some(0), "{}", agent.report());
        assert!(started.elapsed() < Duration::from_secs(2), "the shutdown took {:?}", started.elapsed());
        assert_eq!(setup.case.admin.token(&accessors[0]).await?, None, "the token is revoked");
        assert_eq!(setup.condition("SecretsFresh").await, Some(("False".into(), "AgentStopped".into())));
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"), "the files stay");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn second_signal_stops_agent_immediately() -> Result<()> {
    Setup::own("twice", async |setup| {
        let mut agent = setup.agent(&["run"], QUICK)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        // With a suspended Vault, the drain waits for the revocation.
        setup.servers.vault.freeze().await?;
        agent.signal(Signal::TERM)?;
        agent.wait_for_log("received SIGTERM", SOON).await?;
        let started = tokio::time::Instant::now();
        let status = agent.terminate(SOON).await?;
        setup.servers.vault.thaw().await?;
        assert_eq!(status.code(), Some(128 + 15), "{}", agent.report());
        assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn refresh_command_triggers_refresh() -> Result<()> {
    Setup::shared("refresh", async |setup| {
        let before = setup.agent(&["refresh"], &[])?.wait(SOON).await?;
        assert_eq!(before.code(), Some(1), "no agent is running");
        let mut agent = setup.agent(&["run"], &[("KEYFERRY_REFRESH", "1h")])?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        setup.case.put(&login("Nutzername", "sofort")).await?;
        assert_eq!(setup.agent(&["refresh"], &[])?.wait(SOON).await?.code(), Some(0));
        setup.file_is(&mut agent, "password", "sofort").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn sighup_triggers_refresh() -> Result<()> {
    Setup::shared("hup", async |setup| {
        let mut agent = setup.agent(&["run"], &[("KEYFERRY_REFRESH", "1h")])?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        setup.case.put(&login("Nutzername", "sofort")).await?;
        agent.signal(Signal::HUP)?;
        setup.file_is(&mut agent, "password", "sofort").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn exit_code_matches_failure_kind() -> Result<()> {
    Setup::shared("exit", async |setup| {
        let quick = "retry: {base: 50ms, max: 100ms, slow: 100ms}";
        let source = |path: &str| format!("sources: {{s: {{path: {path}}}}}\n{quick}");
        let elsewhere = format!("{}/webapp/other", setup.case.kv_mount);
        let table = [
            ("a misspelt key", "sorces: {}".to_owned(), "", 64),
            ("a path that the policy does not allow", source(&elsewhere), "", 77),
            ("a role that does not exist", source(&setup.case.secret_path()), "unknown-role", 77),
        ];
        for (what, document, role, code) in table {
            let mut changes =
                vec![("KEYFERRY_SECRETS", ""), ("KEYFERRY_MIRROR", ""), ("KEYFERRY_CONFIG_INLINE", document.as_str())];
            if !role.is_empty() {
                changes.push(("KEYFERRY_ROLE", role));
            }
            let mut agent = setup.agent(&["once", "--timeout", "10s"], &changes)?;
            let status = agent.wait(SOON).await?;
            assert_eq!(status.code(), Some(code), "{what}: {}", agent.report());
        }
        // A token in the configuration; in a file, because the leak test searches the environment.
        let file = setup.case.jwt_file.with_file_name("keyferry.yaml");
        std::fs::write(&file, "auth: {method: token, token: hvs.planted}\n")?;
        let config = file.display().to_string();
        let mut agent = setup.agent(&["once"], &[("KEYFERRY_CONFIG", config.as_str())])?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(64), "{}", agent.report());
        assert!(agent.report().contains("auth.token"), "{}", agent.report());
        // The read is allowed, but the secret does not exist.
        let policy = format!("path \"{}/data/*\" {{ capabilities = [\"read\"] }}", setup.case.kv_mount);
        setup.case.admin.policy(&setup.case.role, &policy).await?;
        let mut agent = setup.agent_with(&["once", "--timeout", "10s"], &source(&elsewhere))?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(66), "{}", agent.report());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn probes_and_metrics_work_with_and_without_listener() -> Result<()> {
    Setup::shared("probe", async |setup| {
        let address = format!("127.0.0.1:{}", free_port()?);
        for listen in ["", address.as_str()] {
            let changes = [("KEYFERRY_LISTEN", listen), ("KEYFERRY_REFRESH", "1s")];
            let mut early = setup.agent(&["probe", "ready"], &changes)?;
            assert_eq!(early.wait(SOON).await?.code(), Some(1), "no agent runs: {}", early.report());
            let mut agent = setup.agent(&["run"], &changes)?;
            setup.file_is(&mut agent, "password", "Losungwort").await?;
            agent.wait_for_log("\"Mirrored\"", SOON).await?;
            for what in ["startup", "ready", "live"] {
                let mut probe = setup.agent(&["probe", what], &changes)?;
                assert_eq!(probe.wait(SOON).await?.code(), Some(0), "{what}: {}", probe.report());
            }
            if !listen.is_empty() {
                let metrics = reqwest::get(format!("http://{listen}/metrics")).await?.text().await?;
                for name in
                    ["keyferry_generation 1", "keyferry_vault_requests_total", "operation=\"publish\",reason=\"Ok\""]
                {
                    assert!(metrics.contains(name), "{name}: {metrics}");
                }
            }
            agent.terminate(SOON).await?;
        }
        Ok(())
    })
    .await
}

/// Writes a configuration file as the kubelet updates a ConfigMap volume: a new directory and one rename of `..data`.
fn kubelet_writes(volume: &std::path::Path, number: u32, text: &str) -> Result<()> {
    use std::os::unix::fs::symlink;
    let fresh = format!("..2026_{number}");
    std::fs::create_dir_all(volume.join(&fresh))?;
    std::fs::write(volume.join(&fresh).join("keyferry.yaml"), text)?;
    symlink(&fresh, volume.join("..data_tmp"))?;
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data"))?;
    if number == 0 {
        symlink("..data/keyferry.yaml", volume.join("keyferry.yaml"))?;
    } else {
        std::fs::remove_dir_all(volume.join(format!("..2026_{}", number - 1)))?;
    }
    Ok(())
}

#[tokio::test]
async fn config_map_update_is_applied_and_invalid_one_rejected() -> Result<()> {
    Setup::shared("reload", async |setup| {
        let volume = setup.case.directory.parent().context("a parent")?.join("config");
        let document = |file: &str| {
            let path = setup.case.secret_path();
            format!(
                "sources: {{webapp: {{path: {path}, refresh: 1s}}}}\n\
                 outputs: [{{source: webapp, key: password, file: {file}}}]\n"
            )
        };
        kubelet_writes(&volume, 0, &document("one"))?;
        let config = volume.join("keyferry.yaml").display().to_string();
        let changes = [("KEYFERRY_SECRETS", ""), ("KEYFERRY_MIRROR", ""), ("KEYFERRY_CONFIG", config.as_str())];
        let mut agent = setup.agent(&["run"], &changes)?;
        setup.file_is(&mut agent, "one", "Losungwort").await?;
        for (number, file) in [(1, "two"), (2, "three")] {
            kubelet_writes(&volume, number, &document(file))?;
            setup.file_is(&mut agent, file, "Losungwort").await?;
            assert_eq!(setup.case.read("one"), None, "a file of the previous configuration is removed");
        }
        kubelet_writes(&volume, 3, &document("four").replace("refresh", "refesh"))?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "ConfigRejected").await?;
        for what in ["startup", "ready", "live"] {
            let mut probe = setup.agent(&["probe", what], &changes)?;
            let code = probe.wait(SOON).await?.code();
            assert_eq!(
                code,
                Some(0),
                "{what}: an invalid configuration must not restart the container: {}",
                probe.report()
            );
        }
        agent.wait_for_log("refesh", SOON).await?;
        setup.case.put(&login("Nutzername", "die-alte-gilt")).await?;
        setup.file_is(&mut agent, "three", "die-alte-gilt").await?;
        kubelet_writes(&volume, 4, &document("five"))?;
        setup.file_is(&mut agent, "five", "die-alte-gilt").await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        Ok(())
    })
    .await
}

/// The kernel has no default signal actions for PID 1: an unhandled SIGTERM is ignored, and the pod waits for its grace
/// period.
#[tokio::test]
async fn agent_as_pid_one_stops_on_sigterm() -> Result<()> {
    const NAMESPACE: [&str; 5] = ["unshare", "--user", "--map-root-user", "--pid", "--fork"];
    let tried = std::process::Command::new(NAMESPACE[0]).args(&NAMESPACE[1..]).arg("true").output();
    if !tried.as_ref().is_ok_and(|tried| tried.status.success()) {
        skip_test(
            "agent_as_pid_one_stops_on_sigterm",
            &format!("{} does not work here: {tried:?}", NAMESPACE.join(" ")),
        );
        return Ok(());
    }
    Setup::shared("pid", async |setup| {
        let mut agent = setup.agent_with_wrapper(&[&NAMESPACE[..], &["--kill-child"]].concat(), &["run"], QUICK)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", agent.id()))?;
        let pid = children.trim().parse().context("unshare has one child")?;
        let pid = rustix::process::Pid::from_raw(pid).context("a pid")?;
        agent.capture_pages();
        rustix::process::kill_process(pid, Signal::TERM)?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(0), "{}", agent.report());
        assert!(setup.case.admin.accessors_of(&setup.case.auth_mount).await?.is_empty(), "its token is revoked");
        Ok(())
    })
    .await
}
