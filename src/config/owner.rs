//! `mirrors.<name>.owner`: a word or a mapping.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::json;

/// The word for the ServiceAccount of the pod that keyferry runs in.
pub(super) const SERVICE_ACCOUNT: &str = "serviceAccount";

/// Owner of a Secret as the user writes it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawOwner {
    /// [`SERVICE_ACCOUNT`]; any other word is reported as invalid.
    Word(String),
    /// Any object of the namespace.
    Object(RawObject),
}

/// An object of the namespace.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["apiVersion", "kind", "name", "uid"]))]
pub(super) struct RawObject {
    /// `apiVersion` of the owner.
    #[schemars(extend("examples" = ["apps/v1"]))]
    pub(super) api_version: Option<String>,
    /// `kind` of the owner.
    #[schemars(extend("examples" = ["Deployment"]))]
    pub(super) kind: Option<String>,
    /// Name of the owner.
    pub(super) name: Option<String>,
    /// UID of the owner, as `kubectl get -o jsonpath={.metadata.uid}` prints it.
    #[schemars(extend("examples" = ["a2a51b3c-8a2b-4e0c-9a57-6c1fbc3a4f0f"]))]
    pub(super) uid: Option<String>,
}

impl JsonSchema for RawOwner {
    fn schema_name() -> Cow<'static, str> {
        "Owner".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// One schema without `anyOf`: `pattern` applies to text, everything else to an object.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RawObject::json_schema(generator);
        schema.insert("type".into(), json!(["string", "object"]));
        schema.insert("pattern".into(), json!(format!("^{SERVICE_ACCOUNT}$")));
        schema
    }
}
