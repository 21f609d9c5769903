//! `kubernetes` (<https://developer.hashicorp.com/vault/api-docs/auth/kubernetes#login>)

use std::path::Path;

use super::super::api::login::{Advice, Login};
use super::super::credential::{Credential, CredentialError, Problem};
use super::super::error::VaultError;
use super::claims::Claims;
use super::jwt;

/// The login request with the `ServiceAccount` token in `file`.
///
/// Checks the audience before the token is sent, because Vault's error for a wrong audience does not name the volume to fix.
pub(in crate::vault) fn request(
    mount: &str,
    role: &str,
    audience: Option<&str>,
    file: &Path,
    token: Credential,
) -> Result<Login, VaultError> {
    let claims = Claims::of(token.expose());
    if let Some(expected) = audience {
        let what = "the ServiceAccount token";
        let not_jwt = || CredentialError::File { what, file: file.to_owned(), problem: Problem::NotJwt };
        let found = &claims.as_ref().ok_or_else(not_jwt)?.audiences;
        if !found.iter().any(|audience| audience == expected) {
            let (file, expected) = (file.to_owned(), expected.to_owned());
            return Err(VaultError::WrongAudience { file, found: found.clone(), expected });
        }
    }
    let advice = Advice {
        // Vault gives no details for a missing mount, nor for a token that the cluster's TokenReview rejects.
        denied: "check the mount and the namespace of the auth method; if the ServiceAccount was deleted or re-created, \
                 re-create the pod",
        refused: "check that the role exists and that its bound_service_account_names, bound_service_account_namespaces \
                  and audience accept this token",
    };
    Ok(jwt::login(mount, Some(role), token, &claims.unwrap_or_default(), advice))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::model::{Failure, Reason};

    fn requested(jwt: &str) -> Result<Login, Failure> {
        let credential = Credential::given(&jwt.into(), "the token").expect("a credential");
        request("kubernetes/", "webapp", Some("vault"), Path::new("/token"), credential).map_err(Failure::from)
    }

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn token_with_wrong_audience_is_rejected() {
        let login = requested(&jwt(r#"{"aud":["x","vault"],"sub":"system:serviceaccount:a:b"}"#)).expect("a login");
        assert_eq!(login.path, "auth/kubernetes/login");
        assert_eq!(login.identity, "role \"webapp\", ServiceAccount a/b, audience \"x\", \"vault\"");
        for bad in [jwt(r#"{"aud":["https://kubernetes.default.svc"]}"#), jwt(r#"{"sub":"x"}"#)] {
            let failure = requested(&bad).err().expect("refused");
            assert_eq!(failure.reason, Reason::CredentialUnreadable);
            assert!(failure.message.contains("audience: vault"), "{failure}");
        }
        let failure = requested("hvs.notajwt").err().expect("refused");
        assert!(failure.message.contains("expected a JWT"), "{failure}");
    }
}
