//! Identifies the agent's `ServiceAccount` from the claims of its API token.

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

/// Maximum number of bytes read from a token file. Tokens have one to two thousand bytes.
const MAX_TOKEN: u64 = 64 << 10;

/// The `ServiceAccount` of an API token
/// (<https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#schema-for-service-account-private-claims>).
///
/// The claims are not verified here: the API server verifies the token, including the UID, in every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

impl Account {
    /// `None` if the token is not a JWT or does not contain the name and UID of a `ServiceAccount`.
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

/// The `ServiceAccount` of the token in `auth`. The kubelet rotates the token, but the `ServiceAccount` of a Pod never
/// changes.
///
/// # Errors
/// The path of the token file and the I/O error, if the file cannot be read.
pub(super) fn of(auth: &AuthInfo) -> Result<Option<Account>, (String, io::Error)> {
    #[derive(Deserialize)]
    struct Inline<'a> {
        #[serde(borrow)]
        token: Option<Cow<'a, str>>,
    }
    if auth.token.is_some() {
        // kube exposes the token only through serde. The buffer is zeroed.
        let json = client::to_body(auth);
        let token = serde_json::from_slice::<Inline<'_>>(&json).ok().and_then(|inline| inline.token);
        return Ok(token.and_then(|token| Account::from_token(&token)));
    }
    let Some(file) = &auth.token_file else { return Ok(None) };
    let token = read_token(Path::new(file)).map_err(|error| (file.clone(), error))?;
    Ok(std::str::from_utf8(&token).ok().and_then(Account::from_token))
}

/// Reads a regular file without blocking: opening a FIFO would block the agent's only thread.
pub(super) fn read_token(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
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

    /// The claims are from a token of Kubernetes 1.37.
    #[test]
    fn service_account_is_read_from_token() {
        let claims = r#"{"aud":["https://kubernetes.default.svc"],"exp":1795887690,"iat":1795851690,
            "iss":"https://kubernetes.default.svc","jti":"cfa987b7","kubernetes.io":{"namespace":"ns",
            "pod":{"name":"webapp-0","uid":"p"},"serviceaccount":{"name":"kf","uid":"764a36ed"}},
            "nbf":1795851690,"sub":"system:serviceaccount:ns:kf"}"#;
        let account = Account { namespace: "ns".into(), name: "kf".into(), uid: "764a36ed".into() };
        assert_eq!(Account::from_token(&format!("{}\n", token(claims))), Some(account));
    }

    #[test]
    fn token_without_service_account_claims_gives_none() {
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
    fn account_is_read_from_inline_token_or_token_file() {
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

    /// A FIFO simulates a mount that hangs.
    #[test]
    fn fifo_as_token_file_is_rejected_without_blocking() {
        let directory = tempfile::tempdir().expect("a directory");
        let fifo = directory.path().join("token");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
        let error = read_token(&fifo).expect_err("a FIFO");
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}
