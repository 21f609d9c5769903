//! Which `ServiceAccount` we are, read from the claims of our own API token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
