//! Credential files: read at the moment of use, checked before they are sent.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::model::{Failure, FailureClass, Reason};

/// A `ServiceAccount` token has 1 to 2 KiB; a larger file is the wrong file.
const MOST_BYTES: usize = 64 * 1024;

/// Text of a credential file without the white space around it.
pub(super) struct Credential(Zeroizing<Vec<u8>>);

impl Credential {
    /// Reads `file`, which holds `what` ("the role id").
    pub(super) fn read(file: &Path, what: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| unreadable(format!("failed to read {what} from {}: {why}", file.display()));
        // One buffer from the start: growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MOST_BYTES + 1));
        File::open(file)
            .and_then(|open| open.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes))
            .map_err(|error| refuse(&error.to_string()))?;
        if bytes.len() > MOST_BYTES {
            return Err(refuse("the file is larger than 64 KiB, so it is not a credential"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| refuse("the file is not text"))?.trim();
        if text.is_empty() {
            return Err(refuse("the file is empty"));
        }
        Ok(Self(Zeroizing::new(text.as_bytes().to_vec())))
    }

    pub(super) fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked to be UTF-8 where it was made, and never changed")
    }
}

/// Checks the `aud` claim of a JWT before it is sent anywhere, so that a wrong volume is a clear error here and not a vague
/// one in Vault. The signature is Vault's business.
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
    let file = file.display();
    let claims: Option<Claims> = (|| {
        let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?);
        serde_json::from_slice(&payload).ok()
    })();
    let claims =
        claims.ok_or_else(|| unreadable(format!("failed to check the audience of {file}: it is not a JWT")))?;
    let found = match claims.aud {
        Some(Audience::One(one)) => vec![one],
        Some(Audience::Many(many)) => many,
        None => Vec::new(),
    };
    if found.iter().any(|audience| audience == wanted) {
        return Ok(());
    }
    // Not a passing thing: the pod's specification has to change.
    let message = format!(
        "failed to use the token in {file}: its audience is {found:?} and not {wanted:?}; \
         set `audience: {wanted}` in the serviceAccountToken of the projected volume"
    );
    Err(Failure::new(FailureClass::Invalid, Reason::CredentialUnreadable, message))
}

pub(super) fn unreadable(message: String) -> Failure {
    Failure::new(FailureClass::Local, Reason::CredentialUnreadable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_audience_is_checked_in_both_forms() {
        let check = |claims: &str| check_audience(&jwt(claims), "vault", Path::new("/token"));
        assert!(check(r#"{"aud":"vault"}"#).is_ok());
        assert!(check(r#"{"aud":["x","vault"]}"#).is_ok());
        for bad in [r#"{"aud":["https://kubernetes.default.svc"]}"#, r#"{"sub":"x"}"#] {
            let failure = check(bad).expect_err(bad);
            assert_eq!(failure.reason, Reason::CredentialUnreadable);
            assert!(failure.message.contains("audience: vault"), "{failure}");
        }
        assert!(check_audience("hvs.notajwt", "vault", Path::new("/token")).is_err());
        assert!(check_audience("a.?.c", "vault", Path::new("/token")).is_err());
    }

    #[test]
    fn a_credential_is_text_without_the_white_space_around_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        let read = |bytes: &[u8]| {
            std::fs::write(&file, bytes).expect("write");
            Credential::read(&file, "the token").map(|credential| credential.expose().to_owned())
        };
        assert_eq!(read(b" hvs.x \n").as_deref(), Ok("hvs.x"));
        for bad in [&b""[..], b" \n", b"\xff", &vec![b'x'; MOST_BYTES + 1]] {
            assert_eq!(read(bad).expect_err("refused").reason, Reason::CredentialUnreadable);
        }
        assert!(Credential::read(&directory.path().join("absent"), "the token").is_err());
    }
}
