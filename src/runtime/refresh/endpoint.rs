//! `POST /refresh` on the listener, for callers that know the token in `refreshNow.tokenFile`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request};
use ring::hmac;

use super::super::watched_file::read_regular;
use super::Pending;
use crate::agent::RefreshRequest;
use crate::model::{SecretBytes, lock};

/// Maximum size of the body, which is ignored.
const MAX_BODY: usize = 1024;

/// Maximum size of the token file.
const MAX_TOKEN_FILE: u64 = 4 * 1024;

/// Minimum length of the token. A shorter one could be guessed.
const MIN_TOKEN: usize = 16;

/// The endpoint, shared by the driver and the listener. It does not exist without a token file.
#[derive(Clone, Default)]
pub(in crate::runtime) struct RefreshEndpoint(Arc<Inner>);

#[derive(Default)]
struct Inner {
    token_file: Mutex<Option<PathBuf>>,
    /// Held by the one thread that reads the token file: a mount that hangs must not take all threads of the blocking pool.
    reading: Arc<tokio::sync::Mutex<()>>,
    /// Whether the last read of the token file failed, so that each failure is logged once.
    failing: AtomicBool,
    pending: Pending,
}

/// What the listener answers.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Answer {
    /// 202
    Accepted,
    /// 400
    BadQuery,
    /// 401
    NoToken,
    /// 403
    WrongToken,
    /// 404: no token file is configured.
    NotFound,
    /// 405
    NotPost,
    /// 413
    TooLarge,
    /// 503: the token file cannot be used.
    Unusable,
}

impl RefreshEndpoint {
    pub(super) fn set_token_file(&self, path: Option<PathBuf>) {
        *lock(&self.0.token_file) = path;
    }

    /// Waits for an accepted request. Cancel safe.
    pub(super) async fn requested(&self) -> RefreshRequest {
        self.0.pending.next().await
    }

    /// Answers a request. The token file is read for each request, so that a new token applies at once.
    pub(in crate::runtime) async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let path = lock(&self.0.token_file).clone();
        let Some(path) = path else { return Answer::NotFound };
        if request.method() != Method::POST {
            return Answer::NotPost;
        }
        let Some(token) = bearer(&request) else { return Answer::NoToken };
        let Some(expected) = self.expected(path).await else { return Answer::Unusable };
        if !is_same(&expected, &token) {
            return Answer::WrongToken;
        }
        let new_leases = match request.uri().query() {
            None | Some("" | "new-leases=false") => false,
            Some("new-leases=true") => true,
            Some(_) => return Answer::BadQuery,
        };
        if Limited::new(request.into_body(), MAX_BODY).collect().await.is_err() {
            return Answer::TooLarge;
        }
        self.0.pending.add(RefreshRequest { new_leases, by: "POST /refresh" });
        Answer::Accepted
    }

    /// The token in the file; `None` if there is none that can be used, which is logged.
    async fn expected(&self, path: PathBuf) -> Option<SecretBytes> {
        let reading = Arc::clone(&self.0.reading).lock_owned().await;
        let shown = path.display().to_string();
        let read = tokio::task::spawn_blocking(move || {
            let _reading = reading;
            let bytes = SecretBytes::new(read_regular(&path, MAX_TOKEN_FILE).map_err(|error| error.to_string())?);
            let token = bytes.expose().trim_ascii();
            if token.len() < MIN_TOKEN {
                return Err(format!("it contains fewer than {MIN_TOKEN} characters"));
            }
            Ok(SecretBytes::new(token.to_vec()))
        });
        let result = read.await.unwrap_or_else(|error| Err(error.to_string()));
        let was_failing = self.0.failing.swap(result.is_err(), Ordering::Relaxed);
        if let Err(error) = &result
            && !was_failing
        {
            tracing::warn!(
                "failed to use the file {shown} of refreshNow.tokenFile: {error}; POST /refresh is rejected"
            );
        }
        result.ok()
    }
}

/// The bearer token of a request (RFC 6750, section 2.1).
fn bearer<B>(request: &Request<B>) -> Option<SecretBytes> {
    let value = request.headers().get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then(|| SecretBytes::new(token.to_vec()))
}

/// Compares two tokens. `verify` takes the same time wherever their HMACs differ, and an HMAC does not show which bytes of a
/// token are right.
fn is_same(expected: &SecretBytes, token: &SecretBytes) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, expected.expose());
    let tag = hmac::sign(&key, expected.expose());
    hmac::verify(&key, token.expose(), tag.as_ref()).is_ok()
}
