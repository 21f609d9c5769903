//! The event stream of Vault Enterprise: which secrets have changed
//! (<https://developer.hashicorp.com/vault/api-docs/system/events>).
//!
//! Vault delivers events at most once, so an event only means that a secret should be read now.

#[cfg(test)]
mod tests;

use futures_util::StreamExt as _;
use http::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::mpsc::Sender;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::api::{Api, Call, rule, token_error};
use super::http::Upgrade;
use crate::model::{Failure, FailureClass, Reason, ServerEvent, VaultToken};

/// Pattern for the types of events: those of KV version 1 and 2.
const TYPES: &str = "kv*";

const ACTION: &str = "failed to subscribe to the events of Vault";

/// Maximum size of a message. An event has less than 2 KiB.
const MAX_MESSAGE: usize = 64 * 1024;

/// Subscribes to the events that the policies of `token` allow, and sends them to `events` until the server closes the
/// connection.
///
/// # Errors
/// `Invalid` if the server has no events, `TokenInvalid`, `Forbidden` with the missing policy rules, `Unreachable` if the
/// connection is lost, and the failures of any call.
pub(super) async fn subscribe(api: &Api, token: &VaultToken, events: &Sender<ServerEvent>) -> Result<(), Failure> {
    let path = format!("sys/events/subscribe/{TYPES}");
    let query = vec![("json".to_owned(), "true".to_owned())];
    let connection = match api.upgrade(Call::new(Method::GET, &path).query(query).token(token)).await? {
        Upgrade::Connection(connection) => *connection,
        Upgrade::Response(response) if has_no_events(response.status) => {
            let message = format!(
                "{ACTION}: the server has none (status {}); they need Vault Enterprise 1.16 or later: remove \
                 `vault.events`",
                response.status.as_u16()
            );
            return Err(Failure::new(FailureClass::Invalid, Reason::InvalidRequest, message));
        }
        Upgrade::Response(response) => return Err(token_error(ACTION, &response, || rule(&path, "read")).into()),
    };
    let limits = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let mut stream = WebSocketStream::from_raw_socket(connection, Role::Client, Some(limits)).await;
    let mut event = Some(ServerEvent::Subscribed);
    loop {
        if let Some(event) = event.take()
            && events.send(event).await.is_err()
        {
            // The receiver of the events is closed.
            return Ok(());
        }
        match stream.next().await {
            Some(Ok(Message::Text(text))) => event = parse(text.as_bytes()),
            Some(Ok(Message::Binary(bytes))) => event = parse(&bytes),
            // The library answers a ping.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(_))) | None => return Ok(()),
            Some(Err(error)) => {
                let message = format!("failed to receive events of Vault: the connection was lost: {error}");
                return Err(Failure::new(FailureClass::Unreachable, Reason::VaultUnreachable, message));
            }
        }
    }
}

/// Whether the status means that the server has no event stream: the open-source edition and `OpenBao` do not know the path.
fn has_no_events(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
}

/// A message: `CloudEvents` in JSON.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    event: Event<'a>,
    #[serde(default)]
    event_type: String,
    plugin_info: Option<Plugin>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    /// Path of the secret's data. Missing in some events about deletions.
    #[serde(borrow)]
    data_path: Option<std::borrow::Cow<'a, str>>,
    /// Path of the request that changed the secret.
    #[serde(borrow)]
    path: Option<std::borrow::Cow<'a, str>>,
    /// Version of KV version 2 after the change. All metadata is text.
    #[serde(borrow)]
    current_version: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Plugin {
    mount_path: String,
}

/// The secret that a message is about. `None` for a message that cannot be parsed: events are only a hint.
fn parse(message: &[u8]) -> Option<ServerEvent> {
    let Data { event, event_type, plugin_info } = serde_json::from_slice::<Envelope<'_>>(message).ok()?.data;
    let Metadata { data_path, path, current_version } = event.metadata;
    let path = data_path.or(path)?;
    let path = path.trim_matches('/');
    if !event_type.starts_with("kv-v2/") {
        return Some(ServerEvent::Changed { path: path.to_owned(), version: None });
    }
    let mount = plugin_info?.mount_path;
    let mount = mount.trim_matches('/');
    // `data/`, or `metadata/`, `delete/`, `undelete/`, or `destroy/` of the request.
    let (_, secret) = path.strip_prefix(mount)?.strip_prefix('/')?.split_once('/')?;
    let is_write = matches!(event_type.as_str(), "kv-v2/data-write" | "kv-v2/data-patch");
    let version = current_version.filter(|_| is_write).and_then(|text| text.parse().ok());
    Some(ServerEvent::Changed { path: format!("{mount}/{secret}"), version })
}
