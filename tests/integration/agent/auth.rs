//! The auth methods.

use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::json;

use crate::setup::{SOON, Setup, configured_by};
use crate::testbed::{Agent, Servers};

/// Runs `once` with this `auth` block; returns the exit code and the agent.
async fn once_with(setup: &Setup<'_>, auth: &str) -> Result<(Option<i32>, Agent)> {
    let document = format!(
        "sources: {{s: {{path: {}}}}}\nauth: {auth}\nretry: {{base: 50ms, max: 100ms, slow: 100ms}}\n",
        setup.case.secret_path()
    );
    let mut agent = setup.agent(&["once", "--timeout", "10s"], &configured_by(&document))?;
    let code = agent.wait(SOON).await?.code();
    Ok((code, agent))
}

#[tokio::test]
async fn approle_login_accepts_plain_and_wrapped_secret_id() -> Result<()> {
    Setup::shared("approle", async |setup| {
        let (admin, role) = (&setup.case.admin, setup.case.role.clone());
        let mount = format!("approle-{role}");
        admin.enable_auth(&mount, "approle").await?;
        admin.put(&format!("auth/{mount}/role/webapp"), json!({"token_policies": [role]})).await?;
        let id = admin.get(&format!("auth/{mount}/role/webapp/role-id")).await?;
        let role_id = setup.case.credential("role-id", id["data"]["role_id"].as_str().context("a role ID")?)?;
        let path = format!("auth/{mount}/role/webapp/secret-id");
        let secret = admin.ok(Method::POST, &path, json!({})).await?;
        let plain = secret["data"]["secret_id"].as_str().context("a secret ID")?;
        let secret_id = setup.case.credential("secret-id", plain)?;
        let auth = |more: &str| {
            format!("{{method: approle, mount: {mount}, roleIdFile: {role_id}, secretIdFile: {secret_id}{more}}}")
        };
        let (code, agent) = once_with(setup, &auth("")).await?;
        assert_eq!(code, Some(0), "{}", agent.report());

        let wrapped = wrap(setup.servers, Method::POST, &path).await?;
        setup.case.credential("secret-id", &wrapped)?;
        let (code, agent) =
            once_with(setup, &auth(&format!(", wrappedCreationPath: {path}, removeSecretId: true"))).await?;
        assert_eq!(code, Some(0), "{}", agent.report());
        assert!(!std::path::Path::new(&secret_id).exists(), "the secret ID is removed after use");

        // A wrapping token that was already used: the agent reports an interception and does not retry forever.
        setup.case.credential("secret-id", &wrapped)?;
        let (code, agent) = once_with(setup, &auth(&format!(", wrappedCreationPath: {path}"))).await?;
        assert_eq!(code, Some(77), "{}", agent.report());
        assert!(agent.log().iter().any(|line| line.contains("INTERCEPTED")), "{}", agent.report());

        // A wrapping token that was created at another path: not the expected secret ID.
        setup.case.credential("secret-id", &wrap(setup.servers, Method::POST, &path).await?)?;
        let (code, agent) = once_with(setup, &auth(", wrappedCreationPath: auth/other/role/x/secret-id")).await?;
        assert_eq!(code, Some(77), "{}", agent.report());
        Ok(())
    })
    .await
}

/// Sends a request without parameters, such as one for a secret ID, and returns the wrapping token of its response.
pub async fn wrap(servers: &Servers, method: Method, path: &str) -> Result<String> {
    let url = format!("{}/v1/{path}", servers.vault.address());
    let request = reqwest::Client::new().request(method, url).header("x-vault-token", servers.vault.root_token());
    let answer: serde_json::Value =
        request.header("x-vault-wrap-ttl", "60s").json(&json!({})).send().await?.json().await?;
    Ok(answer["wrap_info"]["token"].as_str().context("a wrapping token")?.to_owned())
}

#[tokio::test]
async fn supplied_token_is_used_and_not_revoked() -> Result<()> {
    Setup::shared("supplied", async |setup| {
        // A long-lived token.
        let request = json!({"policies": [setup.case.role], "ttl": "744h"});
        let (token, accessor) = setup.case.admin.create_token(request).await?;
        let token_file = setup.case.credential("supplied-token", &token)?;
        let (code, agent) = once_with(setup, &format!("{{method: token, tokenFile: {token_file}}}")).await?;
        assert_eq!(code, Some(0), "{}", agent.report());
        assert!(setup.case.admin.token(&accessor).await?.is_some(), "the supplied token is not revoked");
        let changes =
            [("KEYFERRY_ROLE", ""), ("KEYFERRY_AUTH_MOUNT", ""), ("KEYFERRY_JWT_FILE", ""), ("VAULT_TOKEN", &token)];
        let mut agent = setup.agent(&["once"], &changes)?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(0), "{}", agent.report());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn jwt_login_verifies_token_with_configured_public_key() -> Result<()> {
    Setup::shared("jwt", async |setup| {
        let (admin, role) = (&setup.case.admin, setup.case.role.clone());
        let mount = format!("jwt-{role}");
        admin.enable_auth(&mount, "jwt").await?;
        let key = setup.servers.kube.service_account_public_key()?;
        admin.put(&format!("auth/{mount}/config"), json!({"jwt_validation_pubkeys": [key]})).await?;
        let account = format!("system:serviceaccount:{}:{}", setup.case.namespace, setup.case.account);
        let bound = json!({
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": ["vault"],
            "bound_subject": account,
            "token_policies": [role],
        });
        admin.put(&format!("auth/{mount}/role/webapp"), bound).await?;
        let jwt = setup.case.jwt_file.display();
        let (code, agent) =
            once_with(setup, &format!("{{method: jwt, mount: {mount}, role: webapp, jwtFile: {jwt}}}")).await?;
        assert_eq!(code, Some(0), "{}", agent.report());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn token_for_wrong_audience_is_not_sent() -> Result<()> {
    Setup::own("audience", async |setup| {
        let before = setup.servers.vault.audit_lines().len();
        let jwt = setup.case.jwt_file.display();
        let auth = format!(
            "{{method: kubernetes, mount: {}, role: {}, jwtFile: {jwt}, audience: another-audience}}",
            setup.case.auth_mount, setup.case.role
        );
        let (code, agent) = once_with(setup, &auth).await?;
        assert_eq!(code, Some(64), "{}", agent.report());
        assert_eq!(setup.servers.vault.audit_lines().len(), before, "nothing was sent");
        Ok(())
    })
    .await
}
