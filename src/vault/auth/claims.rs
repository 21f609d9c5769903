//! The subject, audiences and validity of a JWT, for messages and checks before the login. Vault verifies the signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Number;
use zeroize::Zeroizing;

use super::super::server_text::{clip, quoted_list};

/// `sub`, `aud`, and the later of `nbf` and `iat`.
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) subject: Option<String>,
    pub(super) audiences: Vec<String>,
    /// Vault rejects the JWT before this time.
    pub(super) valid_from: Option<Timestamp>,
}

impl Claims {
    /// `None` if `jwt` is not a JWT.
    #[allow(clippy::cast_possible_truncation, reason = "saturates, and is then no time")]
    pub(super) fn of(jwt: &str) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Audience {
            One(String),
            Many(Vec<String>),
        }
        #[derive(Deserialize)]
        struct Payload {
            #[serde(default)]
            sub: Option<String>,
            #[serde(default)]
            aud: Option<Audience>,
            #[serde(default)]
            nbf: Option<Number>,
            #[serde(default)]
            iat: Option<Number>,
        }
        // Seconds, possibly with a fraction.
        let time = |number: Option<Number>| Timestamp::from_second(number?.as_f64()?.ceil() as i64).ok();
        let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?);
        let payload: Payload = serde_json::from_slice(&payload).ok()?;
        let audiences = match payload.aud {
            Some(Audience::One(one)) => vec![one],
            Some(Audience::Many(many)) => many,
            None => Vec::new(),
        };
        let valid_from = time(payload.nbf).max(time(payload.iat));
        Some(Self { subject: payload.sub, audiences, valid_from })
    }

    /// Who logs in, for messages: `role "x", ServiceAccount ns/name, audience "vault"`.
    pub(super) fn identity(&self, role: Option<&str>) -> String {
        let role = role.map_or("default role".to_owned(), |role| format!("role {role:?}"));
        let subject = match self.subject.as_deref() {
            None => "subject none".to_owned(),
            Some(subject) => match subject.strip_prefix("system:serviceaccount:").and_then(|name| name.split_once(':'))
            {
                Some((namespace, name)) => format!("ServiceAccount {}/{}", clip(namespace), clip(name)),
                None => format!("subject {:?}", clip(subject)),
            },
        };
        format!("{role}, {subject}, audience {}", quoted_list(&self.audiences))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Option<Claims> {
        Claims::of(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(json)))
    }

    #[test]
    fn audience_parses_as_string_or_list() {
        let audiences = |json| claims(json).map(|claims| claims.audiences);
        assert_eq!(audiences(r#"{"aud":"vault"}"#), Some(vec!["vault".to_owned()]));
        assert_eq!(audiences(r#"{"aud":["x","vault"]}"#), Some(vec!["x".to_owned(), "vault".to_owned()]));
        assert_eq!(audiences(r#"{"sub":"x"}"#), Some(Vec::new()));
        assert_eq!(Claims::of("hvs.notajwt"), None);
        assert_eq!(Claims::of("a.?.c"), None);
    }

    #[test]
    fn valid_from_is_later_of_nbf_and_iat() {
        let from = |json| claims(json).expect("claims").valid_from.map(Timestamp::as_second);
        assert_eq!(from(r#"{"nbf":100,"iat":90}"#), Some(100));
        assert_eq!(from(r#"{"nbf":100.25,"iat":110}"#), Some(110));
        assert_eq!(from(r#"{"iat":99.5}"#), Some(100));
        assert_eq!(from(r#"{"nbf":1e300}"#), None);
        assert_eq!(from("{}"), None);
    }

    #[test]
    fn identity_names_role_subject_and_audience() {
        let identity = |json, role| claims(json).expect("claims").identity(role);
        assert_eq!(
            identity(r#"{"sub":"system:serviceaccount:drill:app","aud":["vault"]}"#, Some("webapp")),
            "role \"webapp\", ServiceAccount drill/app, audience \"vault\""
        );
        assert_eq!(
            identity(r#"{"sub":"repo:a/b","aud":["x","y"]}"#, None),
            "default role, subject \"repo:a/b\", audience \"x\", \"y\""
        );
        assert_eq!(identity("{}", Some("a")), "role \"a\", subject none, audience none");
    }
}
