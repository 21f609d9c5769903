//! One case, its agent, and what tests ask of both.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::testbed::article::SECRET;
use crate::testbed::{Agent, Case, Servers};

/// For everything that should take a moment.
pub const SOON: Duration = Duration::from_secs(20);

/// Quick rounds for tests; users have a minute.
pub const QUICK: &[(&str, &str)] = &[("KEYFERRY_REFRESH", "1s")];

/// A case on its servers.
pub struct Stage<'a> {
    pub servers: &'a Servers,
    pub case: Case,
}

impl<'a> Stage<'a> {
    pub async fn new(servers: &'a Servers, name: &str) -> Self {
        Self { servers, case: Case::new(servers, name).await }
    }

    pub fn agent(&self, arguments: &[&str], changes: &[(&str, &str)]) -> Result<Agent> {
        Agent::for_case(&self.servers.guardian, &self.case, arguments, changes)
    }

    /// An agent with this document instead of the article's variables (server and credentials stay).
    pub fn agent_with(&self, arguments: &[&str], document: &str) -> Result<Agent> {
        let changes = [("KEYFERRY_SECRETS", ""), ("KEYFERRY_MIRROR", ""), ("KEYFERRY_CONFIG_INLINE", document)];
        self.agent(arguments, &changes)
    }

    pub async fn file_is(&self, agent: &mut Agent, file: &str, wanted: &str) -> Result<()> {
        let what = format!("file {file} is as wanted");
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
        let what = format!("key {key} of the Secret is as wanted");
        agent
            .wait_for(&what, SOON, || async {
                let data = self.secret().await.ok()??;
                (data.get(key)? == wanted).then_some(())
            })
            .await
    }

    /// Status and reason of one of our conditions.
    pub async fn condition(&self, kind: &str) -> Option<(String, String)> {
        let conditions = self.case.cluster.conditions(&self.case.namespace, &self.case.pod_name).await.ok()?;
        let found = conditions.into_iter().find(|condition| condition.type_ == format!("keyferry.dev/{kind}"))?;
        Some((found.status, found.reason.unwrap_or_default()))
    }

    pub async fn condition_is(&self, agent: &mut Agent, kind: &str, status: &str, reason: &str) -> Result<()> {
        let what = format!("condition {kind} is {status} ({reason})");
        let wanted = (status.to_owned(), reason.to_owned());
        agent.wait_for(&what, SOON, || async { (self.condition(kind).await? == wanted).then_some(()) }).await
    }

    /// The leak test: nothing that the agent said anywhere holds one of the secrets, or a token.
    pub async fn nothing_leaked(&self, agent: &Agent, secrets: &[&str]) -> Result<()> {
        let mut said = agent.log();
        said.extend(agent.stdout());
        for condition in self.case.cluster.conditions(&self.case.namespace, &self.case.pod_name).await? {
            said.push(format!("{condition:?}"));
        }
        for event in self.case.cluster.events(&self.case.namespace).await? {
            said.push(format!("{event:?}"));
        }
        if let Some(secret) = self.case.cluster.secret(&self.case.namespace, SECRET).await? {
            said.push(format!("{:?}", secret.metadata));
        }
        if let Ok(environ) = std::fs::read(format!("/proc/{}/environ", agent.id())) {
            said.push(String::from_utf8_lossy(&environ).into_owned());
        }
        let jwt = std::fs::read_to_string(&self.case.jwt_file).context("the Pod's token")?;
        let signature = jwt.rsplit('.').next().unwrap_or(&jwt).to_owned();
        let planted = secrets.iter().copied().chain(["Losungwort", "Nutzername", "hvs.", signature.as_str()]);
        for secret in planted {
            let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, secret);
            for line in &said {
                ensure!(!line.contains(secret) && !line.contains(base64.as_str()), "a secret leaked: {line}");
            }
        }
        Ok(())
    }
}

pub fn login(username: &str, password: &str) -> Value {
    json!({"username": username, "password": password})
}
