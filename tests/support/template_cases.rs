//! The cases of `tests/integration/templates`: templates, and what keyferry does with them in comparison to the Vault Agent.

#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;

const FILES: [(&str, &str); 4] = [
    ("shapes", include_str!("../integration/templates/shapes.yaml")),
    ("language", include_str!("../integration/templates/language.yaml")),
    ("functions", include_str!("../integration/templates/functions.yaml")),
    ("sprig", include_str!("../integration/templates/sprig.yaml")),
];

/// The data of the secrets that the cases read, by path.
const SECRETS: &str = include_str!("../integration/templates/secrets.json");

/// Whether the library has a template engine. Without it, the tests check the side of the Vault Agent alone.
pub(crate) const ENGINE_EXISTS: bool = true;

/// The variables that the cases read.
pub(crate) const ENVIRONMENT: [(&str, &str); 1] = [("APP", "app")];

/// A case in a file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: String,
    template: String,
    #[serde(default)]
    missing_key: Option<String>,
    #[serde(default)]
    expect: Option<String>,
    #[serde(default)]
    compare: Option<String>,
    #[serde(default)]
    agents: Option<String>,
}

/// What keyferry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It renders the same bytes as the Vault Agent.
    Same,
    /// It refuses what the Vault Agent renders.
    Stricter,
    /// It renders what the Vault Agent refuses.
    Lenient,
    /// Both refuse.
    Error,
}

/// Which agents get a case. If not all, a comment in the file says why.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Agents {
    All,
    Vault,
    None,
}

/// A template and the expected outcome.
pub(crate) struct TemplateCase {
    /// Unique; also a file name.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) template: String,
    /// Whether a missing key is an error: `missingKey: error`, `error_on_missing_key` of the Vault Agent.
    pub(crate) missing_error: bool,
    pub(crate) expect: Expect,
    /// The output has certificates or keys, which differ between two issue calls.
    pub(crate) pem: bool,
    /// Which agents get the case.
    agents: Agents,
}

impl Expect {
    /// Whether the Vault Agent renders the template.
    pub(crate) fn is_rendered_by_agent(self) -> bool {
        matches!(self, Self::Same | Self::Stricter)
    }
}

impl TemplateCase {
    pub(crate) fn is_for_vault(&self) -> bool {
        self.agents != Agents::None
    }

    pub(crate) fn is_for_openbao(&self) -> bool {
        self.agents == Agents::All
    }

    /// What is compared of an output: all bytes, or PEM blocks without their content.
    pub(crate) fn comparable(&self, output: &[u8]) -> String {
        let text = readable(output);
        if !self.pem {
            return text;
        }
        let mut inside = false;
        let is_kept = |line: &&str| {
            let edge = line.contains("-----");
            let kept = edge || !inside;
            if line.contains("-----BEGIN") || line.contains("-----END") {
                inside = line.rfind("-----BEGIN") > line.rfind("-----END");
            }
            kept
        };
        text.split("\\n").filter(is_kept).collect::<Vec<_>>().join("\\n")
    }
}

/// Bytes as text without loss: what is not printable ASCII is escaped.
pub(crate) fn readable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// All cases, in the order of the files.
pub(crate) fn cases() -> Result<Vec<TemplateCase>> {
    let mut all = Vec::new();
    for (file, text) in FILES {
        let entries: Vec<Entry> =
            serde_saphyr::from_str(text).with_context(|| format!("failed to parse {file}.yaml"))?;
        for (number, entry) in entries.into_iter().enumerate() {
            let expect = match entry.expect.as_deref() {
                None => Expect::Same,
                Some("error") => Expect::Error,
                Some(text) if text.starts_with("stricter: ") => Expect::Stricter,
                Some(text) if text.starts_with("lenient: ") => Expect::Lenient,
                Some(other) => anyhow::bail!("{}: unknown expect {other:?}", entry.name),
            };
            let agents = match entry.agents.as_deref() {
                None => Agents::All,
                Some("vault") => Agents::Vault,
                Some("none") => Agents::None,
                Some(other) => anyhow::bail!("{}: unknown agents {other:?}", entry.name),
            };
            let known = |value: &Option<String>, one: &str| value.as_deref().is_none_or(|value| value == one);
            ensure!(known(&entry.missing_key, "default"), "{}: unknown missingKey", entry.name);
            ensure!(known(&entry.compare, "pem"), "{}: unknown compare", entry.name);
            all.push(TemplateCase {
                id: format!("{file}-{:03}", number + 1),
                name: entry.name,
                template: entry.template,
                missing_error: entry.missing_key.is_none(),
                expect,
                pem: entry.compare.is_some(),
                agents,
            });
        }
    }
    Ok(all)
}

/// The data of the secrets, by path, as JSON text: a number keeps its digits.
pub(crate) fn secrets() -> Result<BTreeMap<String, Box<RawValue>>> {
    serde_json::from_str(SECRETS).context("failed to parse secrets.json")
}
