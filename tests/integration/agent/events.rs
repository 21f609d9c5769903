//! Events of Vault Enterprise, from a scripted server in front of a real Vault without events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

use crate::setup::{SOON, Setup, login};

/// What the scripted server does with all its subscriptions.
#[derive(Debug, Clone)]
enum Step {
    /// Sends a message.
    Send(String),
    /// Closes the connection without a close frame.
    Drop,
}

/// Relays connections to Vault, and serves the event stream itself.
struct Relay {
    url: String,
    steps: broadcast::Sender<Step>,
    subscriptions: Arc<AtomicUsize>,
}

impl Relay {
    async fn start(vault: &str) -> Result<Self> {
        let vault = vault.strip_prefix("http://").context("an address without TLS")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (steps, subscriptions) = (broadcast::channel(16).0, Arc::new(AtomicUsize::new(0)));
        let relay = Self { url, steps, subscriptions };
        let (steps, subscriptions) = (relay.steps.clone(), Arc::clone(&relay.subscriptions));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (vault, steps, subscriptions) = (vault.clone(), steps.clone(), Arc::clone(&subscriptions));
                tokio::spawn(async move { serve(stream, &vault, &steps, &subscriptions).await });
            }
        });
        Ok(relay)
    }
}

async fn serve(
    mut stream: TcpStream,
    vault: &str,
    steps: &broadcast::Sender<Step>,
    subscriptions: &AtomicUsize,
) -> Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    if !head.starts_with(b"GET /v1/sys/events/subscribe/kv*?json=true ") {
        let mut server = TcpStream::connect(vault).await?;
        server.write_all(&head).await?;
        copy_bidirectional(&mut stream, &mut server).await?;
        return Ok(());
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)))
    };
    let (_, key) = header("sec-websocket-key").context("a key")?;
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
    let mut received = steps.subscribe();
    let accept = BASE64_STANDARD.encode(hash);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    subscriptions.fetch_add(1, Ordering::Relaxed);
    while let Ok(Step::Send(text)) = received.recv().await {
        let length = u16::try_from(text.len())?.to_be_bytes();
        stream.write_all(&[&[0x81, 126][..], &length, text.as_bytes()].concat()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn event_triggers_read_and_lost_connection_is_restored() -> Result<()> {
    Setup::shared("events", async |setup| {
        let relay = Relay::start(setup.servers.vault.address()).await?;
        let document = format!(
            "vault: {{address: \"{}\", events: true}}\nsources: {{webapp: {{path: {}, refresh: 1h}}}}\n",
            relay.url,
            setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        agent.wait_for_log("subscribed to the events of Vault", SOON).await?;
        let mount = setup.case.kv_mount.clone();
        let path = setup.case.secret_path();
        let path = format!("{mount}/data/{}", path.strip_prefix(&format!("{mount}/")).context("below its mount")?);
        let event = json!({
            "specversion": "1.0", "type": "*",
            "data": {
                "event": {"metadata": {"data_path": path, "operation": "data-write", "path": path}},
                "event_type": "kv-v2/data-write",
                "plugin_info": {"mount_path": format!("{mount}/"), "plugin": "kv"},
            },
        });
        for (number, password) in ["das-erste", "das-zweite"].into_iter().enumerate() {
            let subscribed = || async { (relay.subscriptions.load(Ordering::Relaxed) == number + 1).then_some(()) };
            agent.wait_for("a subscription", SOON, subscribed).await?;
            setup.case.put(&login("Nutzername", password)).await?;
            relay.steps.send(Step::Send(event.to_string()))?;
            setup.file_is(&mut agent, "password", password).await?;
            relay.steps.send(Step::Drop)?;
        }
        agent.wait_for_log("failed to receive events of Vault: the connection was lost", SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn server_without_events_is_logged_and_read_at_the_interval() -> Result<()> {
    Setup::shared("noevents", async |setup| {
        let document = format!(
            "vault: {{events: true}}\nsources: {{webapp: {{path: {}, refresh: 1s}}}}\n",
            setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        let line = agent.wait_for_log("failed to subscribe to the events of Vault", SOON).await?;
        println!("{line}");
        setup.case.put(&login("Nutzername", "ohne-Ereignis")).await?;
        setup.file_is(&mut agent, "password", "ohne-Ereignis").await?;
        Ok(())
    })
    .await
}
