//! Which `ServiceAccount` we are, read from the claims of our own API token.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kube::config::AuthInfo;
use rustix::fs::OFlags;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::client;

/// Most bytes of a token file. Tokens have one to two thousand; the API server's limit for all headers is 1 MiB.
const MAX_TOKEN: u64 = 64 << 10;

/// The `ServiceAccount` of an API token
/// (<https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#schema-for-service-account-private-claims>).
///
/// The claims are read and not verified: the API server verifies the token, the UID included, with every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// Namespace of the `ServiceAccount`.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
    /// Its UID.
    pub(super) uid: String,
}

impl Account {
    /// `None` for a token that is no JWT or does not name a `ServiceAccount` with its UID.
    pub(super) fn from_token(token: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Claims {
            #[serde(rename = "kubernetes.io")]
            kubernetes: Private,
        }
        #[derive(Deserialize)]
        struct Private {
            namespace: String,
            serviceaccount: Reference,
        }
        #[derive(Deserialize)]
        struct Reference {
            name: String,
            uid: String,
        }
        let payload = token.trim().split('.').nth(1)?;
        let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
        let Private { namespace, serviceaccount: Reference { name, uid } } =
            serde_json::from_slice::<Claims>(&payload).ok()?.kubernetes;
        let complete = [&namespace, &name, &uid].into_iter().all(|part| !part.is_empty());
        complete.then_some(Self { namespace, name, uid })
    }
}

/// The `ServiceAccount` of the token in `auth`. It stays the same for the life of the pod, though the token does not.
///
/// # Errors
/// The name of the token file and why it cannot be read.
pub(super) fn of(auth: &AuthInfo) -> Result<Option<Account>, (String, io::Error)> {
    #[derive(Deserialize)]
    struct Inline<'a> {
        #[serde(borrow)]
        token: Option<Cow<'a, str>>,
    }
    if auth.token.is_some() {
        // The library shows the token to serde only; the buffer is wiped.
        let json = client::to_body(auth);
        let token = serde_json::from_slice::<Inline<'_>>(&json).ok().and_then(|inline| inline.token);
        return Ok(token.and_then(|token| Account::from_token(&token)));
    }
    let Some(file) = &auth.token_file else { return Ok(None) };
    let token = read_token(Path::new(file)).map_err(|error| (file.clone(), error))?;
    Ok(std::str::from_utf8(&token).ok().and_then(Account::from_token))
}

/// Reads a regular file and never waits: a FIFO in its place would hold the agent's only thread.
fn read_token(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut token = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len().min(MAX_TOKEN)).unwrap_or(0) + 1));
    file.take(MAX_TOKEN).read_to_end(&mut token)?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    /// The claims are those of a token of Kubernetes 1.37.
    #[test]
    fn a_token_names_its_service_account() {
        let claims = r#"{"aud":["https://kubernetes.default.svc"],"exp":1795887690,"iat":1795851690,
            "iss":"https://kubernetes.default.svc","jti":"cfa987b7","kubernetes.io":{"namespace":"ns",
            "pod":{"name":"webapp-0","uid":"p"},"serviceaccount":{"name":"kf","uid":"764a36ed"}},
            "nbf":1795851690,"sub":"system:serviceaccount:ns:kf"}"#;
        let account = Account { namespace: "ns".into(), name: "kf".into(), uid: "764a36ed".into() };
        assert_eq!(Account::from_token(&format!("{}\n", token(claims))), Some(account));
    }

    #[test]
    fn other_tokens_name_none() {
        let cases = [
            String::new(),
            "opaque".into(),
            "a.b.c".into(),
            token("not JSON"),
            token(r#"{"sub":"system:serviceaccount:ns:kf"}"#),
            token(r#"{"kubernetes.io":{"namespace":"ns","serviceaccount":{"name":"kf","uid":""}}}"#),
        ];
        for case in cases {
            assert_eq!(Account::from_token(&case), None, "{case}");
        }
    }

    fn token_of(name: &str) -> String {
        let claims =
            format!(r#"{{"kubernetes.io":{{"namespace":"ns","serviceaccount":{{"name":"{name}","uid":"u"}}}}}}"#);
        token(&claims)
    }

    #[test]
    fn the_token_says_who_we_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        std::fs::write(&file, token_of("file")).expect("written");
        let account_of = |info: Value| {
            let info: AuthInfo = serde_json::from_value(info).expect("an AuthInfo");
            of(&info).map(|account| account.map(|account| account.name))
        };
        let known = |info| account_of(info).ok().flatten();
        assert_eq!(known(json!({"token": token_of("inline")})).as_deref(), Some("inline"));
        assert_eq!(known(json!({"tokenFile": file})).as_deref(), Some("file"));
        assert!(
            matches!(account_of(json!({})), Ok(None)) && matches!(account_of(json!({"token": "opaque"})), Ok(None))
        );
        let (missing, _) = account_of(json!({"tokenFile": directory.path().join("none")})).expect_err("missing");
        assert!(missing.ends_with("/none"), "{missing}");
    }

    /// A FIFO stands for a mount that hangs.
    #[test]
    fn a_token_file_that_would_block_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let fifo = directory.path().join("token");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
        let error = read_token(&fifo).expect_err("a FIFO");
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}
