//! Sample data for `keyferry render --data`: secrets by the name of their source, or by their path.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::model::SecretValue;

/// The keys and values of each secret, by the name of a source or by path.
pub type SampleData = BTreeMap<String, BTreeMap<String, SecretValue>>;

/// Parses YAML or JSON: a mapping of secrets, each a mapping of keys and values.
///
/// # Errors
/// A message with the name of the first secret that is not a mapping, or with the place of a YAML error.
pub fn sample_data(text: &str) -> Result<SampleData, String> {
    let secrets: Map<String, Value> = serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map(|at| format!("line {}, column {}: ", at.line(), at.column()));
        format!("{}must be a YAML mapping of secrets by name or path", place.unwrap_or_default())
    })?;
    let secret = |(name, keys): (String, Value)| {
        let Value::Object(keys) = keys else {
            return Err(format!("{name}: must be a mapping of keys and values"));
        };
        let value = |(key, value): (String, Value)| Some((key, SecretValue::from_json(&value.to_string())?));
        Ok((name.trim_matches('/').to_owned(), keys.into_iter().filter_map(value).collect()))
    };
    secrets.into_iter().map(secret).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_data_is_a_mapping_of_mappings() {
        let data = sample_data("app: {password: x, port: 5432}\n/secret/data/db/: {a: [1]}").expect("valid");
        assert_eq!(data.keys().collect::<Vec<_>>(), ["app", "secret/data/db"]);
        assert_eq!(data["app"]["port"].bytes().expose_str(), Some("5432"));
        assert_eq!(sample_data("app: x").err().as_deref(), Some("app: must be a mapping of keys and values"));
        assert!(sample_data("- a").is_err());
    }
}
