//! Secrets engines and output formats.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::Result;
use serde_json::json;

use crate::setup::{SOON, Setup};

#[tokio::test]
async fn formats_preserve_exact_bytes() -> Result<()> {
    Setup::shared("formats", async |setup| {
        let special = "it's $HOME `id` \"q\" \\n\nzwei Zeilen ü";
        setup
            .case
            .put(&json!({"PASSWORD": special, "BINARY": "AAH/", "number": 1.50, "nested": {"a": [1, true]}}))
            .await?;
        let document = format!(
            "sources: {{s: {{path: {}}}}}\noutputs:\n\
             - {{source: s, prefix: all}}\n\
             - {{source: s, key: PASSWORD, file: chosen/pw, mode: \"0400\"}}\n\
             - {{source: s, key: BINARY, file: binary, encoding: base64}}\n\
             - {{source: s, format: json, file: s.json}}\n\
             - {{source: s, format: yaml, file: s.yaml}}\n\
             - {{source: s, format: dotenv, file: s.env}}\n\
             - {{source: s, format: properties, file: s.properties}}\n",
            setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["once"], &document)?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(0), "{}", agent.report());
        assert_eq!(setup.case.read("all/PASSWORD").as_deref(), Some(special));
        assert_eq!(setup.case.read("all/nested").as_deref(), Some(r#"{"a":[1,true]}"#));
        assert_eq!(setup.case.read("chosen/pw").as_deref(), Some(special));
        let mode = std::fs::metadata(setup.case.directory.join("chosen/pw"))?.permissions().mode();
        assert_eq!(mode & 0o7777, 0o400);
        assert_eq!(std::fs::read(setup.case.directory.join("binary"))?, [0, 1, 255]);
        let json: serde_json::Value = serde_json::from_str(&setup.case.read("s.json").expect("the file exists"))?;
        assert_eq!(json["PASSWORD"], special);
        assert_eq!(json["nested"]["a"][0], 1);
        let env = setup.case.directory.join("s.env");
        let script = format!(". {}; printf %s \"$PASSWORD\"", env.display());
        let sourced = Command::new("/bin/sh").args(["-c", &script]).output()?;
        assert_eq!(String::from_utf8_lossy(&sourced.stdout), special);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn selected_renamed_and_optional_keys_become_files_and_keys_of_the_secret() -> Result<()> {
    Setup::shared("shape", async |setup| {
        let nested = json!({"db": [{"host": "datenbank.example.com", "port": 5432.5}]});
        let secret = |extra: Option<&str>| {
            let mut secret = json!({
                "db-user": "Nutzername-der-Datenbank", "db-old": "ausgemustert", "url": "https://example.com",
                "config": nested, "text": nested.to_string(),
            });
            if let Some(extra) = extra {
                secret["extra"] = extra.into();
            }
            secret
        };
        setup.case.put(&secret(None)).await?;
        let document = format!(
            "sources: {{s: {{path: {}, refresh: 1s}}}}\noutputs:\n\
             - {{source: s, prefix: db, include: [\"db-*\"], exclude: [\"*-old\"], rename: {{db-user: user}}}}\n\
             - {{source: s, format: dotenv, file: env, include: [db-user, url], rename: {{db-user: DB_USER, url: URL}}}}\n\
             - {{source: s, key: config, field: /db/0/port, file: port}}\n\
             - {{source: s, key: text, field: /db/0/host, file: host}}\n\
             - {{source: s, key: config, field: /db/1, file: replica, default: none}}\n\
             - {{source: s, key: extra, optional: true}}\n\
             mirrors: {{top-secret-ks: {{keys: {{user: db/user, extra: extra, replica: replica}}}}}}\n",
            setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.secret_is(&mut agent, "user", "Nutzername-der-Datenbank").await?;
        for (file, expected) in [
            ("db/user", Some("Nutzername-der-Datenbank")),
            ("db/db-old", None),
            ("url", None),
            ("env", Some("DB_USER='Nutzername-der-Datenbank'\nURL='https://example.com'\n")),
            ("port", Some("5432.5")),
            ("host", Some("datenbank.example.com")),
            ("replica", Some("none")),
            ("extra", None),
        ] {
            assert_eq!(setup.case.read(file).as_deref(), expected, "{file}");
        }
        let mirrored = setup.secret().await?.expect("the Secret");
        assert!(mirrored.keys().eq(["replica", "user"]), "{:?}", mirrored.keys());

        setup.case.put(&secret(Some("nachgereicht"))).await?;
        setup.secret_is(&mut agent, "extra", "nachgereicht").await?;
        assert_eq!(setup.case.read("extra").as_deref(), Some("nachgereicht"));
        setup.case.put(&secret(None)).await?;
        let gone = agent.wait_for("the key is gone", SOON, || async {
            let data = setup.secret().await.ok()??;
            (!data.contains_key("extra") && setup.case.read("extra").is_none()).then_some(())
        });
        gone.await?;
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn kv_v1_nested_mounts_and_pinned_versions_are_read() -> Result<()> {
    Setup::shared("engines", async |setup| {
        let (admin, unique) = (&setup.case.admin, setup.case.kv_mount.clone());
        for secret in ["aus-Version-eins", "aus-der-Tiefe"] {
            setup.case.leaks.plant(secret);
        }
        admin.enable_secrets(&format!("old-{unique}"), "kv", json!({"version": "1"})).await?;
        admin.put(&format!("old-{unique}/webapp"), json!({"password": "aus-Version-eins"})).await?;
        admin.enable_secrets(&format!("team-{unique}/kv"), "kv", json!({"version": "2"})).await?;
        admin.put_kv(&format!("team-{unique}/kv"), "webapp", &json!({"password": "aus-der-Tiefe"})).await?;
        setup.case.put(&json!({"password": "zweite"})).await?;
        let paths = [format!("old-{unique}/*"), format!("team-{unique}/kv/data/*"), format!("{unique}/data/*")];
        let policy: String =
            paths.iter().map(|path| format!("path \"{path}\" {{ capabilities = [\"read\"] }}\n")).collect();
        admin.policy(&setup.case.role, &policy).await?;
        let document = format!(
            "sources:\n  one: {{path: old-{unique}/webapp}}\n  deep: {{path: team-{unique}/kv/webapp}}\n  \
             pinned: {{path: {path}, version: 1}}\n  literal: {{path: {unique}/data/webapp/config}}\n\
             outputs:\n- {{source: one, prefix: one}}\n- {{source: deep, prefix: deep}}\n\
             - {{source: pinned, prefix: pinned}}\n- {{source: literal, prefix: literal}}\n",
            path = setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["once"], &document)?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(0), "{}", agent.report());
        let table =
            [("one", "aus-Version-eins"), ("deep", "aus-der-Tiefe"), ("pinned", "Losungwort"), ("literal", "zweite")];
        for (prefix, wanted) in table {
            assert_eq!(setup.case.read(&format!("{prefix}/password")).as_deref(), Some(wanted), "{prefix}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pod_start_sends_two_requests_and_refresh_sends_one() -> Result<()> {
    Setup::own("requests", async |setup| {
        let before = setup.servers.vault.audit_lines().len();
        let request_paths = |lines: Vec<serde_json::Value>| {
            let requests = lines.into_iter().skip(before).filter(|line| line["type"] == "request");
            requests.map(|line| line["request"]["path"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        let mut agent = setup.agent(&["run"], &[("KEYFERRY_REFRESH", "1h")])?;
        setup.secret_is(&mut agent, "password", "Losungwort").await?;
        assert_eq!(
            request_paths(setup.servers.vault.audit_lines()).len(),
            2,
            "{:?}",
            request_paths(setup.servers.vault.audit_lines())
        );
        agent.signal(rustix::process::Signal::HUP)?;
        agent
            .wait_for("the refresh is in the audit log", SOON, || {
                let paths = request_paths(setup.servers.vault.audit_lines());
                async move { (paths.len() == 3).then_some(()) }
            })
            .await
    })
    .await
}
