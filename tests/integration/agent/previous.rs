//! Sources that read the previous version too, at a real Vault.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::setup::{SOON, Setup, login};
use crate::testbed::Agent;

/// Each key as a file, and one key of the previous version as another file too. The Secret has a key for each file.
fn document(setup: &Setup<'_>, refresh: &str) -> String {
    format!(
        "sources: {{s: {{path: {}, refresh: {refresh}, previous: true}}}}\noutputs:\n\
         - {{source: s}}\n\
         - {{source: s, key: password.previous, file: old-password, optional: true}}\n\
         mirrors: {{top-secret-ks: {{}}}}\n",
        setup.case.secret_path()
    )
}

/// The two passwords in one set.
fn passwords(setup: &Setup<'_>) -> Option<(String, Option<String>)> {
    let set = setup.case.directory.join(std::fs::read_link(setup.case.directory.join("..data")).ok()?);
    let read = |file: &str| std::fs::read_to_string(set.join(file)).ok();
    // The set can be removed between the two reads.
    let (password, previous) = (read("password")?, read("password.previous"));
    set.exists().then_some((password, previous))
}

async fn passwords_are(setup: &Setup<'_>, agent: &mut Agent, now: &str, before: Option<&str>) -> Result<()> {
    let what = format!("the passwords are {now} and {before:?}");
    let wait = agent.wait_for(&what, SOON, || {
        let found = passwords(setup).filter(|(new, old)| new == now && old.as_deref() == before);
        async move { found.map(drop) }
    });
    wait.await?;
    // Both in the same set.
    ensure!(setup.case.read("old-password").as_deref() == before, "the output with one key differs");
    Ok(())
}

async fn mirrored(setup: &Setup<'_>, agent: &mut Agent, old: Option<&str>) -> Result<()> {
    let what = format!("the Secret has the previous password {old:?}");
    agent
        .wait_for(&what, SOON, || async {
            let data = setup.secret().await.ok()??;
            let found = ["old-password", "password.previous"].map(|key| data.get(key).map(String::as_str));
            (found == [old, old] && data.contains_key("password")).then_some(())
        })
        .await
}

#[tokio::test]
async fn previous_version_is_delivered_until_it_is_deleted() -> Result<()> {
    Setup::shared("previous", async |setup| {
        let versions = |action: &str, version: u64| {
            let path = format!("{}/{action}/webapp/config", setup.case.kv_mount);
            let body = json!({"versions": [version]});
            async move { setup.case.admin.put(&path, body).await.map(drop) }
        };
        let mut agent = setup.agent_with(&["run"], &document(setup, "1s"))?;
        passwords_are(setup, &mut agent, "Losungwort", None).await?;
        mirrored(setup, &mut agent, None).await?;

        setup.case.put(&login("Nutzername", "zweites-Losungwort")).await?;
        passwords_are(setup, &mut agent, "zweites-Losungwort", Some("Losungwort")).await?;
        mirrored(setup, &mut agent, Some("Losungwort")).await?;
        setup.case.put(&login("Nutzername", "drittes-Losungwort")).await?;
        passwords_are(setup, &mut agent, "drittes-Losungwort", Some("zweites-Losungwort")).await?;

        versions("delete", 2).await?;
        passwords_are(setup, &mut agent, "drittes-Losungwort", None).await?;
        mirrored(setup, &mut agent, None).await?;
        versions("undelete", 2).await?;
        passwords_are(setup, &mut agent, "drittes-Losungwort", Some("zweites-Losungwort")).await?;
        versions("destroy", 2).await?;
        passwords_are(setup, &mut agent, "drittes-Losungwort", None).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;

        // Only one version is kept, so that there is no previous one.
        let metadata = format!("{}/metadata/webapp/config", setup.case.kv_mount);
        setup.case.admin.put(&metadata, json!({"max_versions": 1})).await?;
        setup.case.put(&login("Nutzername", "viertes-Losungwort")).await?;
        passwords_are(setup, &mut agent, "viertes-Losungwort", None).await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn old_set_stays_if_the_policy_denies_the_previous_version() -> Result<()> {
    Setup::shared("deny-old", async |setup| {
        setup.case.put(&login("Nutzername", "zweites-Losungwort")).await?;
        let rule = format!("path \"{}/data/webapp/config\"", setup.case.kv_mount);
        let latest_only = format!("{rule} {{ capabilities = [\"read\"] denied_parameters = {{\"version\" = []}} }}");
        setup.case.admin.policy(&setup.case.role, &latest_only).await?;
        let mut once = setup.agent_with(&["once", "--timeout", "10s"], &document(setup, "1s"))?;
        assert_eq!(once.wait(SOON).await?.code(), Some(77), "{}", once.report());
        let log = once.log();
        let explained = log.iter().any(|line| {
            line.contains("failed to read version 1 of")
                && line.contains("without a denial of the parameter \\\"version\\\"")
        });
        assert!(explained, "{}", once.report());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pod_start_with_previous_version_sends_three_requests() -> Result<()> {
    Setup::own("count-old", async |setup| {
        setup.case.put(&login("Nutzername", "zweites-Losungwort")).await?;
        let before = setup.servers.vault.audit_lines().len();
        let mut agent = setup.agent_with(&["run"], &document(setup, "1h"))?;
        passwords_are(setup, &mut agent, "zweites-Losungwort", Some("Losungwort")).await?;
        let requests: Vec<_> = setup
            .servers
            .vault
            .audit_lines()
            .into_iter()
            .skip(before)
            .filter(|line| line["type"] == "request")
            .map(|line| line["request"]["path"].as_str().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(requests.len(), 3, "one login and one read per version: {requests:?}");
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}
