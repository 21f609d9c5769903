//! `sources.<name>.pki`, as the user writes it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::quantity::RawDuration;

/// A certificate of the PKI engine, with its key.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["issue"]}, {"required": ["sign"]}]))]
pub(super) struct RawPki {
    /// Path of the endpoint at which Vault creates the key and the certificate. Set either `issue` or `sign`.
    #[schemars(extend("examples" = ["pki/issue/web"]))]
    pub(super) issue: Option<String>,
    /// Path of the endpoint that signs a certificate for a key that keyferry creates. The key never leaves the pod.
    #[schemars(extend("examples" = ["pki/sign/web"]))]
    pub(super) sign: Option<String>,
    /// Common name. This and the following names can contain the placeholders of `parameters`.
    #[schemars(extend("examples" = ["web.example.com"]))]
    pub(super) common_name: Option<String>,
    /// DNS names and email addresses for the subject alternative names. Vault also adds the common name.
    #[schemars(extend("examples" = [["${POD_NAME}.web.example.com"]]))]
    pub(super) alt_names: Option<Vec<String>>,
    /// IP addresses for the subject alternative names.
    #[schemars(extend("examples" = [["${POD_IP}"]]))]
    pub(super) ip_sans: Option<Vec<String>>,
    /// URIs for the subject alternative names.
    #[schemars(extend("examples" = [["spiffe://example.com/ns/${POD_NAMESPACE}/sa/${SERVICE_ACCOUNT}"]]))]
    pub(super) uri_sans: Option<Vec<String>>,
    /// Lifetime of the certificate. Default: the `ttl` of the role.
    pub(super) ttl: Option<RawDuration>,
    /// `sign`: type of the key that keyferry creates. Default: `ec-p256`. With `issue`, the role in Vault determines the type.
    pub(super) key_type: Option<RawKeyType>,
    /// Time before the expiry at which to renew the certificate. Default: a third of its lifetime.
    pub(super) renew_before: Option<RawDuration>,
}

/// Type of a private key.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
pub(super) enum RawKeyType {
    /// ECDSA on the curve P-256.
    #[serde(rename = "ec-p256")]
    EcP256,
    /// ECDSA on the curve P-384.
    #[serde(rename = "ec-p384")]
    EcP384,
    /// Ed25519.
    #[serde(rename = "ed25519")]
    Ed25519,
}
