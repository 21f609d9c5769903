//! `sources.<name>.parameters.<name>`: a value or a list of values, with placeholders for properties of the pod.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::environment::Environment;
use crate::model::Parameter;

/// Placeholders, which are also the names of the variables that set them, and their fields of the downward API.
const PLACEHOLDERS: [(&str, &str); 5] = [
    ("POD_NAME", "metadata.name"),
    ("POD_NAMESPACE", "metadata.namespace"),
    ("POD_IP", "status.podIP"),
    ("NODE_NAME", "spec.nodeName"),
    ("SERVICE_ACCOUNT", "spec.serviceAccountName"),
];

/// Value of a parameter as the user writes it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawParameter {
    Boolean(bool),
    Integer(i64),
    Text(String),
    List(Vec<RawParameter>),
}

impl JsonSchema for RawParameter {
    fn schema_name() -> Cow<'static, str> {
        "Parameter".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// A list contains no lists.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer", "boolean", "array"],
            "items": {"type": ["string", "integer", "boolean"]},
        })
    }
}

impl RawParameter {
    /// Replaces the placeholders in all texts.
    ///
    /// # Errors
    /// What is wrong with a placeholder, and what to do.
    pub(super) fn expand(self, env: &dyn Environment) -> Result<Parameter, String> {
        Ok(match self {
            Self::Boolean(flag) => Parameter::Boolean(flag),
            Self::Integer(number) => Parameter::Integer(number),
            Self::Text(text) => Parameter::Text(expand(&text, env)?),
            Self::List(items) => {
                Parameter::List(items.into_iter().map(|item| item.expand(env)).collect::<Result<_, _>>()?)
            }
        })
    }
}

/// Replaces the placeholders in `text`. `$$` is a literal dollar sign.
pub(super) fn expand(text: &str, env: &dyn Environment) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            after
        } else if let Some(after) = after.strip_prefix('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(
                    "has a placeholder that is not closed with \"}\"; close it, or write `$$` for a dollar sign".into(),
                );
            };
            expanded.push_str(&value(name, env)?);
            after
        } else {
            expanded.push('$');
            after
        };
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn value(name: &str, env: &dyn Environment) -> Result<String, String> {
    let Some((name, field)) = PLACEHOLDERS.into_iter().find(|(known, _)| *known == name) else {
        let known = PLACEHOLDERS.map(|(name, _)| format!("${{{name}}}")).join(", ");
        return Err(format!("has an unknown placeholder; use one of {known}, or write `$$` for a dollar sign"));
    };
    env.get(name).filter(|value| !value.is_empty()).ok_or_else(|| {
        format!(
            "requires the environment variable {name}; set it in the container with \
             `{{name: {name}, valueFrom: {{fieldRef: {{fieldPath: {field}}}}}}}`"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn env() -> HashMap<String, String> {
        [("POD_NAME", "web-0"), ("POD_IP", "10.0.0.7"), ("HOME", "/root"), ("NODE_NAME", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn placeholders_are_replaced_and_dollar_signs_kept() {
        for (text, expected) in [
            ("${POD_NAME}.example.com", "web-0.example.com"),
            ("${POD_IP},${POD_IP}", "10.0.0.7,10.0.0.7"),
            ("a$b", "a$b"),
            ("$${POD_NAME}", "${POD_NAME}"),
            ("$", "$"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &env()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_variables_cannot_be_read() {
        let error = expand("${HOME}", &env()).expect_err("not a placeholder");
        assert!(error.contains("${NODE_NAME}") && !error.contains("/root"), "{error}");
        for unclosed in ["${", "${POD_NAME"] {
            assert!(expand(unclosed, &env()).expect_err("not closed").contains("not closed"), "{unclosed}");
        }
        for unset in ["${POD_NAMESPACE}", "${NODE_NAME}"] {
            assert!(expand(unset, &env()).expect_err("unset").contains("fieldPath"), "{unset}");
        }
    }
}
