//! Our own token (<https://developer.hashicorp.com/vault/api-docs/auth/token>). All three calls go to the namespace in which it
//! lives.

use std::time::Duration;

use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::error::VaultError;
use super::super::http::Response;
use super::super::json::{MAX_TIME, Seconds};
use super::response::{parse, token_error, rule};
use super::login::auth;
use super::{Api, Call};
use crate::model::{TokenInfo, VaultToken};

const LOOKUP: &str = "auth/token/lookup-self";
const RENEW: &str = "auth/token/renew-self";
const REVOKE: &str = "auth/token/revoke-self";

/// `GET auth/token/lookup-self`
pub(in crate::vault) async fn lookup_self(api: &Api, token: &VaultToken) -> Result<TokenInfo, VaultError> {
    let response = api.send(Call::new(Method::GET, LOOKUP).namespace(token.namespace()).token(token)).await?;
    match response.status {
        StatusCode::OK => info(&response),
        _ => Err(token_error("failed to look up the Vault token", &response, || rule(LOOKUP, "read"))),
    }
}

/// `POST auth/token/renew-self`, by the token's own increment.
pub(in crate::vault) async fn renew_self(api: &Api, token: &VaultToken) -> Result<TokenInfo, VaultError> {
    let response = api.send(Call::new(Method::POST, RENEW).namespace(token.namespace()).token(token)).await?;
    match response.status {
        StatusCode::OK => Ok(auth(RENEW, &response)?.info),
        _ => Err(token_error("failed to renew the Vault token", &response, || rule(RENEW, "update"))),
    }
}

/// `POST auth/token/revoke-self`. A token that the server does not know is revoked already.
pub(in crate::vault) async fn revoke_self(api: &Api, token: &VaultToken) -> Result<(), VaultError> {
    let response = api.send(Call::new(Method::POST, REVOKE).namespace(token.namespace()).token(token)).await?;
    if response.status.is_success() {
        return Ok(());
    }
    match token_error("failed to revoke the Vault token", &response, || rule(REVOKE, "update")) {
        VaultError::TokenInvalid { .. } => Ok(()),
        error => Err(error),
    }
}

/// How far in the past the end of a token may lie that the server has just answered for: times are cut to seconds. Beyond it
/// the server's times are frozen.
const ROUNDING: SignedDuration = SignedDuration::from_secs(2);

/// What `lookup-self` says. A standby that answers reads may show times that are frozen at those of its own start: a negative
/// `ttl` and an `expire_time` in the past. The server has just answered for the token, so it lives, until nobody knows when.
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
        // Without an end, no time left and no end at all look the same.
        ExpireTime::Absent => data.ttl.0.filter(|ttl| !ttl.is_zero()),
    };
    Ok(TokenInfo { ttl, renewable: data.renewable.unwrap_or_default() })
}

/// What is left until `end`, by the server's clock; `None` if it is over for longer than it can be.
fn until(end: Timestamp, now: Timestamp) -> Option<Duration> {
    let left = end.duration_since(now);
    (left >= -ROUNDING).then(|| Duration::try_from(left).unwrap_or_default().min(MAX_TIME))
}

/// `expire_time`.
#[derive(Default)]
enum ExpireTime {
    #[default]
    Absent,
    /// `null`: a token that never ends; its `ttl` is 0.
    Never,
    /// `None` where it is not understood.
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
    fn every_time_to_live_of_a_token_is_understood() {
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
