//! Credential files, read at each login.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::model::{Failure, FailureClass, Reason};

/// The trimmed text of a credential file.
pub(super) fn read(what: &str, file: &Path) -> Result<Zeroizing<String>, Failure> {
    let failure = |why: &dyn std::fmt::Display| {
        let message = format!("failed to read the {what} file {}: {why}", file.display());
        Failure::new(FailureClass::Local, Reason::CredentialUnreadable, message)
    };
    let text = Zeroizing::new(std::fs::read_to_string(file).map_err(|error| failure(&error))?);
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(failure(&"it is empty"));
    }
    Ok(Zeroizing::new(trimmed.to_owned()))
}

/// Checks that a ServiceAccount token is meant for Vault, before it leaves the pod: a token for the API server in Vault's
/// hands could be used against the cluster.
pub(super) fn check_audience(jwt: &str, wanted: &str, file: &Path) -> Result<(), Failure> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    #[derive(Deserialize)]
    struct Claims {
        #[serde(default)]
        aud: Option<Audience>,
    }
    let claims = jwt.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok().map(Zeroizing::new));
    let claims = claims.and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
    let found = match claims.map(|claims| claims.aud) {
        None => return Err(invalid(format!("failed to log in: {} does not hold a JWT", file.display()))),
        Some(None) => Vec::new(),
        Some(Some(Audience::One(one))) => vec![one],
        Some(Some(Audience::Many(many))) => many,
    };
    if found.iter().any(|audience| audience == wanted) {
        return Ok(());
    }
    Err(invalid(format!(
        "failed to log in: the token in {} is for audience {found:?}, not \"{wanted}\"; mount a projected serviceAccountToken \
         with that audience",
        file.display()
    )))
}

fn invalid(message: String) -> Failure {
    Failure::new(FailureClass::Invalid, Reason::CredentialUnreadable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_is_checked_before_the_token_leaves() {
        let jwt = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let check = |jwt: &str| check_audience(jwt, "vault", Path::new("/t"));
        assert!(check(&jwt(r#"{"aud":["vault"]}"#)).is_ok());
        assert!(check(&jwt(r#"{"aud":"vault"}"#)).is_ok());
        let refused = check(&jwt(r#"{"aud":["https://kubernetes.default.svc"]}"#)).expect_err("another audience");
        assert!(refused.message.contains("kubernetes.default.svc"), "{refused}");
        assert!(check(&jwt("{}")).is_err());
        assert!(check("not a token").is_err());
    }
}
