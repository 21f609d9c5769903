//! Parses YAML text into a [`RawDocument`] and checks it against the schema. Reports and removes invalid values, so
//! that the rest is still checked and all errors appear at once.

use serde_json::{Map, Value};

use super::diagnostics::{DOCUMENT, Diagnostics, shown_key, shown_name};
use super::owner::SERVICE_ACCOUNT;
use super::quantity::{DURATION_FORM, SIZE_FORM};
use super::raw::RawDocument;
use super::schema::{choices, schema};

/// Parses the configuration file. The result contains no invalid value.
pub(super) fn read(text: &str, diagnostics: &mut Diagnostics) -> RawDocument {
    let mut value = match parse(text) {
        Ok(Value::Null) => return RawDocument::default(),
        Ok(value) => value,
        Err(message) => {
            diagnostics.invalid_hidden(DOCUMENT, message);
            return RawDocument::default();
        }
    };
    if !prune(&mut value, &schema(), "", diagnostics) {
        return RawDocument::default();
    }
    serde_json::from_value(value).unwrap_or_else(|_| {
        // Unreachable: the schema is generated from the same types, which a property test checks. The cause is left
        // out, because serde quotes values.
        diagnostics
            .invalid_hidden(DOCUMENT, "does not match the schema; compare it with the output of `keyferry schema`");
        RawDocument::default()
    })
}

/// Parses YAML. `0440` stays text: YAML 1.2 would read it as the decimal 440, which is never the intended file mode.
fn parse(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        leading_zero_numbers_as_strings: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        // No snippet: the lines may contain a secret.
        let place =
            error.location().map(|at| format!("line {}, column {}: ", at.line(), at.column())).unwrap_or_default();
        let mut cause = error.without_snippet();
        while let serde_saphyr::Error::AliasError { error, .. } = cause {
            cause = error;
        }
        match cause {
            serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
                return format!(
                    "{place}duplicate key {}; remove one of them",
                    shown_key(key.as_deref().unwrap_or("?"))
                );
            }
            serde_saphyr::Error::MultipleDocuments { .. } => {
                return format!("{place}must be one YAML document, but a second one starts here (`---`); merge them");
            }
            serde_saphyr::Error::Budget { .. }
            | serde_saphyr::Error::AliasReplayLimitExceeded { .. }
            | serde_saphyr::Error::AliasExpansionLimitExceeded { .. }
            | serde_saphyr::Error::AliasReplayStackDepthExceeded { .. } => {
                return format!("{place}too large after YAML aliases (`*name`) are expanded; write it without aliases");
            }
            _ => {}
        }
        let text = error.without_snippet().to_string();
        // The library appends the position in its own format.
        let cause = text.split(" at line ").next().unwrap_or(&text);
        format!("{place}invalid YAML: {cause}")
    })
}

/// Checks `value` against `schema`; reports and removes invalid values below it. Returns whether `value` itself is
/// valid.
fn prune(value: &mut Value, schema: &Value, path: &str, diagnostics: &mut Diagnostics) -> bool {
    let here = if path.is_empty() { DOCUMENT } else { path };
    if let Some(choices) = choices(schema) {
        let Value::String(text) = &*value else {
            return reject(value, &format!("must be one of {}", choices.join(", ")), here, diagnostics);
        };
        if choices.contains(&text.as_str()) {
            return true;
        }
        let mut message = format!("must be one of {}", choices.join(", "));
        if identity_type(path, text) {
            message.push_str("; a Secret of a type that grants an identity cannot be mirrored");
        } else if let Some(near) = super::diagnostics::nearest(text, choices.iter().copied()) {
            message = format!("{message}; did you mean `{near}`?");
        }
        return reject(value, &message, here, diagnostics);
    }
    let allowed: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => return true,
    };
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        // No setting is larger than an i64.
        Value::Number(number) if number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !allowed.contains(&found) {
        return reject(value, &expectation(&allowed, schema, found), here, diagnostics);
    }
    match value {
        Value::Object(object) => prune_object(object, schema, path, diagnostics),
        Value::Array(items) => {
            let inner = schema.get("items").unwrap_or(&Value::Null);
            let mut index = 0;
            items.retain_mut(|item| {
                let keep = prune(item, inner, &format!("{path}[{index}]"), diagnostics);
                index += 1;
                // An invalid mapping is emptied rather than removed, so that the following items keep their index.
                if !keep {
                    *item = if inner.get("type") == Some(&"object".into()) {
                        Value::Object(Map::new())
                    } else {
                        Value::Null
                    };
                }
                !item.is_null()
            });
        }
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or_default();
            let minimum = schema.get("minimum").and_then(Value::as_i64);
            let maximum = schema.get("maximum").and_then(Value::as_i64);
            if minimum.is_some_and(|minimum| number < minimum) {
                let message = format!("must be at least {}", minimum.unwrap_or_default());
                return reject(value, &message, here, diagnostics);
            }
            if maximum.is_some_and(|maximum| number > maximum) {
                let message = format!("must be at most {}", maximum.unwrap_or_default());
                return reject(value, &message, here, diagnostics);
            }
        }
        Value::String(text) if text.is_empty() && schema.get("minLength").is_some() => {
            return reject(value, "must not be empty; set a value or remove the key", here, diagnostics);
        }
        _ => {}
    }
    true
}

fn prune_object(object: &mut Map<String, Value>, schema: &Value, path: &str, diagnostics: &mut Diagnostics) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let properties = schema.get("properties").and_then(Value::as_object);
    let values = schema.get("additionalProperties").filter(|values| values.is_object());
    // A key without a value ("mirrors:") counts as unset. In a map with names chosen by the user ("sources: {db: }")
    // the name itself matters.
    object.retain(|name, value| {
        values.is_some() || !value.is_null() || !properties.is_some_and(|p| p.contains_key(name))
    });
    object.retain(|name, value| {
        if let Some(property) = properties.and_then(|properties| properties.get(name)) {
            return prune(value, property, &below(name), diagnostics);
        }
        if let Some(values) = values {
            let section = values.get("properties").is_some();
            if value.is_null() && section && values.get("required").is_none() && values.get("anyOf").is_none() {
                *value = Value::Object(Map::new());
            }
            let keep = prune(value, values, &below(name), diagnostics);
            if !keep && section {
                // Keep the name, or every reference to it would be reported too.
                *value = Value::Object(Map::new());
            }
            return keep || section;
        }
        let known = properties.into_iter().flat_map(Map::keys).map(String::as_str);
        diagnostics.unknown(&below(&shown_name(name)), "key", name, known);
        false
    });
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            diagnostics.required(&below(name), "is missing");
        }
    }
}

fn reject(value: &Value, message: &str, path: &str, diagnostics: &mut Diagnostics) -> bool {
    diagnostics.invalid(path, value.clone(), message);
    false
}

/// The expected value, in terms of the configuration file.
fn expectation(allowed: &[&str], schema: &Value, found: &str) -> String {
    let pattern = schema.get("pattern").and_then(Value::as_str).unwrap_or_default();
    let wanted = match *allowed {
        ["string", "integer"] if pattern.contains("(d|h|m|s|ms)") => {
            return DURATION_FORM.to_owned();
        }
        ["string", "integer"] => return SIZE_FORM.to_owned(),
        ["string", "object"] => {
            return format!("must be `{SERVICE_ACCOUNT}` or a mapping with apiVersion, kind, name, and uid");
        }
        ["boolean", "object"] => {
            let keys = schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
            let keys: Vec<_> = keys.map(String::as_str).collect();
            return format!("must be true, false, or a mapping with {}", keys.join(", "));
        }
        ["string"] if pattern.contains("0o?") => {
            return "must be octal and in quotes, like \"0440\"; without quotes YAML reads a decimal number".to_owned();
        }
        ["string", "integer", "boolean", "array"] => "text, a whole number, true or false, or a list of them",
        ["string", "integer", "boolean"] => "text, a whole number, or true or false",
        ["string"] if found == "integer" || found == "boolean" || found == "number" => "text in quotes",
        ["string"] => "text",
        ["boolean"] => "true or false",
        ["integer"] => "a whole number",
        ["array"] => "a list",
        ["object"] => "a mapping",
        _ => "of another type",
    };
    let found = match found {
        "null" => "empty",
        "object" => "a mapping",
        "array" => "a list",
        "string" => "text",
        "boolean" => "true or false",
        _ => "a number",
    };
    format!("must be {wanted}, not {found}")
}

/// Whether `text` is a type of Secret that grants an identity to its holder.
fn identity_type(path: &str, text: &str) -> bool {
    path.starts_with("mirrors.")
        && matches!(text, "kubernetes.io/service-account-token" | "bootstrap.kubernetes.io/token")
}
