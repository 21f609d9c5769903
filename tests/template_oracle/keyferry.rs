//! The only place that calls the template engine of the library.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keyferry::model::{Lease, LeaseId, MissingKey, Reading, SecretCall, SecretValue, SourceName, Template, Validity};
use keyferry::template::{ExecutionError, execute, inspect};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::testbed::consul_template::Job;

/// Rounds of requests that a template can ask for.
const ROUNDS: usize = 4;

/// The output, or the message of the error with which keyferry refuses the template.
pub(crate) fn render(job: &Job<'_>) -> Result<Vec<u8>, String> {
    let variable =
        |name: &str| Ok(job.env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()));
    let joined = |problems: Vec<keyferry::template::Problem>| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let found = inspect(job.template, Template::DELIMITERS, &BTreeSet::new(), &variable).map_err(joined)?;
    let mut template = Template {
        text: job.template.to_owned(),
        file: None,
        missing_key: if job.missing_error { MissingKey::Error } else { MissingKey::Default },
        delimiters: (Template::DELIMITERS.0.to_owned(), Template::DELIMITERS.1.to_owned()),
        variables: found.variables,
        named: BTreeSet::new(),
        calls: BTreeMap::new(),
        computed: BTreeMap::new(),
    };
    let (mut readings, mut wanted) = (BTreeMap::new(), found.calls);
    for _ in 0..ROUNDS {
        for call in std::mem::take(&mut wanted) {
            let response = response(job, &call).ok_or_else(|| format!("no response for {}", call.path))?;
            let name = SourceName::new(&format!("source{}", readings.len())).map_err(|e| format!("{e:?}"))?;
            let mut reading = reading(response).ok_or("the response is not JSON")?;
            reading.received = job.now.parse().unwrap_or_default();
            readings.insert(name.clone(), Arc::new(reading));
            template.calls.insert(call, name);
        }
        match execute(&template, &readings) {
            Ok(executed) => return Ok(executed.content.expose().to_vec()),
            Err(ExecutionError::Failed(problem)) => return Err(problem.to_string()),
            Err(ExecutionError::Needs(calls)) => wanted = calls,
        }
    }
    Err(format!("more than {ROUNDS} rounds of requests"))
}

/// The response to this call. The order of the arguments does not matter.
fn response<'a>(job: &Job<'a>, call: &SecretCall) -> Option<&'a RawValue> {
    let query = call.version.map_or_else(String::new, |version| format!("?version={version}"));
    let arguments: Vec<String> = call.arguments.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let wanted = |request: &str| {
        let mut parts = request.split('\n');
        let path = parts.next().unwrap_or_default();
        let mut rest: Vec<&str> = parts.collect();
        rest.sort_unstable();
        let path = path.trim_matches('/');
        path == format!("{}{query}", call.path) && rest == arguments
    };
    job.secrets.iter().find(|(request, _)| wanted(request)).map(|(_, response)| &**response)
}

/// The reading of a response.
fn reading(response: &RawValue) -> Option<Reading> {
    let fields = |object: &RawValue| serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(object.get()).ok();
    let values = |object: &RawValue| -> Option<BTreeMap<String, SecretValue>> {
        fields(object)?.iter().map(|(key, value)| Some((key.clone(), SecretValue::from_json(value.get())?))).collect()
    };
    let known: Value = serde_json::from_str(response.get()).ok()?;
    let data = fields(response)?.remove("data")?;
    let validity = match known["lease_id"].as_str() {
        None | Some("") => Validity::Unlimited,
        Some(id) => Validity::Lease(Lease {
            id: LeaseId::Id(id.to_owned()),
            duration: Duration::from_secs(known["lease_duration"].as_u64()?),
            renewable: known["renewable"] == true,
        }),
    };
    let inner = fields(&data).unwrap_or_default();
    Some(match (inner.get("data"), inner.get("metadata")) {
        (Some(secret), Some(metadata)) => {
            Reading { data: values(secret)?, metadata: Some(metadata.get().into()), validity, ..Reading::default() }
        }
        _ => Reading { data: values(&data).unwrap_or_default(), validity, ..Reading::default() },
    })
}
