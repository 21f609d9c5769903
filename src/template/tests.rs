mod golden;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{ExecutionError, execute, inspect};
use crate::model::{
    Lease, LeaseId, MissingKey, Reading, SecretCall, SecretFunction, SecretValue, SourceName, Template, Validity,
};

/// The reading of a response of Vault.
fn reading(raw: &RawValue) -> Reading {
    let values = |object: &RawValue| -> BTreeMap<String, SecretValue> {
        let raw: BTreeMap<String, &RawValue> = serde_json::from_str(object.get()).expect("an object");
        raw.iter().map(|(key, value)| (key.clone(), SecretValue::from_json(value.get()).expect("JSON"))).collect()
    };
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).expect("an object");
    let response: Value = serde_json::from_str(raw.get()).expect("JSON");
    let data: &RawValue = fields["data"];
    let id = response["lease_id"].as_str().unwrap_or_default();
    let validity = if id.is_empty() {
        Validity::Unlimited
    } else {
        let duration = Duration::from_secs(response["lease_duration"].as_u64().unwrap_or_default());
        Validity::Lease(Lease { id: LeaseId::Id(id.to_owned()), duration, renewable: response["renewable"] == true })
    };
    let inner: BTreeMap<String, &RawValue> = serde_json::from_str(data.get()).unwrap_or_default();
    match (inner.get("data"), inner.get("metadata")) {
        (Some(secret), Some(metadata)) => {
            Reading { data: values(secret), metadata: Some(metadata.get().into()), validity, ..Reading::default() }
        }
        _ => Reading { data: values(data), validity, ..Reading::default() },
    }
}

/// Executes a template with responses of Vault, by path and arguments, separated by line breaks.
fn offline(
    text: &str,
    missing_key: MissingKey,
    responses: &BTreeMap<String, Box<RawValue>>,
) -> Result<Vec<u8>, String> {
    let no_variable = |name: &str| Ok((name == "APP").then(|| "app".to_owned()));
    let found = inspect(text, Template::DELIMITERS, &BTreeSet::new(), &no_variable)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let mut template = Template {
        text: text.to_owned(),
        file: None,
        missing_key,
        delimiters: (Template::DELIMITERS.0.into(), Template::DELIMITERS.1.into()),
        variables: found.variables,
        named: BTreeSet::new(),
        calls: BTreeMap::new(),
        computed: BTreeMap::new(),
    };
    let mut readings = BTreeMap::new();
    let mut wanted = found.calls;
    for _ in 0..4 {
        for call in std::mem::take(&mut wanted) {
            let arguments = call.arguments.iter().map(|(name, value)| format!("\n{name}={value}"));
            let query = call.version.map_or_else(String::new, |version| format!("?version={version}"));
            let mut keys: Vec<&str> = Vec::new();
            let key = format!("{}{query}{}", call.path, arguments.collect::<String>());
            keys.push(&key);
            let sorted = |text: &str| {
                let mut lines: Vec<_> = text.split('\n').map(str::to_owned).collect();
                lines[1..].sort();
                lines
            };
            let answer = responses.iter().find(|(request, _)| sorted(request) == sorted(&key));
            let (_, answer) = answer.ok_or_else(|| format!("no response for {key}"))?;
            let name = SourceName::new(&format!("{:?} {key}", call.function).replace('\n', " ")).expect("a name");
            readings.insert(name.clone(), Arc::new(reading(answer)));
            template.calls.insert(call, name);
        }
        match execute(&template, &readings) {
            Ok(executed) => return Ok(executed.content.expose().to_vec()),
            Err(ExecutionError::Failed(problem)) => return Err(problem.to_string()),
            Err(ExecutionError::Needs(calls)) => wanted = calls,
        }
    }
    Err("too deep".to_owned())
}
