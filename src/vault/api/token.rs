//! Lookup, renewal, and revocation of a token by itself (<https://developer.hashicorp.com/vault/api-docs/auth/token>), in the
//! namespace of the token.

use std::time::Duration;

use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::error::VaultError;
use super::super::http::Response;
use super::super::json::{MAX_TIME, Seconds, body};
use super::login::auth;
use super::response::{parse, rule, token_error};
use super::{Api, Call};
use crate::model::{TokenInfo, VaultToken};

const LOOKUP: &str = "auth/token/lookup-self";
const RENEW: &str = "auth/token/renew-self";
const REVOKE: &str = "auth/token/revoke-self";

/// What messages call the agent's token.
const WHICH: &str = "the Vault token";

/// `GET auth/token/lookup-self`
pub(in crate::vault) async fn lookup_self(api: &Api, token: &VaultToken) -> Result<TokenInfo, VaultError> {
    look_up(api, token, WHICH).await
}

/// `POST auth/token/renew-self`, with the default increment.
pub(in crate::vault) async fn renew_self(api: &Api, token: &VaultToken) -> Result<TokenInfo, VaultError> {
    renew(api, token, WHICH, None).await
}

/// `POST auth/token/revoke-self`. Succeeds if the server does not recognize the token.
pub(in crate::vault) async fn revoke_self(api: &Api, token: &VaultToken) -> Result<(), VaultError> {
    revoke(api, token, WHICH).await
}

/// [`lookup_self`] for any token. `which` names it in messages.
pub(super) async fn look_up(api: &Api, token: &VaultToken, which: &str) -> Result<TokenInfo, VaultError> {
    let response = api.send(Call::new(Method::GET, LOOKUP).namespace(token.namespace()).token(token)).await?;
    match response.status {
        StatusCode::OK => info(&response),
        _ => Err(token_error(&format!("failed to look up {which}"), &response, || rule(LOOKUP, "read"))),
    }
}

/// [`renew_self`] for any token. `increment` counts from now; `None` is the default of the server.
pub(super) async fn renew(
    api: &Api,
    token: &VaultToken,
    which: &str,
    increment: Option<Duration>,
) -> Result<TokenInfo, VaultError> {
    #[derive(Serialize)]
    struct Renewal {
        increment: u64,
    }
    let mut call = Call::new(Method::POST, RENEW).namespace(token.namespace()).token(token);
    if let Some(increment) = increment {
        call = call.body(body(&Renewal { increment: increment.as_secs() }));
    }
    let response = api.send(call).await?;
    match response.status {
        StatusCode::OK => Ok(auth(RENEW, &response)?.info),
        _ => Err(token_error(&format!("failed to renew {which}"), &response, || rule(RENEW, "update"))),
    }
}

/// [`revoke_self`] for any token.
pub(super) async fn revoke(api: &Api, token: &VaultToken, which: &str) -> Result<(), VaultError> {
    let response = api.send(Call::new(Method::POST, REVOKE).namespace(token.namespace()).token(token)).await?;
    if response.status.is_success() {
        return Ok(());
    }
    match token_error(&format!("failed to revoke {which}"), &response, || rule(REVOKE, "update")) {
        VaultError::TokenInvalid { .. } => Ok(()),
        error => Err(error),
    }
}

/// Maximum age of the expiry of a token that the server still accepts, because times are truncated to seconds. An older expiry
/// comes from a standby with frozen times.
const ROUNDING: SignedDuration = SignedDuration::from_secs(2);

/// Parses the response to `lookup-self`. A standby can return times that are frozen at its own start: a negative `ttl` and an
/// `expire_time` in the past. The token is valid in that case, and its expiry is unknown.
fn info(response: &Response) -> Result<TokenInfo, VaultError> {
    #[derive(Deserialize)]
    struct Body {
        data: Lookup,
    }
    #[derive(Deserialize)]
    struct Lookup {
        #[serde(default)]
        expire_time: ExpireTime,
        #[serde(default)]
        renewable: Option<bool>,
        #[serde(default)]
        ttl: Seconds,
    }
    let data = parse::<Body>(LOOKUP, response)?.data;
    let ttl = match data.expire_time {
        ExpireTime::Never => None,
        ExpireTime::At(end) => data.ttl.0.filter(|ttl| !ttl.is_zero()).or_else(|| until(end?, response.date?)),
        // Without `expire_time`, a TTL of 0 can mean an expired token or one that never expires.
        ExpireTime::Absent => data.ttl.0.filter(|ttl| !ttl.is_zero()),
    };
    Ok(TokenInfo { ttl, renewable: data.renewable.unwrap_or_default() })
}

/// Time from `now` until `end`, both on the server's clock. `None` if `end` is in the past by more than [`ROUNDING`].
fn until(end: Timestamp, now: Timestamp) -> Option<Duration> {
    let left = end.duration_since(now);
    (left >= -ROUNDING).then(|| Duration::try_from(left).unwrap_or_default().min(MAX_TIME))
}

/// `expire_time`.
#[derive(Default)]
enum ExpireTime {
    #[default]
    Absent,
    /// `null`: the token never expires, and its `ttl` is 0.
    Never,
    /// `None` if the value cannot be parsed.
    At(Option<Timestamp>),
}

impl<'de> Deserialize<'de> for ExpireTime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        Ok(if raw == "null" { Self::Never } else { Self::At(raw.trim_matches('"').parse().ok()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_parses_every_form_of_token_ttl() {
        let ttl = |data: &str| {
            let mut response = Response::for_test(200, &format!(r#"{{"data":{data}}}"#));
            response.date = "2026-01-01T00:00:00Z".parse().ok();
            info(&response).expect(data).ttl
        };
        assert_eq!(ttl(r#"{"ttl":0,"expire_time":null,"renewable":false}"#), None, "root");
        assert_eq!(ttl(r#"{"ttl":60,"expire_time":"2026-01-01T00:01:00Z"}"#), Some(Duration::from_mins(1)));
        assert_eq!(ttl(r#"{"ttl":0,"expire_time":"2026-01-01T00:00:00Z"}"#), Some(Duration::ZERO));
        assert_eq!(ttl(r#"{"ttl":-42,"expire_time":"2025-12-31T00:00:00Z"}"#), None, "a standby with frozen times");
        assert_eq!(ttl(r#"{"ttl":-42,"expire_time":"2026-01-01T00:01:00Z"}"#), Some(Duration::from_mins(1)));
        assert_eq!(ttl(r#"{"ttl":1.5,"expire_time":"x"}"#), Some(Duration::from_millis(1500)));
        assert_eq!(ttl(r#"{"ttl":18446744073709551615,"expire_time":"x"}"#), Some(MAX_TIME));
        assert_eq!(ttl(r#"{"expire_time":"2026-01-01T00:01:00Z"}"#), Some(Duration::from_mins(1)), "no ttl");
        assert_eq!(ttl(r#"{"expire_time":"x"}"#), None, "an end that is not understood");
        assert_eq!(ttl(r#"{"ttl":5,"expire_time":17}"#), Some(Duration::from_secs(5)));
        assert_eq!(ttl("{}"), None);
    }
}
