//! Refresh on request, with `refresh: 1h`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::leased::{Leased, allow};
use crate::setup::{SOON, Setup, login};

/// Replaces the file `annotations` of a downward API volume, as the kubelet does.
fn annotate(volume: &Path, number: u32, text: &str) -> Result<PathBuf> {
    use std::os::unix::fs::symlink;
    let (fresh, file) = (format!("..2026_{number}"), volume.join("annotations"));
    std::fs::create_dir_all(volume.join(&fresh))?;
    std::fs::write(volume.join(&fresh).join("annotations"), text)?;
    symlink(&fresh, volume.join("..data_tmp"))?;
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data"))?;
    if number == 0 {
        symlink("..data/annotations", &file)?;
    } else {
        std::fs::remove_dir_all(volume.join(format!("..2026_{}", number - 1)))?;
    }
    Ok(file)
}

#[tokio::test]
async fn annotation_triggers_refresh_within_a_second() -> Result<()> {
    Setup::shared("annotation", async |setup| {
        let volume = setup.case.directory.parent().context("a parent")?.join("pod");
        let seen = "kubernetes.io/config.seen=\"2026-11-29T07:00:00Z\"";
        let file = annotate(&volume, 0, &format!("keyferry.dev/refresh=\"0\"\n{seen}"))?;
        let file = file.display().to_string();
        let changes = [("KEYFERRY_REFRESH", "1h"), ("KEYFERRY_ANNOTATIONS_FILE", file.as_str())];
        let mut agent = setup.agent(&["run"], &changes)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        // Sleep, because nothing else shows that the agent has read the first value: it causes nothing.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!agent.report().contains("requested by"), "the first value is only remembered: {}", agent.report());
        for (number, password) in [(1, "das-erste"), (2, "das-zweite")] {
            setup.case.put(&login("Nutzername", password)).await?;
            let annotated = Instant::now();
            annotate(&volume, number, &format!("keyferry.dev/refresh=\"{number}\"\n{seen}"))?;
            setup.file_is(&mut agent, "password", password).await?;
            println!("in the file {:?} after the annotation", annotated.elapsed());
            assert!(annotated.elapsed() < Duration::from_secs(2), "{:?}", annotated.elapsed());
        }
        agent.wait_for_log("requested by the annotation keyferry.dev/refresh", SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn post_with_token_triggers_refresh() -> Result<()> {
    Setup::shared("post", async |setup| {
        let (token, other) = ("Zugangslosung-des-Tests-01", "Zugangslosung-des-Tests-02");
        setup.case.leaks.plant(token);
        setup.case.leaks.plant(other);
        let file = setup.case.jwt_file.with_file_name("refresh-token");
        std::fs::write(&file, token)?;
        let document = format!(
            "sources: {{webapp: {{path: {}, refresh: 1h}}}}\nrefreshNow: {{tokenFile: {}}}\n",
            setup.case.secret_path(),
            file.display()
        );
        let (mut agent, listen) = setup.agent_with_listener(&document, &[])?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        let client = reqwest::Client::new();
        let post = async |token: &str| -> Result<u16> {
            let request = client.post(format!("http://{listen}/refresh")).bearer_auth(token);
            let response = request.send().await?;
            let status = response.status().as_u16();
            let text = response.text().await?;
            assert!(!text.contains(token), "{text}");
            Ok(status)
        };
        setup.case.put(&login("Nutzername", "auf-Zuruf")).await?;
        assert_eq!(post(other).await?, 403);
        assert_eq!(reqwest::get(format!("http://{listen}/refresh")).await?.status().as_u16(), 405);
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"));
        assert_eq!(post(token).await?, 202);
        setup.file_is(&mut agent, "password", "auf-Zuruf").await?;
        // Another token applies at once.
        std::fs::write(&file, format!("{other}\n"))?;
        assert_eq!((post(token).await?, post(other).await?), (403, 202));
        std::fs::remove_file(&file)?;
        assert_eq!(post(other).await?, 503);
        agent.wait_for_log("failed to use the file", SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn only_new_leases_replace_a_lease() -> Result<()> {
    Setup::shared("newleases", async |setup| {
        let leased = Leased::new(setup).await?;
        leased.put(setup, json!({"password": "auf-Zeit", "ttl": "1h"})).await?;
        allow(setup, &[&leased.path()]).await?;
        let document = format!("sources: {{db: {{path: {}, engine: kv-v1}}}}\n", leased.path());
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.file_is(&mut agent, "password", "auf-Zeit").await?;
        leased.put(setup, json!({"password": "neue-Losung", "ttl": "1h"})).await?;
        let changes =
            [("KEYFERRY_SECRETS", ""), ("KEYFERRY_MIRROR", ""), ("KEYFERRY_CONFIG_INLINE", document.as_str())];
        let mut plain = setup.agent(&["refresh"], &changes)?;
        assert_eq!(plain.wait(SOON).await?.code(), Some(0), "{}", plain.report());
        assert!(plain.stdout().concat().contains("refreshes its sources now; its log shows"), "{:?}", plain.stdout());
        agent.wait_for_log("requested by SIGHUP", SOON).await?;
        assert_eq!(leased.alive(setup).await?, 1, "no other lease");
        assert_eq!(setup.case.read("password").as_deref(), Some("auf-Zeit"));
        let mut new = setup.agent(&["refresh", "--new-leases"], &changes)?;
        assert_eq!(new.wait(SOON).await?.code(), Some(0), "{}", new.report());
        setup.file_is(&mut agent, "password", "neue-Losung").await?;
        agent.wait_for_log("requested by SIGUSR1", SOON).await?;
        assert_eq!(leased.alive(setup).await?, 2, "the old lease stays for its overlap");
        Ok(())
    })
    .await
}
