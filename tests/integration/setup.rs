//! The setup of a test: a case on servers, its agents, and helpers for checks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::testbed::binaries::Binaries;
use crate::testbed::reference_scenario::SECRET;
use crate::testbed::vault::Options;
use crate::testbed::{Agent, Case, Servers, free_port, skipped};

/// Timeout for everything that usually takes a moment.
pub const SOON: Duration = Duration::from_secs(20);

/// A short refresh interval; the default is one minute.
pub const QUICK: &[(&str, &str)] = &[("KEYFERRY_REFRESH", "1s")];

/// A case on its servers. A test that runs with it ends with the leak test.
pub struct Setup<'a> {
    pub servers: &'a Servers,
    pub case: Case,
}

impl Setup<'_> {
    /// Runs a test on the shared servers. `word` is part of all names of the case.
    pub async fn shared(word: &str, test: impl AsyncFnOnce(&Setup<'_>) -> Result<()>) -> Result<()> {
        let Some(servers) = Servers::shared(&test_name(word)).await else { return Ok(()) };
        Setup::run(servers, word, test).await
    }

    /// Runs a test on its own servers, which it can stop, seal or break, or whose requests it counts.
    pub async fn own(word: &str, test: impl AsyncFnOnce(&Setup<'_>) -> Result<()>) -> Result<()> {
        let Some(servers) = Servers::own(&test_name(word)).await else { return Ok(()) };
        Setup::run(&servers, word, test).await
    }

    /// As `own`, with a Vault that serves HTTPS.
    pub async fn own_tls(word: &str, test: impl AsyncFnOnce(&Setup<'_>) -> Result<()>) -> Result<()> {
        let name = test_name(word);
        if skipped(&name) {
            return Ok(());
        }
        let servers =
            Servers::start_with(&Binaries::find_or_build()?, Options { tls: true, ..Options::default() }).await?;
        Setup::run(&servers, word, test).await
    }

    async fn run(servers: &Servers, word: &str, test: impl AsyncFnOnce(&Setup<'_>) -> Result<()>) -> Result<()> {
        let setup = Setup { servers, case: Case::new(servers, word).await };
        // The test owns its agents, so they have exited when it returns.
        test(&setup).await.inspect_err(|_| setup.case.leaks.mark_checked())?;
        setup.case.check_for_leaks().await
    }

    pub fn agent(&self, arguments: &[&str], changes: &[(&str, &str)]) -> Result<Agent> {
        self.agent_with_wrapper(&[], arguments, changes)
    }

    /// Starts an agent through the command `wrapper`. `keyferry run` listens on a free port, for the leak test, unless `changes`
    /// sets `KEYFERRY_LISTEN`.
    pub fn agent_with_wrapper(&self, wrapper: &[&str], arguments: &[&str], changes: &[(&str, &str)]) -> Result<Agent> {
        let mut changes = changes.to_vec();
        let listen = format!("127.0.0.1:{}", free_port()?);
        if arguments.first() == Some(&"run") && changes.iter().all(|(name, _)| *name != "KEYFERRY_LISTEN") {
            changes.push(("KEYFERRY_LISTEN", &listen));
        }
        Agent::with_wrapper(wrapper, &self.servers.watchdog, &self.case, arguments, &changes)
    }

    /// Starts an agent with this configuration instead of the variables for sources and mirror.
    pub fn agent_with(&self, arguments: &[&str], document: &str) -> Result<Agent> {
        let changes = [("KEYFERRY_SECRETS", ""), ("KEYFERRY_MIRROR", ""), ("KEYFERRY_CONFIG_INLINE", document)];
        self.agent(arguments, &changes)
    }

    /// As `agent_with` for `run`, with more variables. Returns the address of its listener, too.
    pub fn agent_with_listener(&self, document: &str, more: &[(&str, &str)]) -> Result<(Agent, String)> {
        let listen = format!("127.0.0.1:{}", free_port()?);
        let own = [
            ("KEYFERRY_SECRETS", ""),
            ("KEYFERRY_MIRROR", ""),
            ("KEYFERRY_CONFIG_INLINE", document),
            ("KEYFERRY_LISTEN", &listen),
        ];
        Ok((self.agent(&["run"], &[&own, more].concat())?, listen))
    }

    pub async fn file_is(&self, agent: &mut Agent, file: &str, wanted: &str) -> Result<()> {
        let what = format!("file {file} has the expected content");
        agent
            .wait_for(&what, SOON, || {
                let found = self.case.read(file).is_some_and(|text| text == wanted).then_some(());
                async move { found }
            })
            .await
    }

    /// The mirrored Secret's data, decoded.
    pub async fn secret(&self) -> Result<Option<BTreeMap<String, String>>> {
        let secret = self.case.cluster.secret(&self.case.namespace, SECRET).await?;
        let text =
            |(key, bytes): (String, k8s_openapi::ByteString)| (key, String::from_utf8_lossy(&bytes.0).into_owned());
        Ok(secret.map(|secret| secret.data.unwrap_or_default().into_iter().map(text).collect()))
    }

    pub async fn secret_is(&self, agent: &mut Agent, key: &str, wanted: &str) -> Result<()> {
        let what = format!("key {key} of the Secret has the expected content");
        agent
            .wait_for(&what, SOON, || async {
                let data = self.secret().await.ok()??;
                (data.get(key)? == wanted).then_some(())
            })
            .await
    }

    /// Status and reason of one of keyferry's conditions.
    pub async fn condition(&self, kind: &str) -> Option<(String, String)> {
        let conditions = self.case.cluster.conditions(&self.case.namespace, &self.case.pod_name).await.ok()?;
        let found = conditions.into_iter().find(|condition| condition.type_ == format!("keyferry.dev/{kind}"))?;
        Some((found.status, found.reason.unwrap_or_default()))
    }

    /// Message of one of keyferry's conditions.
    pub async fn message(&self, kind: &str) -> Option<String> {
        let conditions = self.case.cluster.conditions(&self.case.namespace, &self.case.pod_name).await.ok()?;
        conditions.into_iter().find(|condition| condition.type_ == format!("keyferry.dev/{kind}"))?.message
    }

    /// Reasons and messages of the Events of this type (`Normal`, `Warning`) in the namespace.
    pub async fn events(&self, kind: &str) -> Result<Vec<(String, String)>> {
        let events = self.case.cluster.events(&self.case.namespace).await?;
        let of_kind = events.into_iter().filter(|event| event.type_.as_deref() == Some(kind));
        Ok(of_kind.map(|event| (event.reason.unwrap_or_default(), event.message.unwrap_or_default())).collect())
    }

    /// Writes the configuration file of an agent that was started by `agent_with_file`.
    pub fn write_config(&self, document: &str) -> Result<String> {
        let file = self.case.jwt_file.with_file_name("config").join("keyferry.yaml");
        std::fs::create_dir_all(file.parent().context("a parent")?)?;
        // Rename, as editors do, so that readers see the old or the new content.
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, document)?;
        std::fs::rename(&fresh, &file)?;
        Ok(file.display().to_string())
    }

    /// Starts an agent with a configuration file, which `write_config` replaces.
    pub fn agent_with_file(&self, arguments: &[&str], document: &str) -> Result<Agent> {
        let file = self.write_config(document)?;
        let changes = [("KEYFERRY_SECRETS", ""), ("KEYFERRY_MIRROR", ""), ("KEYFERRY_CONFIG", file.as_str())];
        self.agent(arguments, &changes)
    }

    pub async fn condition_is(&self, agent: &mut Agent, kind: &str, status: &str, reason: &str) -> Result<()> {
        let what = format!("condition {kind} is {status} ({reason})");
        let wanted = (status.to_owned(), reason.to_owned());
        agent.wait_for(&what, SOON, || async { (self.condition(kind).await? == wanted).then_some(()) }).await
    }
}

/// Environment of an agent that is configured by `document` alone, without the variables for the reference scenario.
pub fn configured_by(document: &str) -> [(&str, &str); 6] {
    [
        ("KEYFERRY_SECRETS", ""),
        ("KEYFERRY_MIRROR", ""),
        ("KEYFERRY_ROLE", ""),
        ("KEYFERRY_AUTH_MOUNT", ""),
        ("KEYFERRY_JWT_FILE", ""),
        ("KEYFERRY_CONFIG_INLINE", document),
    ]
}

/// Environment of an agent with a supplied token.
pub fn supplied_token<'a>(address: &'a str, token: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("VAULT_ADDR", address),
        ("VAULT_TOKEN", token),
        ("KEYFERRY_ROLE", ""),
        ("KEYFERRY_AUTH_MOUNT", ""),
        ("KEYFERRY_JWT_FILE", ""),
    ]
}

/// Name of the test: the name of its thread, or `word` if the harness runs all tests on one thread.
fn test_name(word: &str) -> String {
    std::thread::current().name().filter(|name| name.contains("::")).unwrap_or(word).to_owned()
}

pub fn login(username: &str, password: &str) -> Value {
    json!({"username": username, "password": password})
}
