//! How long the response of an engine without leases stays valid, as far as its data says so.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::json::{MAX_TIME, Seconds};
use super::secret::EngineKind;
use super::ssh_certificate::valid_before;
use crate::model::Validity;

/// Default period of a TOTP key. Periods that users choose are multiples of it.
const TOTP_PERIOD: i64 = 30;

/// Where a response comes from.
pub(super) struct Origin<'a> {
    pub(super) path: &'a str,
    pub(super) known: EngineKind,
    /// The mount type in the response.
    pub(super) mount_type: Option<&'a str>,
    /// The time of the response on the server's clock.
    pub(super) date: Option<Timestamp>,
}

impl Origin<'_> {
    /// The validity that the data of the response states.
    pub(super) fn validity_of(&self, data: &RawValue) -> Option<Validity> {
        let fields: Fields = serde_json::from_str(data.get()).ok()?;
        let rotates = fields.rotates(self).map(Validity::Rotates);
        rotates.or_else(|| fields.expires(self).map(Validity::Expires))
    }

    /// Whether the response is from this engine. If neither the configuration nor the response says what the engine is, a part
    /// of the path decides: a secret of KV version 1 can have any keys.
    fn is(&self, engine: &str, on_path: &str) -> bool {
        self.known == EngineKind::NotKv
            || self.mount_type.map_or_else(|| self.path.contains(on_path), |found| found == engine)
    }

    /// Time until `end`; 0 if it has passed.
    fn until(&self, end: Timestamp) -> Option<Duration> {
        Some(Duration::try_from(end.duration_since(self.date?)).unwrap_or_default().min(MAX_TIME))
    }
}

/// Fields about time in the data of engines. Fields of unexpected types are ignored.
#[derive(Deserialize, Default)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools, reason = "each says whether the response has a field")]
struct Fields {
    ttl: Seconds,
    token_ttl: Seconds,
    #[serde(deserialize_with = "time")]
    expires_at_seconds: Option<Timestamp>,
    #[serde(deserialize_with = "is_text")]
    token: bool,
    #[serde(deserialize_with = "is_text")]
    certificate: bool,
    #[serde(deserialize_with = "certificate_end")]
    signed_key: Option<Timestamp>,
    #[serde(deserialize_with = "is_text")]
    access_key: bool,
    /// Seconds since 1970 for PKI, text for AWS.
    #[serde(deserialize_with = "time")]
    expiration: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    last_vault_rotation: Option<Timestamp>,
    rotation_period: Seconds,
    #[serde(deserialize_with = "is_text")]
    rotation_schedule: bool,
    #[serde(deserialize_with = "is_text")]
    code: bool,
}

impl Fields {
    /// Time until the next rotation of a static role of the database, LDAP, or AWS engine. 0 means that the rotation is due; it
    /// stays 0 as long as the rotation fails. A role that was not rotated yet has no `last_vault_rotation`
    /// (<https://developer.hashicorp.com/vault/api-docs/secret/databases#get-static-credentials>,
    /// <https://developer.hashicorp.com/vault/api-docs/secret/ldap#static-role-passwords>).
    fn rotates(&self, origin: &Origin<'_>) -> Option<Duration> {
        let is_role = self.last_vault_rotation.is_some() || self.rotation_period.0.is_some() || self.rotation_schedule;
        let of_aws = || {
            let end = self.expiration.filter(|_| self.access_key && origin.is("aws", "/static-creds/"))?;
            origin.until(end)
        };
        self.ttl.0.filter(|_| is_role).or_else(of_aws).or_else(|| self.next_code(origin))
    }

    /// Time until the TOTP engine generates another code. Its response does not contain the period, which starts at a multiple
    /// of itself (RFC 6238, section 4.2).
    fn next_code(&self, origin: &Origin<'_>) -> Option<Duration> {
        let is_totp = origin.mount_type.map_or_else(|| origin.path.contains("totp/code/"), |found| found == "totp");
        let passed = origin.date.filter(|_| self.code && is_totp)?.as_second().rem_euclid(TOTP_PERIOD);
        u64::try_from(TOTP_PERIOD - passed).ok().map(Duration::from_secs)
    }

    /// <https://developer.hashicorp.com/vault/api-docs/secret/identity/tokens#generate-a-signed-id-token> and
    /// <https://developer.hashicorp.com/vault/api-docs/secret/gcp#generate-secret-iam-service-account-creds-oauth2-access-token>
    fn expires(&self, origin: &Origin<'_>) -> Option<Duration> {
        // https://developer.hashicorp.com/vault/api-docs/secret/pki#generate-certificate-and-key
        if self.certificate && (origin.known == EngineKind::NotKv || origin.mount_type == Some("pki")) {
            return origin.until(self.expiration?);
        }
        if let Some(end) = self.signed_key.filter(|_| origin.is("ssh", "ssh/")) {
            return origin.until(end);
        }
        if !self.token {
            return None;
        }
        let gcp = || {
            let ttl = self.token_ttl.0.or_else(|| origin.until(self.expires_at_seconds?));
            ttl.filter(|_| origin.is("gcp", "/token"))
        };
        self.ttl.0.filter(|_| origin.is("identity", "identity/oidc/token/")).or_else(gcp)
    }
}

fn is_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(<&RawValue>::deserialize(deserializer)?.get().starts_with('"'))
}

/// The end of an SSH certificate.
fn certificate_end<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str::<String>(raw.get()).ok().and_then(|line| valid_before(&line)))
}

/// A time as text, or as seconds since 1970.
fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    let seconds = || raw.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    Ok(raw.trim_matches('"').parse().ok().or_else(seconds))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::http::Response;
    use super::super::secret::Envelope;
    use super::*;
    use crate::model::LeaseId;

    fn validity(path: &str, known: EngineKind, body: &str) -> Validity {
        let response = Response::for_test(200, body);
        let date = "2026-01-01T00:00:00Z".parse().ok();
        Envelope::parse(path, &response).unwrap_or_else(|error| panic!("{body}: {error}")).validity(path, known, date)
    }

    fn data(path: &str, known: EngineKind, mount_type: Option<&str>, data: &str) -> Validity {
        let mount_type = mount_type.map_or("null".to_owned(), |kind| format!("\"{kind}\""));
        validity(path, known, &format!(r#"{{"lease_duration":0,"mount_type":{mount_type},"data":{data}}}"#))
    }

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn lease_requires_id_and_clamps_duration() {
        for (seconds, expected) in
            [("60", Duration::from_mins(1)), ("0", Duration::ZERO), ("-1", Duration::ZERO), ("9e18", MAX_TIME)]
        {
            let body = format!(r#"{{"lease_id":"a/b","lease_duration":{seconds},"renewable":true,"data":{{}}}}"#);
            let lease = validity("a", EngineKind::Unknown, &body).lease().cloned().expect("a lease");
            assert_eq!((lease.id, lease.duration, lease.renewable), (LeaseId::Id("a/b".into()), expected, true));
        }
    }

    #[test]
    fn duration_without_lease_expires_except_for_kv() {
        let body =
            |kind: &str| format!(r#"{{"lease_id":"","lease_duration":60,"mount_type":{kind},"data":{{"a":"b"}}}}"#);
        let minute = Validity::Expires(Duration::from_mins(1));
        assert_eq!(validity("a/b", EngineKind::NotKv, &body("null")), minute);
        assert_eq!(validity("pki/issue/a", EngineKind::Unknown, &body("\"pki\"")), minute);
        assert_eq!(validity("a/b", EngineKind::Unknown, &body("null")), Validity::Unlimited);
        assert_eq!(validity("a/b", EngineKind::Kv, &body("null")), Validity::Unlimited);
        assert_eq!(validity("a/b", EngineKind::NotKv, &body("\"kv\"")), Validity::Unlimited);
    }

    #[test]
    fn static_role_rotates_even_when_rotation_is_due() {
        let role =
            |ttl: &str| format!(r#"{{"last_vault_rotation":"2026-01-01T00:00:00.5Z","ttl":{ttl},"password":"p"}}"#);
        for (known, kind) in
            [(EngineKind::NotKv, None), (EngineKind::Unknown, Some("database")), (EngineKind::Unknown, None)]
        {
            assert_eq!(data("a", known, kind, &role("1800")), Validity::Rotates(Duration::from_mins(30)));
            assert_eq!(data("a", known, kind, &role("0")), Validity::Rotates(Duration::ZERO));
            assert_eq!(data("a", known, kind, &role("18446744073709551615")), Validity::Rotates(MAX_TIME));
        }
        // A value in a KV secret must not control the refresh interval.
        assert_eq!(data("a", EngineKind::NotKv, Some("kv"), &role("1")), Validity::Unlimited);
        assert_eq!(data("a", EngineKind::Kv, None, &role("1")), Validity::Unlimited);
        let untimed = r#"{"last_vault_rotation":"","ttl":1}"#;
        assert_eq!(data("a", EngineKind::NotKv, None, untimed), Validity::Unlimited);
        // Roles that have not been rotated yet, with a period or with a schedule.
        for when in [r#""rotation_period":86400"#, r#""rotation_schedule":"0 0 * * SAT""#] {
            let new = format!(r#"{{"ttl":1800,{when},"password":"p"}}"#);
            assert_eq!(data("a", EngineKind::NotKv, None, &new), Validity::Rotates(Duration::from_mins(30)), "{when}");
        }
        assert_eq!(data("a", EngineKind::NotKv, None, r#"{"ttl":1,"rotation_period":"x"}"#), Validity::Unlimited);
    }

    #[test]
    fn aws_static_role_rotates_at_its_expiration() {
        let role = r#"{"access_key":"A","secret_key":"s","expiration":"2026-01-01T01:00:00Z"}"#;
        for (path, known, kind) in [
            ("aws/static-creds/app", EngineKind::NotKv, None),
            ("cloud/static-creds/app", EngineKind::Unknown, Some("aws")),
        ] {
            assert_eq!(data(path, known, kind, role), Validity::Rotates(Duration::from_hours(1)));
        }
        assert_eq!(data("kv/app", EngineKind::Unknown, None, role), Validity::Unlimited);
        assert_eq!(data("a", EngineKind::NotKv, Some("kv"), role), Validity::Unlimited);
        assert_eq!(data("a", EngineKind::NotKv, None, r#"{"expiration":"2026-01-01T01:00:00Z"}"#), Validity::Unlimited);
    }

    #[test]
    fn totp_code_is_replaced_at_the_next_period() {
        let code = |known, path, kind: Option<&str>, date: &str| {
            let body = json!({"mount_type": kind, "data": {"code": "123456"}}).to_string();
            let response = Response::for_test(200, &body);
            let envelope = Envelope::parse(path, &response).unwrap_or_else(|error| panic!("{body}: {error}"));
            envelope.validity(path, known, date.parse().ok())
        };
        for (date, left) in [("2026-01-01T00:00:00Z", 30), ("2026-01-01T00:00:29Z", 1), ("2026-01-01T00:00:30.5Z", 30)]
        {
            let expected = Validity::Rotates(Duration::from_secs(left));
            assert_eq!(code(EngineKind::NotKv, "totp/code/app", None, date), expected, "{date}");
            assert_eq!(code(EngineKind::NotKv, "otp/code/app", Some("totp"), date), expected, "{date}");
        }
        assert_eq!(code(EngineKind::NotKv, "a/b", Some("other"), "2026-01-01T00:00:00Z"), Validity::Unlimited);
        assert_eq!(code(EngineKind::NotKv, "totp/code/app", None, ""), Validity::Unlimited, "without a Date");
    }

    #[test]
    fn expiry_in_data_is_recognized_for_known_engines() {
        let identity = r#"{"client_id":"c","token":"eyJ","ttl":86400}"#;
        let path = "identity/oidc/token/app";
        for (known, kind) in
            [(EngineKind::NotKv, None), (EngineKind::Unknown, Some("identity")), (EngineKind::Unknown, None)]
        {
            assert_eq!(data(path, known, kind, identity), Validity::Expires(DAY));
        }
        let path = "gcp/roleset/app/token";
        for (known, kind) in
            [(EngineKind::NotKv, Some("gcp")), (EngineKind::Unknown, Some("gcp")), (EngineKind::Unknown, None)]
        {
            let both = r#"{"token":"ya29","token_ttl":3599,"expires_at_seconds":1767229200}"#;
            assert_eq!(data(path, known, kind, both), Validity::Expires(Duration::from_secs(3599)));
            let end = r#"{"token":"ya29","expires_at_seconds":1767229200}"#;
            assert_eq!(
                data(path, known, kind, end),
                Validity::Expires(Duration::from_hours(1)),
                "by the response's Date"
            );
        }
        for unlike in [r#"{"token":1,"ttl":60}"#, r#"{"ttl":60}"#, r#"{"token":"x","ttl":"60"}"#, r#"{"token":"x"}"#] {
            assert_eq!(data("a", EngineKind::NotKv, None, unlike), Validity::Unlimited, "{unlike}");
        }
        // Can be a secret of KV version 1 with these keys.
        assert_eq!(data("kv/app", EngineKind::Unknown, None, identity), Validity::Unlimited);
    }
}
