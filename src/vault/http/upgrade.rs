//! A request that turns its connection into a WebSocket (RFC 6455, section 4.1).

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, StatusCode};
use reqwest::{Upgraded, Url};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::url::{join, origin};
use super::{Http, HttpError, Protocol, Request, Response, body, tls};

/// Appended to the key of a request before it is hashed (RFC 6455, section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The result of a request for a WebSocket.
pub(in crate::vault) enum Upgrade {
    /// The connection, for frames in both directions.
    Connection(Box<Upgraded>),
    /// The server answered with another status.
    Response(Response),
}

impl Http {
    /// Sends `request` once over a separate connection, and requests a WebSocket. Follows redirects as [`Http::send`] does.
    /// The timeout applies until the response arrives.
    pub(in crate::vault) async fn upgrade(&self, request: Request) -> Result<Upgrade, HttpError> {
        let upgrade = self.upgrade_at(&self.base, request.clone()).await?;
        let Upgrade::Response(response) = &upgrade else { return Ok(upgrade) };
        if response.status != StatusCode::TEMPORARY_REDIRECT {
            return Ok(upgrade);
        }
        let target = self.redirect_target(response)?;
        match self.upgrade_at(target, request).await? {
            Upgrade::Response(response) if response.status == StatusCode::TEMPORARY_REDIRECT => {
                Err(HttpError::RedirectLoop(origin(target)))
            }
            upgrade => Ok(upgrade),
        }
    }

    async fn upgrade_at(&self, to: &Url, request: Request) -> Result<Upgrade, HttpError> {
        let url = join(to, &request.path, &request.query)?;
        let client = self.clients.get(&self.server, &url, Protocol::Http1)?;
        let url = tls::with_server_name(url, &self.server.tls)?;
        let mut headers = request.headers;
        let key = key();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        if let Ok(key) = HeaderValue::try_from(key.as_str()) {
            headers.insert(SEC_WEBSOCKET_KEY, key);
        }
        self.sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let call = client.request(request.method, url).headers(headers);
        let mut response = call.send().await.map_err(|error| self.unreachable(to, error))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if !is_accepted(response.headers(), &key) {
                return Err(HttpError::NotWebSocket(origin(to)));
            }
            let upgraded = response.upgrade().await.map_err(|error| self.unreachable(to, error))?;
            return Ok(Upgrade::Connection(Box::new(upgraded)));
        }
        let bytes = body::read(&mut response).await.map_err(|error| self.unreachable(to, error))?;
        let bytes = bytes.ok_or(HttpError::TooLarge { path: request.path })?;
        Ok(Upgrade::Response(Response::new(response.status(), response.headers(), bytes)))
    }
}

/// The key of one request. It lets the server prove that it speaks the protocol, and is no secret.
fn key() -> String {
    let mut bytes = [0; 16];
    // Without random numbers, the key is constant, which only weakens that proof.
    SystemRandom::new().fill(&mut bytes).ok();
    BASE64_STANDARD.encode(bytes)
}

fn is_accepted(headers: &HeaderMap, key: &str) -> bool {
    let expected = BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()));
    headers.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|found| found.as_bytes() == expected.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_key_is_that_of_the_specification() {
        // RFC 6455, section 1.3
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(is_accepted(&headers, "dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(!is_accepted(&headers, "AGhlIHNhbXBsZSBub25jZQ==") && !is_accepted(&HeaderMap::new(), "x"));
        assert_ne!(key(), key());
    }
}
