//! Credentials, read from their files at each use and checked before they are sent.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::file::{self, FileError};
use crate::model::SecretBytes;

/// Limit for a credential file. A `ServiceAccount` token has 1 to 2 KiB.
const MAX_BYTES: usize = 64 * 1024;

/// The reason why a credential cannot be used. `what` names the credential, as in "the role ID".
#[derive(Debug, Error)]
pub(super) enum CredentialError {
    #[error("failed to read {what} from {}: {problem}", file.display())]
    File { what: &'static str, file: PathBuf, problem: Problem },
    #[error("failed to use {what}: {problem}")]
    Given { what: &'static str, problem: Problem },
}

/// The reason, without the name and source of the credential.
#[derive(Debug, Error)]
pub(super) enum Problem {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("expected UTF-8 text, found other bytes; store the bare value, on one line")]
    NotText,
    #[error("the value is empty; store the bare value, on one line")]
    Empty,
    #[error("the value begins with a byte order mark; save it as UTF-8 without a BOM")]
    ByteOrderMark,
    #[error("expected the bare value, found JSON; store only the value, on one line")]
    Json,
    #[error("expected one line, found several lines; store only the value, on one line")]
    SeveralLines,
    #[error("expected a JWT, found another format; check the path")]
    NotJwt,
}

/// A credential on one line, without the white space around it.
pub(super) struct Credential(SecretBytes);

impl Credential {
    /// Reads the credential from `file`. `what` names it in errors.
    pub(super) fn read(file: &Path, what: &'static str) -> Result<Self, CredentialError> {
        let file_error = |problem| CredentialError::File { what, file: file.to_owned(), problem };
        let bytes = file::read(file, MAX_BYTES).map_err(|error| file_error(error.into()))?;
        Self::checked(&bytes).map_err(file_error)
    }

    /// Checks a credential from the environment. `what` names it in errors.
    pub(super) fn given(secret: &SecretBytes, what: &'static str) -> Result<Self, CredentialError> {
        Self::checked(secret.expose()).map_err(|problem| CredentialError::Given { what, problem })
    }

    fn checked(bytes: &[u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(bytes).map_err(|_| Problem::NotText)?;
        if text.starts_with('\u{feff}') {
            return Err(Problem::ByteOrderMark);
        }
        match text.trim() {
            "" => Err(Problem::Empty),
            text if text.starts_with(['{', '[']) => Err(Problem::Json),
            text if text.contains(['\n', '\r']) => Err(Problem::SeveralLines),
            text => Ok(Self(text.into())),
        }
    }

    pub(super) fn expose(&self) -> &str {
        self.0.expose_str().expect("checked to be UTF-8 when it was created, and immutable")
    }

    pub(super) fn into_secret(self) -> SecretBytes {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_is_trimmed_and_checked() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        let read = |bytes: &[u8]| {
            std::fs::write(&file, bytes).expect("write");
            Credential::read(&file, "the token").map(|credential| credential.expose().to_owned())
        };
        assert_eq!(read(b" hvs.x \n").expect("a token"), "hvs.x");
        let long = vec![b'x'; MAX_BYTES + 1];
        for (bad, words) in [
            (&b""[..], "the value is empty"),
            (b" \n", "the value is empty"),
            (b"\xff", "expected UTF-8 text"),
            (b"\xef\xbb\xbfhvs.x", "byte order mark"),
            (b"{\"token\": \"hvs.x\"}", "found JSON"),
            (b"hvs.x\nhvs.y\n", "several lines"),
            (&long, "larger than 64 KiB"),
        ] {
            let refused = read(bad).expect_err(words).to_string();
            assert!(refused.contains(words) && refused.contains("failed to read the token from"), "{refused}");
            assert!(!refused.contains("hvs."), "{refused}");
        }
        assert!(Credential::read(&directory.path().join("absent"), "the token").is_err());
    }
}
