//! Notifications of an application: a signal, an HTTP request, and a marker file; and restarts of all containers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::setup::{SOON, Setup, login};
use crate::testbed::{Agent, wait_until};

/// An application that appends a line to a file at each SIGHUP.
struct Application {
    child: Child,
    file: PathBuf,
}

impl Application {
    fn start(directory: &Path, name: &str) -> Result<Self> {
        let (program, file) = (directory.join(name), directory.join("signals"));
        std::os::unix::fs::symlink("/bin/sh", &program)?;
        let script = "trap 'echo HUP >> \"$0\"' HUP; : > \"$0\"; while :; do sleep 0.05; done";
        let child = Command::new(&program).args(["-c", script]).arg(&file).spawn()?;
        Ok(Self { child, file })
    }

    /// Waits until the application has handled this number of signals; 0 if it is ready for the first one.
    async fn got(&self, count: usize) -> Result<()> {
        let found = || Some(std::fs::read_to_string(&self.file).ok()?.lines().count());
        wait_until("the application has handled the signals", SOON, || {
            let is_equal = found() == Some(count);
            async move { is_equal.then_some(()) }
        })
        .await
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Responds to each request with 200, and keeps the heads of the requests.
async fn serve(listener: TcpListener, requests: Arc<Mutex<Vec<String>>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = vec![0; 8192];
        let length = stream.read(&mut head).await.unwrap_or_default();
        requests.lock().expect("not poisoned").push(String::from_utf8_lossy(&head[..length]).into_owned());
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.ok();
    }
}

async fn content_is(agent: &mut Agent, file: &Path, wanted: &str) -> Result<()> {
    let what = format!("{} contains {wanted:?}", file.display());
    agent
        .wait_for(&what, SOON, || {
            let found = std::fs::read_to_string(file).is_ok_and(|text| text == wanted).then_some(());
            async move { found }
        })
        .await
}

#[tokio::test]
async fn change_is_notified_by_signal_request_and_marker_file() -> Result<()> {
    Setup::shared("notify", async |setup| {
        let directory = setup.case.directory.parent().context("a parent")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let server = tokio::spawn(serve(listener, Arc::clone(&requests)));
        let name = format!("kf-{:06x}", fastrand::u32(..0x0100_0000));
        let application = Application::start(&directory, &name)?;
        application.got(0).await?;
        let marker = directory.join("notify/generation");
        let document = format!(
            "sources: {{webapp: {{path: {}, refresh: 1s}}}}\nretry: {{base: 100ms, max: 500ms, slow: 500ms}}\n\
             notify:\n  signal: {{signal: {{process: {name}}}, debounce: 0s}}\n  \
             http: {{http: {{url: 'http://localhost:{port}/reload', headerFiles: {{X-Password: {}}}}}, after: [signal], \
             debounce: 0s}}\n  \
             marker: {{file: {}, after: [http], debounce: 0s}}\n  other: {{file: {}, files: [username]}}\n",
            setup.case.secret_path(),
            setup.case.directory.join("password").display(),
            marker.display(),
            directory.join("notify/other").display(),
        );
        let (mut agent, listen) = setup.agent_with_listener(&document, &[])?;
        setup.condition_is(&mut agent, "Notified", "True", "Notified").await?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        setup.case.put(&login("Nutzername", "nach-der-Rotation")).await?;
        content_is(&mut agent, &marker, "2\n").await?;
        application.got(1).await?;
        let request = requests.lock().expect("not poisoned").join("\n---\n");
        assert!(request.starts_with("POST /reload HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nx-password: nach-der-Rotation\r\n"), "the new content of the file: {request}");
        assert!(!directory.join("notify/other").exists(), "its file has not changed");
        let metrics = reqwest::get(format!("http://{listen}/metrics")).await?.text().await?;
        for line in ["keyferry_notification_pending{notification=\"signal\"} 0", "operation=\"notify\",reason=\"Ok\""] {
            assert!(metrics.contains(line), "{line}: {metrics}");
        }

        // Killed while the notification fails. The next process repeats it, although nothing changes any more.
        drop(application);
        setup.case.put(&login("Nutzername", "ohne-Anwendung")).await?;
        setup.condition_is(&mut agent, "Notified", "False", "ProcessNotFound").await?;
        setup.file_is(&mut agent, "password", "ohne-Anwendung").await?;
        let events = setup.events("Warning").await?;
        assert!(events.iter().any(|(reason, _)| reason == "ProcessNotFound"), "{events:?}");
        agent.kill().await?;
        assert_eq!(requests.lock().expect("not poisoned").len(), 1, "it comes after the signal");
        std::fs::remove_file(directory.join(&name))?;
        std::fs::remove_file(directory.join("signals"))?;
        let application = Application::start(&directory, &name)?;
        application.got(0).await?;
        let (mut agent, _) = setup.agent_with_listener(&document, &[])?;
        content_is(&mut agent, &marker, "3\n").await?;
        application.got(1).await?;
        assert_eq!(requests.lock().expect("not poisoned").len(), 2);
        setup.condition_is(&mut agent, "Notified", "True", "Notified").await?;

        // Killed after it succeeded: it is not repeated.
        agent.kill().await?;
        let (mut agent, _) = setup.agent_with_listener(&document, &[])?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        setup.case.put(&login("Nutzername", "danach")).await?;
        content_is(&mut agent, &marker, "4\n").await?;
        application.got(2).await?;
        assert_eq!(requests.lock().expect("not poisoned").len(), 3);
        agent.terminate(SOON).await?;
        server.abort();
        Ok(())
    })
    .await
}

#[tokio::test]
async fn restarts_of_all_containers_keep_token_and_happen_once_per_change() -> Result<()> {
    Setup::shared("restart", async |setup| {
        let checkpoint = setup.case.directory.parent().context("a parent")?.join("checkpoint").display().to_string();
        let document = format!(
            "sources: {{webapp: {{path: {}, refresh: 1s}}}}\nnotify: {{restart: {{restart: containers, minInterval: 10s, \
             jitter: 0s, debounce: 0s, files: [password]}}}}\n",
            setup.case.secret_path()
        );
        let more = [("KEYFERRY_CHECKPOINT", checkpoint.as_str())];
        let (mut agent, _) = setup.agent_with_listener(&document, &more)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        let accessors = setup.case.admin.accessors_of(&setup.case.auth_mount).await?;
        assert_eq!(accessors.len(), 1);
        for round in 1..=3 {
            // Another file has no effect.
            let before = setup.case.read("password").context("a password")?;
            setup.case.put(&login(&format!("Nutzername-{round}"), &before)).await?;
            setup.file_is(&mut agent, "username", &format!("Nutzername-{round}")).await?;
            let password = format!("nach-Rotation-{round}");
            setup.case.put(&login(&format!("Nutzername-{round}"), &password)).await?;
            let status = agent.wait(SOON * 2).await?;
            assert_eq!(status.code(), Some(88), "round {round}: {}", agent.report());
            assert_eq!(setup.case.read("password").as_deref(), Some(password.as_str()), "visible before the restart");
            (agent, _) = setup.agent_with_listener(&document, &more)?;
            agent.wait_for_log("restored the Vault token", SOON).await?;
            setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
            setup.condition_is(&mut agent, "Notified", "True", "Notified").await?;
        }
        let login = format!("auth/{}/login", setup.case.auth_mount);
        assert_eq!(setup.servers.vault.audited_requests(&login).len(), 1, "one login for all processes");
        assert_eq!(setup.case.admin.accessors_of(&setup.case.auth_mount).await?, accessors);
        let events = setup.events("Normal").await?;
        assert!(events.iter().any(|(reason, _)| reason == "ContainersRestarting"), "{events:?}");
        // Without a further change, the last process keeps running beyond the interval.
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(agent.terminate(SOON).await?.code(), Some(0), "{}", agent.report());
        Ok(())
    })
    .await
}
