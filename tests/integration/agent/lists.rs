//! Sources with a list of secrets, at a real Vault.

use anyhow::Result;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::leased::put_secret;
use crate::setup::{SOON, Setup};

/// Rules for a list of everything below `path`.
fn rules(mount: &str, path: &str) -> String {
    format!(
        "path \"{mount}/metadata/{path}*\" {{ capabilities = [\"list\"] }}\n\
         path \"{mount}/data/{path}*\" {{ capabilities = [\"read\"] }}\n"
    )
}

#[tokio::test]
async fn list_follows_new_changed_and_removed_secrets() -> Result<()> {
    Setup::shared("list", async |setup| {
        let mount = &setup.case.kv_mount;
        for (path, value) in [("team/db", "db-eins"), ("team/web/eu/tls", "tls-eins"), ("team/web/draft", "Entwurf")] {
            put_secret(setup, path, json!({"password": value})).await?;
        }
        setup.case.admin.policy(&setup.case.role, &rules(mount, "team/")).await?;
        let document = format!(
            "sources:\n  team: {{path: {mount}/team, refresh: 1s, list: {{recursive: true, exclude: ['**/draft']}}}}\n\
             outputs:\n- {{source: team}}\n- {{source: team, key: web/eu/tls/password, file: tls}}\n\
             mirrors: {{top-secret-ks: {{keys: {{password: db/password}}}}}}\n"
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.file_is(&mut agent, "db/password", "db-eins").await?;
        assert_eq!(setup.case.read("web/eu/tls/password").as_deref(), Some("tls-eins"));
        assert_eq!(setup.case.read("tls").as_deref(), Some("tls-eins"));
        assert_eq!(setup.case.read("web/draft/password"), None);
        setup.secret_is(&mut agent, "password", "db-eins").await?;

        put_secret(setup, "team/db", json!({"password": "db-zwei"})).await?;
        setup.file_is(&mut agent, "db/password", "db-zwei").await?;
        setup.secret_is(&mut agent, "password", "db-zwei").await?;
        put_secret(setup, "team/web/us/tls", json!({"password": "tls-neu"})).await?;
        setup.file_is(&mut agent, "web/us/tls/password", "tls-neu").await?;

        // A deleted version, and a secret that is removed with its folder.
        for path in [format!("{mount}/data/team/db"), format!("{mount}/metadata/team/web/us/tls")] {
            setup.case.admin.request(Method::DELETE, &path, Value::Null).await?;
        }
        for file in ["db/password", "web/us/tls/password"] {
            let what = format!("file {file} is removed");
            agent.wait_for(&what, SOON, || async { setup.case.read(file).is_none().then_some(()) }).await?;
        }
        assert_eq!(setup.case.read("web/eu/tls/password").as_deref(), Some("tls-eins"));
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn list_sends_one_request_per_folder_and_secret() -> Result<()> {
    Setup::own("count", async |setup| {
        let mount = setup.case.kv_mount.clone();
        for name in ["a", "b", "c"] {
            put_secret(setup, &format!("team/{name}"), json!({"password": format!("Wert-{name}")})).await?;
        }
        setup.case.admin.policy(&setup.case.role, &rules(&mount, "team/")).await?;
        let before = setup.servers.vault.audit_lines().len();
        let requests = || {
            let lines = setup.servers.vault.audit_lines().into_iter().skip(before);
            let requests = lines.filter(|line| line["type"] == "request").map(|line| {
                let text = |key: &str| line["request"][key].as_str().unwrap_or_default().to_owned();
                format!("{} {}", text("operation"), text("path"))
            });
            let mut requests: Vec<_> = requests.collect();
            // The reads are concurrent.
            requests.sort();
            requests
        };
        let document = format!("sources: {{team: {{path: {mount}/team, refresh: 1h, list: true}}}}\n");
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.file_is(&mut agent, "c/password", "Wert-c").await?;
        let round = [
            format!("list {mount}/metadata/team/"),
            format!("read {mount}/data/team/a"),
            format!("read {mount}/data/team/b"),
            format!("read {mount}/data/team/c"),
        ];
        let started = requests();
        assert_eq!(started.len(), 6, "{started:?}");
        assert!(round.iter().all(|request| started.contains(request)), "{started:?}");
        assert!(started.contains(&format!("read sys/internal/ui/mounts/{mount}/team")), "{started:?}");

        agent.signal(Signal::HUP)?;
        let refreshed = agent
            .wait_for("the refresh is in the audit log", SOON, || {
                let found = requests();
                async move { (found.len() >= 10).then_some(found) }
            })
            .await?;
        let mut expected = started;
        expected.extend(round);
        expected.sort();
        assert_eq!(refreshed, expected);
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn denied_list_names_the_missing_rule() -> Result<()> {
    Setup::shared("rules", async |setup| {
        let mount = &setup.case.kv_mount;
        put_secret(setup, "team/web/db", json!({"password": "erlaubt"})).await?;
        let document = format!("sources: {{team: {{path: {mount}/team, list: {{recursive: true}}}}}}\n");
        let rules = rules(mount, "team/");
        let (list, read) = rules.trim_end().split_once('\n').expect("two rules");
        for (allowed, missing) in [(read, list), (list, read)] {
            setup.case.admin.policy(&setup.case.role, allowed).await?;
            let mut agent = setup.agent_with(&["once", "--timeout", "10s"], &document)?;
            assert_eq!(agent.wait(SOON).await?.code(), Some(77), "{}", agent.report());
            let missing = missing.replace('"', "\\\"");
            assert!(agent.log().iter().any(|line| line.contains(&missing)), "{missing}: {}", agent.report());
        }
        setup.case.admin.policy(&setup.case.role, &rules).await?;
        let mut agent = setup.agent_with(&["once", "--timeout", "10s"], &document)?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(0), "{}", agent.report());
        assert_eq!(setup.case.read("web/db/password").as_deref(), Some("erlaubt"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn mounts_of_both_kv_versions_are_listed() -> Result<()> {
    Setup::shared("mounts", async |setup| {
        let (admin, unique) = (&setup.case.admin, &setup.case.kv_mount);
        let (old, new) = (format!("old-{unique}"), format!("deep-{unique}/kv"));
        for secret in ["aus-Version-eins", "aus-der-Tiefe", "aus-data"] {
            setup.case.leaks.plant(secret);
        }
        admin.enable_secrets(&old, "kv", json!({"version": "1"})).await?;
        admin.put(&format!("{old}/team/webapp"), json!({"password": "aus-Version-eins"})).await?;
        admin.enable_secrets(&new, "kv", json!({"version": "2"})).await?;
        admin.put_kv(&new, "webapp", &json!({"password": "aus-der-Tiefe"})).await?;
        admin.put_kv(&new, "data/webapp", &json!({"password": "aus-data"})).await?;
        let all = format!("path \"{old}/*\" {{ capabilities = [\"list\", \"read\"] }}\n{}", rules(&new, ""));
        admin.policy(&setup.case.role, &all).await?;
        let document = format!(
            "sources:\n  old: {{path: {old}/, list: {{recursive: true}}}}\n  \
             new: {{path: {new}/, list: {{recursive: true}}}}\n\
             outputs: [{{source: old, prefix: old}}, {{source: new, prefix: new}}]\n"
        );
        let mut agent = setup.agent_with(&["once", "--timeout", "10s"], &document)?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(0), "{}", agent.report());
        for (file, value) in [
            ("old/team/webapp/password", "aus-Version-eins"),
            ("new/webapp/password", "aus-der-Tiefe"),
            ("new/data/webapp/password", "aus-data"),
        ] {
            assert_eq!(setup.case.read(file).as_deref(), Some(value), "{file}");
        }
        Ok(())
    })
    .await
}
