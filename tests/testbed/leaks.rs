//! The leak test: no output of an agent contains a secret of its case.
//!
//! A case knows its secrets, because they are written to Vault through it, and its agents. Outputs are captured while an
//! agent runs: `/proc` and the pages of its listener are gone after the exit.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine};
use serde_json::Value;

use super::capture::Capture;

/// Shorter texts would be found by chance.
const SHORTEST: usize = 6;

/// Minimum length of a text that could be part of a UID, a time or a number.
const SHORTEST_NUMBER: usize = 16;

/// Prefixes of Vault tokens (<https://developer.hashicorp.com/vault/docs/concepts/tokens#token-prefixes>).
const TOKENS: [&str; 3] = ["hvs.", "hvb.", "hvr."];

/// The only secret that is allowed in an environment: the user sets it there.
const GIVEN_TOKEN: &str = "VAULT_TOKEN=";

/// A captured text and its origin.
#[derive(Debug, Clone)]
pub struct Observed {
    pub place: String,
    pub text: String,
}

impl Observed {
    pub fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into() }
    }
}

/// The secrets and the agents of a case. A test with an agent must run the leak test before it drops this value.
#[derive(Default)]
pub struct Leaks {
    /// Every encoding in which a secret could appear.
    planted: Mutex<BTreeSet<String>>,
    agents: Mutex<Vec<Arc<Capture>>>,
    checked: AtomicBool,
}

impl Leaks {
    /// Adds a text that must not appear in any output.
    ///
    /// # Panics
    /// If the text is so short that it would be found by chance.
    pub fn plant(&self, secret: &str) {
        assert!(is_unmistakable(secret), "{secret:?} would be found by chance");
        locked(&self.planted).extend(forms(secret));
    }

    /// Adds all texts in a secret's data that are long enough to be searched for.
    pub fn plant_data(&self, data: &Value) {
        match data {
            Value::String(text) if is_unmistakable(text) => self.plant(text),
            Value::Array(items) => items.iter().for_each(|item| self.plant_data(item)),
            Value::Object(items) => items.values().for_each(|item| self.plant_data(item)),
            _ => {}
        }
    }

    /// Adds a JWT by its signature, so that a truncated JWT is found too.
    pub fn plant_jwt(&self, jwt: &str) {
        self.plant(jwt.rsplit('.').next().unwrap_or(jwt));
    }

    pub(super) fn add_agent(&self, agent: Arc<Capture>) {
        locked(&self.agents).push(agent);
    }

    /// Everything captured from all agents.
    pub fn seen(&self) -> Result<Vec<Observed>> {
        let agents = locked(&self.agents).clone();
        agents.iter().map(|agent| agent.seen()).collect::<Result<Vec<_>>>().map(|seen| seen.concat())
    }

    /// Fails if one of these texts contains a secret; the error names its origin.
    pub fn check(&self, seen: &[Observed]) -> Result<()> {
        let planted = locked(&self.planted);
        ensure!(!planted.is_empty(), "no secret was planted");
        for Observed { place, text } in seen {
            let text = if place.ends_with("environ") { without_given_token(text) } else { text.clone() };
            let leaked =
                planted.iter().map(String::as_str).find(|secret| text.contains(secret)).or_else(|| token(&text));
            ensure!(leaked.is_none(), "a secret leaked: {leaked:?} is in {place}:\n{text}");
        }
        Ok(())
    }

    /// Records that the leak test ran, or that the test has already failed.
    pub fn mark_checked(&self) {
        self.checked.store(true, Ordering::Relaxed);
    }
}

impl Drop for Leaks {
    fn drop(&mut self) {
        let unchecked = cfg!(test) && !self.checked.load(Ordering::Relaxed) && !locked(&self.agents).is_empty();
        assert!(!unchecked || std::thread::panicking(), "a test with an agent did not run the leak test");
    }
}

/// Prefix of a Vault token in the text. The random suffix of a pod's name can look like such a prefix: Events are named
/// after their pod, with a dot and a number of 16 digits.
fn token(text: &str) -> Option<&'static str> {
    let is_token = |prefix: &str, at: usize| {
        let in_a_name = text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        let rest = text[at + prefix.len()..].bytes();
        !in_a_name || rest.take_while(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)).count() > 16
    };
    TOKENS.into_iter().find(|prefix| text.match_indices(prefix).any(|(at, _)| is_token(prefix, at)))
}

/// Whether a match cannot be a coincidence.
fn is_unmistakable(secret: &str) -> bool {
    let number = |byte: u8| byte.is_ascii_hexdigit() || b"-:.".contains(&byte);
    secret.len() >= if secret.bytes().all(number) { SHORTEST_NUMBER } else { SHORTEST }
}

/// The lines of a secret, and the secret as JSON, base64 and hex.
fn forms(secret: &str) -> BTreeSet<String> {
    let escaped = Value::from(secret).to_string();
    let mut hex = String::new();
    for byte in secret.bytes() {
        let _ = write!(hex, "{byte:02x}");
    }
    let whole = [escaped.trim_matches('"').to_owned(), BASE64_STANDARD_NO_PAD.encode(secret), hex];
    secret.lines().filter(|line| is_unmistakable(line)).map(str::to_owned).chain(whole).collect()
}

fn without_given_token(environ: &str) -> String {
    environ.split('\0').filter(|variable| !variable.starts_with(GIVEN_TOKEN)).collect::<Vec<_>>().join("\n")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn vault_token_is_distinguished_from_event_name() {
        let long = "CAESIJlU02LQZq2kz";
        for leaked in
            [format!("token hvs.{long}"), format!("hvb.{long}"), "\"hvs.short\"".into(), format!("xhvs.{long}")]
        {
            assert!(token(&leaked).is_some(), "{leaked}");
        }
        for name in ["name: demo-dp-68bcfc9b54-njhvs.18ec283243f2b4e7", "pod demo-dp-68bcfc9b54-njhvs. Then"] {
            assert_eq!(token(name), None, "{name}");
        }
    }

    #[test]
    fn secret_is_found_in_every_encoding() {
        let leaks = Leaks::default();
        leaks.plant_data(&json!({"a": ["first line\n\"second\" line"], "short": "x"}));
        leaks.plant_jwt("head.body.signature");
        for text in [
            "so: first line",
            r#"{"message":"first line\n\"second\" line"}"#,
            "Zmlyc3QgbGluZQoic2Vjb25kIiBsaW5l",
            "6669727374206c696e650a227365636f6e6422206c696e65",
            "Bearer head.body.signature",
            "hvs.CAESI",
        ] {
            let leaked = leaks.check(&[Observed::new("the log", "innocent"), Observed::new("a page", text)]);
            assert!(leaked.is_err_and(|error| error.to_string().contains("a page")), "{text}");
        }
        assert!(leaks.check(&[Observed::new("the log", "first, second, x, head.body.")]).is_ok());
        let chance = Leaks::default();
        chance.plant_data(&json!({"a": "15-132", "b": "unmistakable"}));
        assert!(chance.check(&[Observed::new("a UID", "03f07ae6-8d15-132b")]).is_ok());
    }

    #[test]
    #[should_panic(expected = "did not run the leak test")]
    fn agent_test_without_leak_check_panics() {
        Leaks::default().add_agent(Arc::new(Capture::new("keyferry run".into(), None)));
    }

    #[test]
    fn supplied_token_is_allowed_only_in_environment() {
        let leaks = Leaks::default();
        leaks.plant("hvs.given");
        let given = "POD_NAME=a\0VAULT_TOKEN=hvs.given\0";
        assert!(leaks.check(&[Observed::new("run: environ", given)]).is_ok());
        assert!(leaks.check(&[Observed::new("run: log", given)]).is_err());
        assert!(leaks.check(&[Observed::new("run: environ", "OTHER=hvs.given\0")]).is_err());
    }
}
