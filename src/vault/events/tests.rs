//! A scripted server with WebSocket frames, independent of the library in use.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::sync::mpsc;

use super::*;
use crate::model::{Tls, VaultServer};

/// What the server does after it has read the request.
type Script = fn(&mut Connection);

/// A connection whose request was read.
struct Connection {
    stream: BufReader<TcpStream>,
    head: Vec<String>,
}

impl Connection {
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).expect("a line");
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                return Self { stream, head };
            }
            head.push(line);
        }
    }

    fn header(&self, name: &str) -> &str {
        let found = self.head.iter().filter_map(|line| line.split_once(": "));
        found.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("written");
    }

    /// Accepts the WebSocket.
    fn switch(&mut self) {
        let key = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", self.header("sec-websocket-key"));
        let accept = BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes()));
        self.write(
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            )
            .as_bytes(),
        );
    }

    /// Sends a frame of less than 64 KiB. Servers do not mask.
    fn frame(&mut self, opcode: u8, payload: &[u8]) {
        let length = u16::try_from(payload.len()).expect("a short frame");
        let mut frame = vec![0x80 | opcode];
        if length < 126 {
            frame.push(u8::try_from(length).expect("short"));
        } else {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        frame.extend(payload);
        self.write(&frame);
    }

    /// Reads a masked frame with a short payload; returns its opcode and payload.
    fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 6];
        self.stream.read_exact(&mut head).expect("a frame");
        assert_eq!(head[1] & 0x80, 0x80, "clients mask");
        let mut payload = vec![0; usize::from(head[1] & 0x7f)];
        self.stream.read_exact(&mut payload).expect("a payload");
        let mask = &head[2..6];
        let plain = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        (head[0] & 0x0f, plain)
    }

    fn answer(&mut self, status: &str, body: &str) {
        let length = body.len();
        self.write(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes());
    }
}

/// A message as in the documentation of Vault 1.16.
fn message(event_type: &str, metadata: &str, mount: &str) -> String {
    format!(
        r#"{{"id":"901f2388-aabb-a385-7bc0-0b09d5fa060a","source":"https://vaultproject.io/","specversion":"1.0",
        "type":"*","data":{{"event":{{"id":"901f2388","metadata":{metadata}}},"event_type":"{event_type}",
        "plugin_info":{{"mount_class":"secret","mount_accessor":"kv_1","mount_path":"{mount}","plugin":"kv"}}}},
        "datacontentype":"application/cloudevents","time":"2023-09-12T15:19:49.394915-07:00"}}"#
    )
}

/// Subscribes to a server with this script. Returns the events and the result.
async fn run(script: Script) -> (Vec<ServerEvent>, Result<(), Failure>) {
    rustls::crypto::ring::default_provider().install_default().ok();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let server: JoinHandle<()> = std::thread::spawn(move || script(&mut Connection::accept(&listener)));
    let settings = VaultServer {
        address,
        redirect_to: vec![],
        namespace: Some("team-a".into()),
        tls: Tls::default(),
        timeout: Duration::from_secs(10),
    };
    let api = Api::new(&settings).unwrap_or_else(|error| panic!("{error}"));
    let (sender, mut receiver) = mpsc::channel(64);
    let token = VaultToken::new("hvs.planted");
    let result = tokio::time::timeout(Duration::from_secs(20), subscribe(&api, &token, &sender)).await.expect("an end");
    drop(sender);
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    server.join().expect("the script succeeds");
    (events, result)
}

fn paths(events: &[ServerEvent]) -> Vec<&str> {
    let path = |event| match event {
        &ServerEvent::Subscribed => "subscribed",
        ServerEvent::Changed { path, .. } => path.as_str(),
    };
    events.iter().map(path).collect()
}

#[tokio::test]
async fn events_are_delivered_until_the_server_closes() {
    let (events, result) = run(|connection| {
        assert_eq!(connection.head[0], "GET /v1/sys/events/subscribe/kv*?json=true HTTP/1.1");
        for (name, value) in [
            ("x-vault-token", "hvs.planted"),
            ("x-vault-namespace", "team-a"),
            ("x-vault-request", "true"),
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
        ] {
            assert_eq!(connection.header(name), value, "{name}");
        }
        connection.switch();
        let write = r#"{"current_version":"1","data_path":"secret/data/foo","modified":"true","operation":"data-write","path":"secret/data/foo"}"#;
        connection.frame(1, message("kv-v2/data-write", write, "secret/").as_bytes());
        connection.frame(9, b"are you there");
        assert_eq!(connection.read_frame(), (10, b"are you there".to_vec()), "a pong");
        let delete = r#"{"operation":"metadata-delete","path":"a/kv/metadata/x/y"}"#;
        connection.frame(2, message("kv-v2/metadata-delete", delete, "a/kv/").as_bytes());
        let first = r#"{"data_path":"old/app","operation":"write","path":"old/app"}"#;
        connection.frame(1, message("kv-v1/write", first, "old/").as_bytes());
        for ignored in ["", "{}", "not JSON", r#"{"data":{"event":{"metadata":{}}}}"#] {
            connection.frame(1, ignored.as_bytes());
        }
        connection.frame(8, &1000_u16.to_be_bytes());
    })
    .await;
    assert_eq!(paths(&events), ["subscribed", "secret/foo", "a/kv/x/y", "old/app"]);
    let version = |event: &ServerEvent| matches!(event, ServerEvent::Changed { version: Some(1), .. });
    assert_eq!(events.iter().map(version).collect::<Vec<_>>(), [false, true, false, false]);
    assert_eq!(result.map_err(|failure| failure.message), Ok(()));
}

#[tokio::test]
async fn lost_connection_and_oversized_message_are_failures() {
    let scripts: [Script; 2] = [Connection::switch, |connection| {
        connection.switch();
        let mut frame = vec![0x81, 127];
        frame.extend((10_u64 << 20).to_be_bytes());
        connection.write(&frame);
        // The client closes the connection.
        let mut rest = Vec::new();
        connection.stream.read_to_end(&mut rest).ok();
    }];
    for script in scripts {
        let (events, result) = run(script).await;
        assert_eq!(events, [ServerEvent::Subscribed]);
        let failure = result.expect_err("a failure");
        assert_eq!((failure.class, failure.reason), (FailureClass::Unreachable, Reason::VaultUnreachable));
        assert!(failure.message.starts_with("failed to receive events of Vault: the connection was lost"), "{failure}");
    }
}

#[tokio::test]
async fn other_answers_are_classified() {
    let table: [(Script, FailureClass, &str); 4] = [
        (
            |connection| connection.answer("403 Forbidden", r#"{"errors":["permission denied"]}"#),
            FailureClass::Forbidden,
            "failed to subscribe to the events of Vault: permission denied (403)",
        ),
        (
            |connection| connection.answer("404 Not Found", r#"{"errors":[]}"#),
            FailureClass::Invalid,
            "the server has none (status 404); they need Vault Enterprise 1.16 or later: remove `vault.events`",
        ),
        (
            |connection| connection.answer("503 Service Unavailable", r#"{"errors":["Vault is sealed"]}"#),
            FailureClass::Transient,
            "Vault is sealed",
        ),
        (
            |connection| {
                connection.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: wrong\r\n\r\n",
                );
            },
            FailureClass::Transient,
            "the response does not match the request; check any proxy or ingress",
        ),
    ];
    for (script, class, part) in table {
        let (events, result) = run(script).await;
        assert!(events.is_empty());
        let failure = result.expect_err(part);
        assert_eq!(failure.class, class, "{failure}");
        assert!(failure.message.contains(part), "{failure}");
        if class == FailureClass::Forbidden {
            let rule = "path \"sys/events/subscribe/kv*\" { capabilities = [\"read\"] }";
            assert_eq!(failure.missing_rule.as_deref(), Some(rule));
        }
    }
}
