//! The API token in a file, which the kubelet replaces before it expires.
//!
//! The library's own reader opens the file on the thread that sends the request, which is the agent's only one: a FIFO
//! or a mount that hangs would stop the agent.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use super::account::read_token;
use crate::model::lock;

/// Maximum age of the token in memory, as in client-go. The kubelet replaces a token after 80 % of its lifetime, which
/// is at least 10 minutes.
const MAX_AGE: SignedDuration = SignedDuration::from_secs(60);

pub(super) struct TokenFile {
    path: PathBuf,
    /// The header, and when the file was read.
    current: Mutex<Option<(HeaderValue, Timestamp)>>,
}

impl TokenFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, current: Mutex::default() }
    }

    /// Whether [`Self::read`] must be called before the next request.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        lock(&self.current)
            .as_ref()
            .is_none_or(|(_, read)| !(SignedDuration::ZERO..MAX_AGE).contains(&now.duration_since(*read)))
    }

    /// Reads the file. If that fails, the previous token stays in use.
    ///
    /// # Errors
    /// The path and the cause, if there is no previous token.
    pub(super) fn read(&self, now: Timestamp) -> Result<(), (String, io::Error)> {
        let header = read_token(&self.path).and_then(|token| {
            let text = Zeroizing::new([b"Bearer ".as_slice(), token.trim_ascii()].concat());
            let mut header = HeaderValue::from_bytes(&text)
                .map_err(|_| io::Error::other("it contains characters that are not valid in a token"))?;
            header.set_sensitive(true);
            Ok(header)
        });
        let mut current = lock(&self.current);
        match (header, current.as_mut()) {
            (Ok(header), _) => *current = Some((header, now)),
            (Err(_), Some((_, read))) => *read = now,
            (Err(error), None) => return Err((self.path.display().to_string(), error)),
        }
        Ok(())
    }

    /// Value of the `Authorization` header.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        lock(&self.current).as_ref().map(|(header, _)| header.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn token_is_read_again_after_a_minute_and_kept_if_that_fails() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        let file = TokenFile::new(path.clone());
        assert!(file.is_due(at(0)) && file.header().is_none());
        assert!(file.read(at(0)).is_err_and(|(shown, _)| shown.ends_with("/token")));
        std::fs::write(&path, "first\n").expect("written");
        file.read(at(0)).expect("readable");
        assert_eq!(file.header().expect("read"), "Bearer first");
        assert!(!file.is_due(at(59)) && file.is_due(at(60)));
        assert!(file.is_due(at(-5)), "the clock was set back");
        std::fs::remove_file(&path).expect("removed");
        file.read(at(60)).expect("the previous token stays");
        assert_eq!(file.header().expect("kept"), "Bearer first");
        assert!(!file.is_due(at(100)));
        std::fs::write(&path, "second").expect("written");
        file.read(at(120)).expect("readable");
        assert_eq!(file.header().expect("read"), "Bearer second");
    }
}
