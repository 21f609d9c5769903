//! Credentials that expire with the agent's token: they outlive the agent's container but not the pod.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::manifest::IDLE;
use crate::setup::{Setup, condition, container, is_ready};

/// IDs of the leases of this path.
async fn leases(setup: &Setup, path: &str) -> Result<Vec<String>> {
    let (status, body) = setup.vault.request(list()?, &format!("sys/leases/lookup/{path}"), Value::Null).await?;
    if status == 404 {
        return Ok(Vec::new());
    }
    ensure!(status == 200, "Vault answered {status}: {body}");
    Ok(serde_json::from_value(body["data"]["keys"].clone())?)
}

fn list() -> Result<reqwest::Method> {
    Ok(reqwest::Method::from_bytes(b"LIST")?)
}

#[tokio::test]
async fn leases_outlive_agent_container_and_end_with_pod() -> Result<()> {
    Setup::with_node_control("leases_outlive_agent_container_and_end_with_pod", async |setup| {
        // KV version 1 in place of a database engine: each read returns a lease.
        let mount = format!("leased-{}", setup.unique);
        let path = format!("{mount}/config");
        setup.vault.enable_secrets(&mount, "kv", json!({"version": "1", "leased_passthrough": "true"})).await?;
        let data = json!({"username": "Nutzername", "password": "Losungwort", "ttl": "1h"});
        setup.vault.put(&path, data).await?;
        let policy = format!("path \"{path}\" {{ capabilities = [\"read\"] }}");
        setup.vault.policy(&setup.unique, &policy).await?;
        let demo = setup.demo()?.script(IDLE).env("KEYFERRY_SECRETS", &path).env("KEYFERRY_MIRROR", "");
        setup.apply(&demo).await?;
        let name = setup.ready("webapp").await?;
        let pod = setup.pod(&name).await?.context("the pod")?;
        let first = leases(setup, &path).await?;
        ensure!(first.len() == 1, "one read: {first:?}");

        // Only the agent's container stops: the application keeps running, and its credential stays valid.
        setup.signal(&pod, "/keyferry", Signal::TERM)?;
        let again = |pod: &Pod| {
            let agent = container(pod, "keyferry")?;
            let fresh = condition(pod, "keyferry.dev/SecretsFresh")?;
            (agent.restart_count == 1 && is_ready(pod) && fresh.1 == "Fresh").then_some(agent)
        };
        let (_, agent) = setup.pod_where("webapp", "the agent runs again", again).await?;
        let end = agent.last_state.and_then(|state| state.terminated).context("it has exited")?;
        assert_eq!(end.exit_code, 0);
        let second = leases(setup, &path).await?;
        ensure!(second.contains(&first[0]), "{first:?} is revoked: {second:?}");
        ensure!(second.len() == 2, "the restarted agent has its own lease: {second:?}");

        // The pod is deleted: only the lease of the first agent remains, until it expires.
        setup.kubectl(&["delete", "deployment", "demo-dp", "--wait=false"])?;
        setup
            .wait_for("the lease of the pod's last agent is revoked", || async {
                (leases(setup, &path).await.ok()? == first).then_some(())
            })
            .await?;
        Ok(())
    })
    .await
}
