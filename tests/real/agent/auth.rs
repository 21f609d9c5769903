//! The auth methods.

use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::json;

use super::stage::{SOON, Stage};
use crate::testbed::{Agent, Servers};

/// Runs `once` with this `auth` block and gives the exit code.
async fn once_with(stage: &Stage<'_>, auth: &str) -> Result<(Option<i32>, Agent)> {
    let document = format!(
        "sources: {{s: {{path: {}}}}}\nauth: {auth}\nretry: {{base: 50ms, max: 100ms, slow: 100ms}}\n",
        stage.case.secret_path()
    );
    let none = [
        ("KEYFERRY_SECRETS", ""),
        ("KEYFERRY_MIRROR", ""),
        ("KEYFERRY_ROLE", ""),
        ("KEYFERRY_AUTH_MOUNT", ""),
        ("KEYFERRY_JWT_FILE", ""),
        ("KEYFERRY_CONFIG_INLINE", document.as_str()),
    ];
    let mut agent = stage.agent(&["once", "--timeout", "10s"], &none)?;
    let code = agent.wait(SOON).await?.code();
    Ok((code, agent))
}

fn file(stage: &Stage<'_>, name: &str, text: &str) -> Result<String> {
    let file = stage.case.jwt_file.with_file_name(name);
    std::fs::write(&file, text)?;
    Ok(file.display().to_string())
}

#[tokio::test]
async fn approle_logs_in_with_a_plain_and_with_a_wrapped_secret_id() -> Result<()> {
    let name = "approle_logs_in_with_a_plain_and_with_a_wrapped_secret_id";
    let Some(servers) = Servers::shared(name).await else { return Ok(()) };
    let stage = Stage::new(servers, "approle").await;
    let (admin, role) = (&stage.case.admin, stage.case.role.clone());
    let mount = format!("approle-{role}");
    admin.enable_auth(&mount, "approle").await?;
    admin.put(&format!("auth/{mount}/role/webapp"), json!({"token_policies": [role]})).await?;
    let id = admin.get(&format!("auth/{mount}/role/webapp/role-id")).await?;
    let role_id = file(&stage, "role-id", id["data"]["role_id"].as_str().context("a role id")?)?;
    let path = format!("auth/{mount}/role/webapp/secret-id");
    let secret = admin.ok(Method::POST, &path, json!({})).await?;
    let plain = secret["data"]["secret_id"].as_str().context("a secret id")?.to_owned();
    let secret_id = file(&stage, "secret-id", &plain)?;
    let auth = |more: &str| {
        format!("{{method: approle, mount: {mount}, roleIdFile: {role_id}, secretIdFile: {secret_id}{more}}}")
    };
    let (code, agent) = once_with(&stage, &auth("")).await?;
    assert_eq!(code, Some(0), "{}", agent.report());
    stage.nothing_leaked(&agent, &[&plain]).await?;

    let wrapped = wrap(&stage, servers, &path).await?;
    std::fs::write(&secret_id, &wrapped)?;
    let (code, agent) =
        once_with(&stage, &auth(&format!(", wrappedCreationPath: {path}, removeSecretId: true"))).await?;
    assert_eq!(code, Some(0), "{}", agent.report());
    assert!(!std::path::Path::new(&secret_id).exists(), "removed after its use");
    stage.nothing_leaked(&agent, &[&wrapped]).await?;

    // Unwrapped by somebody else before us: an alarm, not a retry for ever.
    std::fs::write(&secret_id, &wrapped)?;
    let (code, agent) = once_with(&stage, &auth(&format!(", wrappedCreationPath: {path}"))).await?;
    assert_eq!(code, Some(77), "{}", agent.report());
    assert!(agent.log().iter().any(|line| line.contains("INTERCEPTED")), "{}", agent.report());

    // Made by another path: somebody else's secret id.
    std::fs::write(&secret_id, wrap(&stage, servers, &path).await?)?;
    let (code, agent) = once_with(&stage, &auth(", wrappedCreationPath: auth/other/role/x/secret-id")).await?;
    assert_eq!(code, Some(77), "{}", agent.report());
    Ok(())
}

async fn wrap(stage: &Stage<'_>, servers: &Servers, path: &str) -> Result<String> {
    let url = format!("{}/v1/{path}", servers.vault.address());
    let request = reqwest::Client::new().post(url).header("x-vault-token", servers.vault.root_token());
    let answer: serde_json::Value =
        request.header("x-vault-wrap-ttl", "60s").json(&json!({})).send().await?.json().await?;
    let _ = stage;
    Ok(answer["wrap_info"]["token"].as_str().context("a wrapping token")?.to_owned())
}

#[tokio::test]
async fn a_given_token_is_used_and_never_revoked() -> Result<()> {
    let Some(servers) = Servers::shared("a_given_token_is_used_and_never_revoked").await else { return Ok(()) };
    let stage = Stage::new(servers, "given").await;
    // The article's token lives 744 hours.
    let request = json!({"policies": [stage.case.role], "ttl": "744h"});
    let (token, accessor) = stage.case.admin.create_token(request).await?;
    let token_file = file(&stage, "given-token", &token)?;
    let (code, agent) = once_with(&stage, &format!("{{method: token, tokenFile: {token_file}}}")).await?;
    assert_eq!(code, Some(0), "{}", agent.report());
    assert!(stage.case.admin.token(&accessor).await?.is_some(), "it is not ours to revoke");
    stage.nothing_leaked(&agent, &[&token]).await?;
    let changes =
        [("KEYFERRY_ROLE", ""), ("KEYFERRY_AUTH_MOUNT", ""), ("KEYFERRY_JWT_FILE", ""), ("VAULT_TOKEN", &token)];
    let mut agent = stage.agent(&["once"], &changes)?;
    assert_eq!(agent.wait(SOON).await?.code(), Some(0), "{}", agent.report());
    stage.nothing_leaked(&agent, &[&token]).await
}

#[tokio::test]
async fn jwt_logs_in_by_the_cluster_s_keys() -> Result<()> {
    let Some(servers) = Servers::shared("jwt_logs_in_by_the_cluster_s_keys").await else { return Ok(()) };
    let stage = Stage::new(servers, "jwt").await;
    let (admin, role) = (&stage.case.admin, stage.case.role.clone());
    let mount = format!("jwt-{role}");
    admin.enable_auth(&mount, "jwt").await?;
    let key = servers.kube.service_account_public_key()?;
    admin.put(&format!("auth/{mount}/config"), json!({"jwt_validation_pubkeys": [key]})).await?;
    let account = format!("system:serviceaccount:{}:webapp", stage.case.namespace);
    let bound = json!({"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "bound_subject": account,
        "token_policies": [role]});
    admin.put(&format!("auth/{mount}/role/webapp"), bound).await?;
    let jwt = stage.case.jwt_file.display();
    let (code, agent) =
        once_with(&stage, &format!("{{method: jwt, mount: {mount}, role: webapp, jwtFile: {jwt}}}")).await?;
    assert_eq!(code, Some(0), "{}", agent.report());
    stage.nothing_leaked(&agent, &[]).await
}

#[tokio::test]
async fn a_token_for_another_audience_never_leaves_the_pod() -> Result<()> {
    let Some(servers) = Servers::own("a_token_for_another_audience_never_leaves_the_pod").await else { return Ok(()) };
    let stage = Stage::new(&servers, "audience").await;
    let before = servers.vault.audit_lines().len();
    let jwt = stage.case.jwt_file.display();
    let auth = format!(
        "{{method: kubernetes, mount: {}, role: {}, jwtFile: {jwt}, audience: somebody-else}}",
        stage.case.auth_mount, stage.case.role
    );
    let (code, agent) = once_with(&stage, &auth).await?;
    assert_eq!(code, Some(64), "{}", agent.report());
    assert_eq!(servers.vault.audit_lines().len(), before, "nothing was sent");
    stage.nothing_leaked(&agent, &[]).await
}
