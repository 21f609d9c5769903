//! One source that cannot be rendered delays no other.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::leased::{Leased, allow, data_path, put_secret};
use crate::stage::{SOON, Stage};

#[tokio::test]
async fn a_source_that_lost_a_key_keeps_its_file_and_no_other_source_waits() -> Result<()> {
    Stage::shared("lostkey", async |stage| {
        allow(stage, &[&data_path(stage, "*")]).await?;
        put_secret(stage, "a", json!({"password": "a-eins-geheim"})).await?;
        put_secret(stage, "b", json!({"password": "b-eins-geheim"})).await?;
        let mount = &stage.case.kv_mount;
        let document = format!(
            "sources:\n  a: {{path: {mount}/a, refresh: 1s}}\n  b: {{path: {mount}/b, refresh: 1s, maxStale: 3s}}\noutputs:\n\
             - {{source: a, prefix: a}}\n- {{source: b, key: password, file: b/password}}\nretry: {{slow: 1s}}\n"
        );
        let mut agent = stage.agent_with(&["run"], &document)?;
        stage.file_is(&mut agent, "b/password", "b-eins-geheim").await?;
        put_secret(stage, "b", json!({"other": "ohne-den-Eintrag"})).await?;
        stage.condition_is(&mut agent, "SecretsFresh", "False", "RenderFailed").await?;
        let message = stage.message("SecretsFresh").await.unwrap_or_default();
        println!("{message}");
        assert!(message.contains("source b") && message.contains("password"), "{message}");
        put_secret(stage, "a", json!({"password": "a-zwei-geheim"})).await?;
        stage.file_is(&mut agent, "a/password", "a-zwei-geheim").await?;
        assert_eq!(stage.case.read("b/password").as_deref(), Some("b-eins-geheim"), "the last good one stays");
        put_secret(stage, "b", json!({"password": "b-drei-geheim"})).await?;
        stage.file_is(&mut agent, "b/password", "b-drei-geheim").await?;
        stage.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_key_that_cannot_be_a_file_name_is_left_out_and_named() -> Result<()> {
    Stage::shared("badkey", async |stage| {
        allow(stage, &[&data_path(stage, "*")]).await?;
        put_secret(stage, "a", json!({"user": "Nutzer-von-a"})).await?;
        let mount = &stage.case.kv_mount;
        let document =
            format!("sources:\n  a: {{path: {mount}/a, refresh: 1s}}\n  b: {{path: {mount}/b, refresh: 1s}}\n");
        for (number, key) in ["/etc/nginx/tls.crt", ".", "..a"].into_iter().enumerate() {
            let value = format!("guter-Wert-{number}");
            put_secret(stage, "b", json!({key: "nirgendwohin", "good": value})).await?;
            // Also at a first start.
            let mut once = stage.agent_with(&["once"], &document)?;
            assert_eq!(once.wait(SOON).await?.code(), Some(0), "{key}: {}", once.report());
            assert_eq!(stage.case.read("good"), Some(value), "{key}");
            assert!(once.report().contains("InvalidKey"), "{key}: {}", once.report());
        }
        let mut agent = stage.agent_with(&["run"], &document)?;
        stage.condition_is(&mut agent, "SecretsFresh", "True", "InvalidKey").await?;
        let message = stage.message("SecretsFresh").await.unwrap_or_default();
        assert!(message.contains("..a"), "{message}");
        put_secret(stage, "a", json!({"user": "neuer-Nutzer-von-a"})).await?;
        stage.file_is(&mut agent, "user", "neuer-Nutzer-von-a").await?;
        put_secret(stage, "b", json!({"good": "ohne-die-schlechten"})).await?;
        stage.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn beside_a_source_that_cannot_be_rendered_no_file_outlives_its_lease() -> Result<()> {
    Stage::shared("leasebeside", async |stage| {
        const LONGEST: Duration = Duration::from_secs(4);
        let leased = Leased::new(stage).await?;
        let tune = json!({"default_lease_ttl": "2s", "max_lease_ttl": "4s"});
        stage.case.admin.put(&format!("sys/mounts/{}/tune", leased.mount), tune).await?;
        allow(stage, &[&leased.path(), &data_path(stage, "*")]).await?;
        put_secret(stage, "b", json!({"password": "b-eins-geheim"})).await?;
        leased.put(stage, json!({"password": "auf-Zeit-0", "ttl": "2s"})).await?;
        let document = format!(
            "sources:\n  db: {{path: {}, engine: kv-v1}}\n  b: {{path: {}/b, refresh: 1s, maxStale: 3s}}\noutputs:\n\
             - {{source: db, prefix: db}}\n- {{source: b, key: password, file: b/password}}\n",
            leased.path(),
            stage.case.kv_mount
        );
        let mut agent = stage.agent_with(&["run"], &document)?;
        stage.file_is(&mut agent, "db/password", "auf-Zeit-0").await?;
        put_secret(stage, "b", json!({"other": "ohne-den-Eintrag"})).await?;
        stage.condition_is(&mut agent, "SecretsFresh", "False", "RenderFailed").await?;
        // Three lives of a lease. Each half second another credential would be issued; the one in the file must be so young that its
        // lease can still live.
        let mut issued_until = vec![None];
        let mut seen = std::collections::BTreeSet::new();
        let end = Instant::now() + 3 * LONGEST;
        while Instant::now() < end {
            let next = issued_until.len();
            leased.put(stage, json!({"password": format!("auf-Zeit-{next}"), "ttl": "2s"})).await?;
            issued_until[next - 1] = Some(Instant::now());
            issued_until.push(None);
            tokio::time::sleep(Duration::from_millis(500)).await;
            let file = stage.case.read("db/password").unwrap_or_default();
            let number: usize = file.trim_start_matches("auf-Zeit-").parse()?;
            seen.insert(number);
            let age = issued_until[number].map_or(Duration::ZERO, |until| until.elapsed());
            assert!(age < LONGEST + Duration::from_millis(500), "{file} is {age:?} old: {}", agent.report());
            assert!(leased.alive(stage).await? >= 1, "{}", agent.report());
        }
        println!("credentials in the file, by half second: {seen:?}");
        assert!(seen.len() >= 3, "{seen:?}");
        assert_eq!(stage.case.read("b/password").as_deref(), Some("b-eins-geheim"));
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}
