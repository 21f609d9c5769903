//! Templates with the content that consul-template 0.41.1 renders. `tests/testbed/go/consul-template` makes the content.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::offline;
use crate::model::MissingKey;

#[derive(serde::Deserialize)]
struct Case {
    template: String,
    #[serde(default)]
    missing_error: bool,
    #[serde(default)]
    secrets: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    output: Option<String>,
}

fn rendered(case: &Case) -> Result<Vec<u8>, String> {
    let missing_key = if case.missing_error { MissingKey::Error } else { MissingKey::Default };
    offline(&case.template, missing_key, &case.secrets)
}

/// Compares the lines of the file in `GOLDEN`, for development.
#[test]
fn golden_file_is_the_same() {
    let Ok(path) = std::env::var("GOLDEN") else { return };
    let (mut same, mut refused, mut different) = (0, 0, 0);
    for line in std::fs::read_to_string(path).expect("a file").lines() {
        let case: Case = serde_json::from_str(line).expect("a case");
        let found = rendered(&case);
        let wanted = case.output.as_deref().map(|output| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(output).expect("base64")
        });
        match (&found, &wanted) {
            (Ok(found), Some(wanted)) if found == wanted => same += 1,
            (Err(_), None) => refused += 1,
            _ => {
                different += 1;
                let (here, go) = (found.clone().unwrap_or_default(), wanted.clone().unwrap_or_default());
                let at = here.iter().zip(&go).position(|(a, b)| a != b).unwrap_or(here.len().min(go.len()));
                let window = |bytes: &[u8]| {
                    let window = &bytes[at.saturating_sub(60)..bytes.len().min(at + 60)];
                    format!("{:?}", String::from_utf8_lossy(window))
                };
                let data: String = case.secrets.values().map(|value| value.get()).collect();
                println!(
                    "--- {}\n  data   {}\n  go     {}\n  here   {}",
                    case.template,
                    data.chars().take(200).collect::<String>(),
                    if wanted.is_none() { "error".to_owned() } else { window(&go) },
                    found.as_ref().map_or_else(|error| format!("error {error}"), |_| window(&here)),
                );
            }
        }
    }
    println!("{same} the same, {refused} refused by both, {different} different");
}
