//! The token for the application: its policies and its TTL, and an application that uses it ten times a second.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use reqwest::Method;
use serde_json::{Value, json};

use super::engines::Page;
use crate::markdown::blocks;
use crate::setup::{SOON, Setup, configured_by, supplied_token};

const PAGE: &str = include_str!("../../../docs/how-to/give-the-application-a-token.md");

/// Time for something that depends on the lifetimes of the test.
const LONG: Duration = Duration::from_secs(60);

/// A policy for applications of the case, with one secret.
async fn application_policy(setup: &Setup<'_>) -> Result<String> {
    let name = format!("{}-application", setup.case.role);
    let rules = format!("path \"{}/data/webapp/config\" {{ capabilities = [\"read\"] }}", setup.case.kv_mount);
    setup.case.admin.policy(&name, &rules).await?;
    Ok(name)
}

/// Creates a token role with the policy, and allows the agent to use it. Returns its name.
async fn token_role(setup: &Setup<'_>, policy: &str, settings: Value) -> Result<String> {
    let name = setup.case.role.clone();
    let mut role = json!({"allowed_policies": [policy]});
    if let (Value::Object(role), Value::Object(settings)) = (&mut role, settings) {
        role.extend(settings);
    }
    setup.case.admin.put(&format!("auth/token/roles/{name}"), role).await?;
    let rules = format!("path \"auth/token/create/{name}\" {{ capabilities = [\"update\"] }}");
    setup.case.admin.policy(&setup.case.role, &rules).await?;
    Ok(name)
}

/// The token in the file. The leak test finds tokens by their prefix.
fn token(setup: &Setup<'_>) -> Option<String> {
    setup.case.read("vault-token").filter(|token| token.starts_with("hvs."))
}

/// What Vault says about a token; `None` if it is not valid.
async fn lookup(setup: &Setup<'_>, token: &str) -> Result<Option<Value>> {
    let (status, mut answer) =
        setup.case.admin.request(Method::POST, "auth/token/lookup", json!({"token": token})).await?;
    Ok((status == 200).then(|| answer["data"].take()))
}

/// The requests of an application.
#[derive(Default)]
struct Requests {
    sent: usize,
    refused: Vec<String>,
    /// All tokens in the file so far.
    tokens: BTreeSet<String>,
}

/// Sends a request with the token in the file every 100 ms.
async fn use_token(setup: &Setup<'_>, requests: &RefCell<Requests>) -> Result<Infallible> {
    let path = format!("{}/data/webapp/config", setup.case.kv_mount);
    let mut clock = tokio::time::interval(Duration::from_millis(100));
    loop {
        clock.tick().await;
        // An old set is removed after the new one is visible; a reader that was between both reads again.
        let token = token(setup).or_else(|| token(setup)).context("the file has no token")?;
        let client = setup.servers.vault.client(&token)?;
        let (status, _) = client.request(Method::GET, &path, Value::Null).await?;
        let mut requests = requests.borrow_mut();
        requests.sent += 1;
        requests.tokens.insert(token);
        if status != 200 {
            let sent = requests.sent;
            requests.refused.push(format!("request {sent}: status {status}"));
        }
    }
}

/// Uses the token in the file while `scenario` runs. No request may be refused.
async fn requests_during(
    setup: &Setup<'_>,
    scenario: impl AsyncFnOnce(&RefCell<Requests>) -> Result<()>,
) -> Result<Requests> {
    let requests = RefCell::new(Requests::default());
    tokio::select! {
        failed = use_token(setup, &requests) => match failed? {},
        done = scenario(&requests) => done?,
    }
    let requests = requests.into_inner();
    println!("{} requests with {} tokens, refused: {:?}", requests.sent, requests.tokens.len(), requests.refused);
    ensure!(requests.refused.is_empty() && requests.sent > 20, "{:?}", requests.refused);
    Ok(requests)
}

#[tokio::test]
async fn token_page_works() -> Result<()> {
    Setup::shared("pagetoken", async |setup| {
        let (page, admin) = (Page::new(PAGE), &setup.case.admin);
        let rules = "path \"transit/encrypt/webapp\" { capabilities = [\"update\"] }";
        admin.policy("webapp-transit", rules).await?;
        // The command of the page.
        let (_, block) = blocks(PAGE, "console").into_iter().next().context("the commands")?;
        let command = block.lines().find_map(|line| line.strip_prefix("$ vault write ")).context("the token role")?;
        let (path, settings) = command.split_once(' ').context("a path")?;
        let settings = settings.split(' ').filter_map(|pair| pair.split_once('='));
        let settings: serde_json::Map<_, _> = settings.map(|(key, value)| (key.to_owned(), value.into())).collect();
        admin.put(path, settings.into()).await?;
        for configuration in &page.configurations[..2] {
            setup.case.vault_role(json!({"token_policies": [setup.case.role, "webapp-transit"]})).await?;
            page.publish(setup, configuration).await?;
            let token = token(setup).context("a token")?;
            let found = lookup(setup, &token).await?.context("the token is valid")?;
            assert_eq!(found["policies"], json!(["default", "webapp-transit"]));
            assert_eq!((&found["creation_ttl"], &found["orphan"]), (&json!(3600), &json!(false)), "{found}");
            assert_eq!(found["renewable"], true);
            let display_name = format!("token-keyferry-{}-{}", setup.case.namespace, setup.case.pod_name);
            assert_eq!(found["display_name"], display_name.as_str());
            std::fs::remove_dir_all(&setup.case.directory)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn application_is_never_refused() -> Result<()> {
    Setup::shared("apptoken", async |setup| {
        let policy = application_policy(setup).await?;
        let role = token_role(setup, &policy, json!({"token_explicit_max_ttl": "26s"})).await?;
        setup.case.vault_role(json!({"token_ttl": "24s", "token_max_ttl": "44s"})).await?;
        let document = format!(
            "tokenFile: {{role: {role}, policies: [{policy}], ttl: 12s}}\n\
             retry: {{base: 100ms, max: 500ms, slow: 500ms}}\n"
        );
        let checkpoint = setup.case.directory.parent().context("a parent")?.join("checkpoint").display().to_string();
        let environment = [
            ("KEYFERRY_SECRETS", ""),
            ("KEYFERRY_MIRROR", ""),
            ("KEYFERRY_CONFIG_INLINE", document.as_str()),
            ("KEYFERRY_CHECKPOINT", &checkpoint),
        ];
        let mut agent = setup.agent(&["run"], &environment)?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        let first = token(setup).context("a token")?;
        let requests = requests_during(setup, async |requests| {
            agent.wait_for_log("renewed the lease of source tokenFile", SOON).await?;
            // A restart of the container, by a signal and by a kill: the same token.
            assert_eq!(agent.terminate(SOON).await?.code(), Some(0), "{}", agent.report());
            for _ in 0..2 {
                agent = setup.agent(&["run"], &environment)?;
                agent.wait_for_log("restored the Vault token", SOON).await?;
                assert_eq!(token(setup).as_deref(), Some(first.as_str()));
                agent.kill().await?;
            }
            agent = setup.agent(&["run"], &environment)?;
            // The maximum of the child twice, and the maximum of its parent.
            let tokens = || async { (requests.borrow().tokens.len() >= 3).then_some(()) };
            agent.wait_for("the file had three tokens", LONG, tokens).await?;
            agent.wait_for_log("logged in to Vault", LONG).await?;
            let before = requests.borrow().tokens.len();
            let another = || async { (requests.borrow().tokens.len() > before).then_some(()) };
            agent.wait_for("the file has a token of the next parent", LONG, another).await
        })
        .await?;
        let last = token(setup).context("a token")?;
        let mut valid = Vec::new();
        for token in &requests.tokens {
            valid.extend(lookup(setup, token).await?.map(|_| token.clone()));
        }
        assert!(valid.contains(&last) && valid.len() <= 2, "replaced tokens are revoked: {} left", valid.len());
        assert_eq!(agent.terminate(SOON).await?.code(), Some(0), "{}", agent.report());
        Ok(())
    })
    .await
}

/// Deletes the pod, which stays until its finalizer is removed.
async fn delete_pod(setup: &Setup<'_>) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(setup.case.cluster.client.clone(), &setup.case.namespace);
    let patch = |finalizers: Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    pods.patch(&setup.case.pod_name, &PatchParams::default(), &patch(json!(["example.com/wait"]))).await?;
    pods.delete(&setup.case.pod_name, &DeleteParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn end_of_the_pod_revokes_the_token_of_the_application() -> Result<()> {
    for supplied in [false, true] {
        Setup::shared("endtoken", async |setup| {
            let policy = application_policy(setup).await?;
            let role = token_role(setup, &policy, json!({})).await?;
            let document = format!("tokenFile: {{role: {role}, policies: [{policy}]}}\n");
            let (parent, _) =
                setup.case.admin.create_token(json!({"policies": [setup.case.role], "ttl": "1h"})).await?;
            let given = supplied_token(setup.servers.vault.address(), &parent);
            let mut environment = configured_by(&document).to_vec();
            environment.truncate(if supplied { environment.len() } else { 0 });
            environment.extend(if supplied {
                given.to_vec()
            } else {
                vec![("KEYFERRY_SECRETS", ""), ("KEYFERRY_MIRROR", ""), ("KEYFERRY_CONFIG_INLINE", document.as_str())]
            });
            let mut agent = setup.agent(&["run"], &environment)?;
            setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
            let child = token(setup).context("a token")?;
            delete_pod(setup).await?;
            assert_eq!(agent.terminate(SOON).await?.code(), Some(0), "{}", agent.report());
            assert_eq!(lookup(setup, &child).await?, None, "{}", agent.report());
            assert!(lookup(setup, &parent).await?.is_some(), "a supplied token stays valid");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn denied_and_refused_tokens_say_what_is_missing() -> Result<()> {
    Setup::shared("denytoken", async |setup| {
        let policy = application_policy(setup).await?;
        let role = token_role(setup, &policy, json!({})).await?;
        for (token_file, words) in [
            (
                format!("{{policies: [{policy}]}}"),
                r#"this policy rule is missing: path "auth/token/create" { capabilities = ["update"] }"#,
            ),
            (format!("{{role: {role}, policies: [other]}}"), "must be subset of the role's allowed policies"),
        ] {
            let mut once = setup.agent_with(&["once"], &format!("tokenFile: {token_file}\n"))?;
            let code = once.wait(LONG).await?.code();
            let log = once.report().replace("\\\"", "\"");
            assert!(code != Some(0) && log.contains(words), "{code:?}: {log}");
            assert_eq!(token(setup), None);
        }
        Ok(())
    })
    .await
}
