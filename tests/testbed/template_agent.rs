//! The Vault Agent and OpenBao's agent, which render templates to files, for comparison.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use serde_json::json;

use super::binaries::tail;
use super::watchdog::{Process, Watchdog};
use super::{free_port, pki};

/// Timeout for all templates of one agent.
const DEADLINE: Duration = Duration::from_secs(60);

/// Number of agents that run at the same time.
const AT_ONCE: usize = 4;

/// A program `vault` or `bao`, and what its agent needs.
pub struct TemplateAgent<'a> {
    pub program: &'a Path,
    /// Address of the Vault server.
    pub address: &'a str,
    pub token: &'a str,
    /// The whole environment of the agent.
    pub env: &'a [(&'a str, &'a str)],
    pub watchdog: &'a Watchdog,
}

impl TemplateAgent<'_> {
    /// Renders all templates (by name, which is a file name) with one agent, which exits after that.
    pub async fn render(
        &self,
        templates: &BTreeMap<String, &str>,
        missing_error: bool,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        let (work, mut process) = self.start(templates, missing_error)?;
        let status = process.wait(DEADLINE).await;
        let log = tail(&work.join("log"), 20);
        ensure!(
            status.is_some_and(|status| status.success()),
            "the agent ended with {status:?}; its log ends with:\n{log}"
        );
        let read = |name: &String| {
            let file = work.join(name);
            Ok((name.clone(), std::fs::read(&file).with_context(|| format!("no file {}", file.display()))?))
        };
        templates.keys().map(read).collect()
    }

    /// Checks that the agent refuses each of these templates, with one agent for each: an error in one template stops all.
    /// (With `error_fatal: false` it can crash instead: `Runner.runTemplate` reads the dependencies of a failed template.)
    pub async fn refuse(&self, templates: &BTreeMap<String, &str>, missing_error: bool) -> Result<()> {
        let all: Vec<_> = templates.iter().collect();
        for some in all.chunks(AT_ONCE) {
            let each = some.iter().map(|(name, text)| self.refuse_one(name, text, missing_error));
            join_all(each).await.into_iter().collect::<Result<Vec<()>>>()?;
        }
        Ok(())
    }

    async fn refuse_one(&self, name: &str, text: &str, missing_error: bool) -> Result<()> {
        let (work, mut process) = self.start(&BTreeMap::from([(name.to_owned(), text)]), missing_error)?;
        let status = process.wait(DEADLINE).await;
        let log = std::fs::read(work.join("log"))?;
        let message = format!("{}: ", source(&work, name).display());
        ensure!(
            status.is_some_and(|status| !status.success()) && String::from_utf8_lossy(&log).contains(&message),
            "the agent did not refuse {name} ({text}), it ended with {status:?}; its log ends with:\n{}",
            tail(&work.join("log"), 20)
        );
        Ok(())
    }

    /// Starts an agent in a new directory, which the watchdog removes.
    fn start(&self, templates: &BTreeMap<String, &str>, missing_error: bool) -> Result<(PathBuf, Process)> {
        let work = self.watchdog.directory.join(format!("agent-{}", free_port()?));
        std::fs::create_dir_all(&work)?;
        pki::write(&work.join("token"), self.token)?;
        let mut stanzas = Vec::new();
        for (name, text) in templates {
            let source = source(&work, name);
            pki::write(&source, text)?;
            stanzas.push(json!({
                "source": source,
                "destination": work.join(name),
                "error_on_missing_key": missing_error,
            }));
        }
        // <https://developer.hashicorp.com/vault/docs/agent-and-proxy/agent>
        let config = json!({
            "vault": {"address": self.address, "retry": {"num_retries": 2}},
            "auto_auth": {"method": [{"type": "token_file", "config": {"token_file_path": work.join("token")}}]},
            "exit_after_auth": true,
            "template_config": {"exit_on_retry_failure": true},
            "template": stanzas,
        });
        pki::write(&work.join("agent.json"), &config.to_string())?;
        let log = std::fs::File::create(work.join("log"))?;
        let mut command = self.watchdog.command(self.program);
        command
            .args(["agent", "-config"])
            .arg(work.join("agent.json"))
            .env_clear()
            .envs(self.env.iter().copied())
            .env("HOME", &work)
            .current_dir(&work)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = self.watchdog.spawn(&mut command)?;
        Ok((work, process))
    }
}

/// Path of a template. The agent puts it before the message of an error.
fn source(work: &Path, name: &str) -> PathBuf {
    work.join(name).with_extension("tmpl")
}
