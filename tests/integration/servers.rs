//! Tests of the testbed itself. If they fail, fix the servers before looking at the agent.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::testbed::{self, Case, Servers, kube, reference_scenario, vault};

#[tokio::test]
async fn reference_scenario_allows_login_and_read() {
    let Some(servers) = Servers::shared("reference_scenario_allows_login_and_read").await else { return };
    let case = Case::new(servers, "login").await;

    let token = case.login(servers).await.expect("the Pod's token logs in");
    let pod = servers.vault.client(&token).expect("a client");
    let path = format!("{}/data/webapp/config", case.kv_mount);
    let answer = pod.get(&path).await.expect("the policy lets it read");
    assert_eq!(answer["data"]["data"], reference_scenario::secret_data());

    let other = format!("{}/data/webapp/other", case.kv_mount);
    let (status, _) = pod.request(Method::GET, &other, Value::Null).await.expect("an answer");
    assert_eq!(status, 403, "the policy names one path");
    assert_eq!(servers.vault.audited_requests(&path).len(), 2, "one write by the test, one read");
    let accessors = case.admin.accessors_of(&case.auth_mount).await.expect("accessors");
    assert_eq!(accessors.len(), 1);
    case.admin.revoke_accessor(&accessors[0]).await.expect("revoked");
    assert_eq!(case.admin.token(&accessors[0]).await.expect("an answer"), None);
}

#[tokio::test]
async fn login_with_wrong_audience_is_denied() {
    let Some(servers) = Servers::shared("login_with_wrong_audience_is_denied").await else { return };
    let case = Case::new(servers, "audience").await;
    let jwt = case.cluster.token(&case.namespace, &case.account, None, None).await.expect("a token");
    let body = json!({"role": case.role, "jwt": jwt});
    let login = servers.vault.client("").expect("a client").login(&case.auth_mount, body).await;
    assert!(login.is_err(), "{login:?}");
}

#[tokio::test]
async fn pod_can_write_one_secret_and_read_none() {
    let Some(servers) = Servers::shared("pod_can_write_one_secret_and_read_none").await else { return };
    let case = Case::new(servers, "rbac").await;
    let kubeconfig = std::fs::read_to_string(&case.kubeconfig).expect("a kubeconfig");
    let pod = kube::Cluster { client: kube::client_from(&kubeconfig).await.expect("a client") };
    let secret = |name: &str| format!("{{apiVersion: v1, kind: Secret, metadata: {{name: {name}}}}}");

    pod.apply(&case.namespace, &secret(reference_scenario::SECRET)).await.expect("its own Secret");
    assert!(case.cluster.secret(&case.namespace, reference_scenario::SECRET).await.expect("an answer").is_some());
    let other = pod.apply(&case.namespace, &secret("other")).await.expect_err("another Secret");
    assert!(format!("{other:#}").contains("forbidden"), "{other:#}");
    let read = pod.secret(&case.namespace, reference_scenario::SECRET).await.expect_err("a read");
    assert!(format!("{read:#}").contains("forbidden"), "{read:#}");
}

#[tokio::test]
async fn servers_restart_with_their_data() {
    let Some(servers) = Servers::own("servers_restart_with_their_data").await else { return };
    let case = Case::new(&servers, "restart").await;

    servers.vault.seal().await.expect("sealed");
    let (status, _) = case.admin.request(Method::GET, "sys/health", Value::Null).await.expect("an answer");
    assert_eq!(status, 503);
    servers.vault.stop().await.expect("stopped");
    servers.kube.stop().await.expect("stopped");
    assert!(case.admin.get("sys/health").await.is_err());
    servers.vault.start_again(&servers.watchdog).await.expect("Vault is back");
    servers.kube.start_again(&servers.watchdog).await.expect("the API server is back");

    let token = case.login(&servers).await.expect("the Pod's token still logs in");
    let path = format!("{}/data/webapp/config", case.kv_mount);
    let answer = servers.vault.client(&token).expect("a client").get(&path).await.expect("a read");
    assert_eq!(answer["data"]["data"], reference_scenario::secret_data());
}

#[tokio::test]
async fn vault_serves_tls() {
    let Some(servers) = Servers::shared("vault_serves_tls").await else { return };
    let binaries = testbed::binaries::Binaries::find_or_build().expect("found for the shared servers");
    let options = vault::Options { tls: true, ..vault::Options::default() };
    let vault = vault::Vault::start(&binaries, &servers.watchdog, options).await.expect("Vault with TLS");
    assert!(vault.address().starts_with("https://"));
    assert!(vault.ca_file().is_some_and(std::path::Path::exists));
    vault.stop().await.expect("stopped");
}

#[tokio::test]
async fn watchdog_removes_everything_when_test_process_ends() {
    testbed::install_tls();
    let watchdog = testbed::watchdog::Watchdog::start().expect("a watchdog");
    let (directory, memory) = (watchdog.directory.clone(), watchdog.memory.clone());
    // A grandchild, like a plugin of Vault.
    let mut sleeper = std::process::Command::new("/bin/sh");
    sleeper.args(["-c", "sleep 600 & echo $! > pid; wait"]).current_dir(&directory);
    let process = watchdog.spawn(&mut sleeper).expect("a process");
    let pid = directory.join("pid");
    let child = testbed::wait_until("the grandchild runs", Duration::from_secs(5), || async {
        std::fs::read_to_string(&pid).ok()?.trim().parse::<u32>().ok()
    })
    .await
    .expect("a pid");
    // As if this process were killed: the pipe closes, and no other value is dropped.
    drop(watchdog);
    let gone = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        status.is_empty() || status.contains(") Z ")
    };
    testbed::wait_until("both processes have exited", Duration::from_secs(5), || async {
        (gone(process.id()) && gone(child)).then_some(())
    })
    .await
    .expect("no process is left");
    assert!(!directory.exists() && !memory.exists());
    std::mem::forget(process);
}
