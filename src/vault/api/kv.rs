//! The `data` of a KV version 2 response
//! (<https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-version>).

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One version of a secret.
pub(in crate::vault) struct KvV2<'a> {
    /// Keys and values; `None` if the version is deleted or destroyed.
    pub(in crate::vault) data: Option<&'a RawValue>,
    pub(in crate::vault) metadata: Metadata,
    /// `metadata` with all fields.
    pub(in crate::vault) raw_metadata: &'a RawValue,
}

#[derive(Deserialize)]
pub(in crate::vault) struct Metadata {
    pub(in crate::vault) version: u64,
    #[serde(default)]
    pub(in crate::vault) created_time: Option<Timestamp>,
    /// Empty if the version is not deleted.
    #[serde(default)]
    deletion_time: Option<String>,
    #[serde(default)]
    destroyed: Option<bool>,
}

impl<'a> KvV2<'a> {
    /// Parses the response of an engine that is known to be KV version 2. Ignores unknown fields.
    pub(in crate::vault) fn parse(data: &'a RawValue) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow)]
            data: Option<&'a RawValue>,
            #[serde(borrow)]
            metadata: &'a RawValue,
        }
        let body: Body<'_> = serde_json::from_str(data.get()).ok()?;
        let metadata = serde_json::from_str(body.metadata.get()).ok()?;
        let found = Self { data: body.data, metadata, raw_metadata: body.metadata };
        let object = found.data.is_none_or(|inner| inner.get().starts_with('{'));
        object.then_some(found)
    }

    /// Parses the response of an unknown engine. Accepts only the exact shape of KV version 2: `data`, an object or null, and
    /// `metadata` with a version. A secret of another engine can have keys with these names.
    pub(in crate::vault) fn recognize(data: &'a RawValue) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Exact<'a> {
            #[serde(borrow, rename = "data")]
            _data: Option<&'a RawValue>,
            #[serde(borrow, rename = "metadata")]
            _metadata: &'a RawValue,
        }
        serde_json::from_str::<Exact<'_>>(data.get()).ok()?;
        Self::parse(data)
    }

    /// Why a version has no data, and what to do, for a message.
    pub(in crate::vault) fn deletion(&self) -> String {
        match (self.metadata.destroyed, self.metadata.deletion_time.as_deref()) {
            (Some(true), _) => "was permanently destroyed; write a new version".to_owned(),
            (_, None | Some("")) => "holds no data; write a new version".to_owned(),
            (_, Some(time)) => format!("was deleted at {time}; undelete it or write a new version"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).expect("JSON")
    }

    #[test]
    fn recognize_accepts_only_exact_kv2_shape() {
        for good in [
            r#"{"data":{"a":"b"},"metadata":{"version":3,"created_time":"2026-01-01T00:00:00.123Z","deletion_time":"","destroyed":false,"custom_metadata":null}}"#,
            r#"{"data":null,"metadata":{"version":1,"deletion_time":"2026-01-01T00:00:00Z"}}"#,
        ] {
            assert!(KvV2::recognize(raw(good)).is_some(), "{good}");
        }
        for bad in [
            r#"{"data":"text","metadata":{"version":1}}"#,
            r#"{"data":{},"metadata":{"version":"1"}}"#,
            r#"{"data":{},"metadata":{}}"#,
            r#"{"data":{}}"#,
            r#"{"data":{},"metadata":{"version":1},"more":1}"#,
            r#"{"username":"x"}"#,
            "null",
        ] {
            assert!(KvV2::recognize(raw(bad)).is_none(), "{bad}");
        }
    }

    #[test]
    fn parse_ignores_unknown_fields() {
        assert!(KvV2::parse(raw(r#"{"data":{},"metadata":{"version":1,"by":"x"},"more":1}"#)).is_some());
        assert!(KvV2::parse(raw(r#"{"data":"text","metadata":{"version":1}}"#)).is_none());
    }
}
