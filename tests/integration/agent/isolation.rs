//! A source that cannot be rendered does not delay other sources.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::leased::{Leased, allow, data_path, put_secret};
use crate::setup::{SOON, Setup};

#[tokio::test]
async fn source_with_missing_key_keeps_file_and_does_not_delay_others() -> Result<()> {
    Setup::shared("missingkey", async |setup| {
        allow(setup, &[&data_path(setup, "*")]).await?;
        put_secret(setup, "a", json!({"password": "a-eins-geheim"})).await?;
        put_secret(setup, "b", json!({"password": "b-eins-geheim"})).await?;
        let mount = &setup.case.kv_mount;
        let document = format!(
            "sources:\n  a: {{path: {mount}/a, refresh: 1s}}\n  b: {{path: {mount}/b, refresh: 1s, maxStale: 3s}}\noutputs:\n\
             - {{source: a, prefix: a}}\n- {{source: b, key: password, file: b/password}}\nretry: {{slow: 1s}}\n"
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.file_is(&mut agent, "b/password", "b-eins-geheim").await?;
        put_secret(setup, "b", json!({"other": "ohne-den-Eintrag"})).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "RenderFailed").await?;
        let message = setup.message("SecretsFresh").await.unwrap_or_default();
        println!("{message}");
        assert!(message.contains("source b") && message.contains("password"), "{message}");
        put_secret(setup, "a", json!({"password": "a-zwei-geheim"})).await?;
        setup.file_is(&mut agent, "a/password", "a-zwei-geheim").await?;
        assert_eq!(setup.case.read("b/password").as_deref(), Some("b-eins-geheim"), "the last good file stays");
        put_secret(setup, "b", json!({"password": "b-drei-geheim"})).await?;
        setup.file_is(&mut agent, "b/password", "b-drei-geheim").await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn key_invalid_as_file_name_is_skipped_and_reported() -> Result<()> {
    Setup::shared("badkey", async |setup| {
        allow(setup, &[&data_path(setup, "*")]).await?;
        put_secret(setup, "a", json!({"user": "Nutzer-von-a"})).await?;
        let mount = &setup.case.kv_mount;
        let document =
            format!("sources:\n  a: {{path: {mount}/a, refresh: 1s}}\n  b: {{path: {mount}/b, refresh: 1s}}\n");
        for (number, key) in ["/etc/nginx/tls.crt", ".", "..a"].into_iter().enumerate() {
            let value = format!("guter-Wert-{number}");
            put_secret(setup, "b", json!({key: "nirgendwohin", "good": value})).await?;
            // The first start has the same behavior.
            let mut once = setup.agent_with(&["once"], &document)?;
            assert_eq!(once.wait(SOON).await?.code(), Some(0), "{key}: {}", once.report());
            assert_eq!(setup.case.read("good"), Some(value), "{key}");
            assert!(once.report().contains("InvalidKey"), "{key}: {}", once.report());
        }
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "InvalidKey").await?;
        let message = setup.message("SecretsFresh").await.unwrap_or_default();
        assert!(message.contains("..a"), "{message}");
        put_secret(setup, "a", json!({"user": "neuer-Nutzer-von-a"})).await?;
        setup.file_is(&mut agent, "user", "neuer-Nutzer-von-a").await?;
        put_secret(setup, "b", json!({"good": "ohne-die-schlechten"})).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn unrenderable_source_does_not_delay_replacement_of_leased_files() -> Result<()> {
    Setup::shared("leaserender", async |setup| {
        const LONGEST: Duration = Duration::from_secs(4);
        let leased = Leased::new(setup).await?;
        let tune = json!({"default_lease_ttl": "2s", "max_lease_ttl": "4s"});
        setup.case.admin.put(&format!("sys/mounts/{}/tune", leased.mount), tune).await?;
        allow(setup, &[&leased.path(), &data_path(setup, "*")]).await?;
        put_secret(setup, "b", json!({"password": "b-eins-geheim"})).await?;
        leased.put(setup, json!({"password": "auf-Zeit-0", "ttl": "2s"})).await?;
        let document = format!(
            "sources:\n  db: {{path: {}, engine: kv-v1}}\n  b: {{path: {}/b, refresh: 1s, maxStale: 3s}}\noutputs:\n\
             - {{source: db, prefix: db}}\n- {{source: b, key: password, file: b/password}}\n",
            leased.path(),
            setup.case.kv_mount
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.file_is(&mut agent, "db/password", "auf-Zeit-0").await?;
        put_secret(setup, "b", json!({"other": "ohne-den-Eintrag"})).await?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "RenderFailed").await?;
        // For three lease durations, every half second a read would issue another credential. The credential in the file must be
        // so recent that its lease can still be valid.
        let mut issued_until = vec![None];
        let mut seen = std::collections::BTreeSet::new();
        let end = Instant::now() + 3 * LONGEST;
        while Instant::now() < end {
            let next = issued_until.len();
            leased.put(setup, json!({"password": format!("auf-Zeit-{next}"), "ttl": "2s"})).await?;
            issued_until[next - 1] = Some(Instant::now());
            issued_until.push(None);
            tokio::time::sleep(Duration::from_millis(500)).await;
            let file = setup.case.read("db/password").unwrap_or_default();
            let number: usize = file.trim_start_matches("auf-Zeit-").parse()?;
            seen.insert(number);
            let age = issued_until[number].map_or(Duration::ZERO, |until| until.elapsed());
            assert!(age < LONGEST + Duration::from_millis(500), "{file} is {age:?} old: {}", agent.report());
            assert!(leased.alive(setup).await? >= 1, "{}", agent.report());
        }
        println!("credentials in the file, by half second: {seen:?}");
        assert!(seen.len() >= 3, "{seen:?}");
        assert_eq!(setup.case.read("b/password").as_deref(), Some("b-eins-geheim"));
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}
