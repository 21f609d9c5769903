//! `mirrors.<name>.owner`: one word or a section.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::json;

/// The word for the `ServiceAccount` of our own Pod.
pub(super) const SERVICE_ACCOUNT: &str = "serviceAccount";

/// Owner of a Secret as written.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawOwner {
    /// [`SERVICE_ACCOUNT`], or another word, which is then told.
    Word(String),
    /// Any object.
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

    /// One schema without `anyOf`: `pattern` is about a text, everything else about an object.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RawObject::json_schema(generator);
        schema.insert("type".into(), json!(["string", "object"]));
        schema.insert("pattern".into(), json!(format!("^{SERVICE_ACCOUNT}$")));
        schema
    }
}
