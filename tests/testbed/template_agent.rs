//! The Vault Agent and OpenBao's agent, which render templates to files, for comparison.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::binaries::tail;
use super::watchdog::{Process, Watchdog};
use super::{free_port, pki, wait_until};

/// Timeout for all templates of one agent.
const DEADLINE: Duration = Duration::from_secs(60);

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
        let (work, mut process) = self.start(templates, missing_error, true)?;
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

    /// Lets one agent try templates that it should refuse. Returns the messages in its log, by name. Fails if it renders one.
    pub async fn refuse(
        &self,
        templates: &BTreeMap<String, &str>,
        missing_error: bool,
    ) -> Result<BTreeMap<String, String>> {
        let (work, mut process) = self.start(templates, missing_error, false)?;
        let log = work.join("log");
        let messages = || {
            let text =
                std::fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
            let message = |name: &String| {
                let start = format!("{}: ", work.join(name).with_extension("tmpl").display());
                let line = text.lines().find_map(|line| line.split_once(&start))?;
                Some((name.clone(), line.1.to_owned()))
            };
            templates.keys().filter_map(message).collect::<BTreeMap<_, _>>()
        };
        let is_written = |name: &&String| work.join(name).exists();
        let all = wait_until("the agent has tried all templates", DEADLINE, || async {
            let done = templates.keys().all(|name| is_written(&name) || messages().contains_key(name));
            done.then_some(())
        });
        let all = all.await.with_context(|| format!("the log of the agent ends with:\n{}", tail(&log, 20)));
        process.kill().await?;
        all?;
        let written: Vec<&String> = templates.keys().filter(is_written).collect();
        ensure!(written.is_empty(), "the agent rendered {written:?}");
        Ok(messages())
    }

    /// Starts an agent in a new directory, which the watchdog removes.
    fn start(&self, templates: &BTreeMap<String, &str>, missing_error: bool, exit: bool) -> Result<(PathBuf, Process)> {
        let work = self.watchdog.directory.join(format!("agent-{}", free_port()?));
        std::fs::create_dir_all(&work)?;
        pki::write(&work.join("token"), self.token)?;
        let mut stanzas = Vec::new();
        for (name, text) in templates {
            let source = work.join(name).with_extension("tmpl");
            pki::write(&source, text)?;
            stanzas.push(json!({
                "source": source,
                "destination": work.join(name),
                "error_on_missing_key": missing_error,
                // Otherwise one error stops all templates of the agent.
                "error_fatal": exit,
            }));
        }
        // <https://developer.hashicorp.com/vault/docs/agent-and-proxy/agent>
        let config = json!({
            "vault": {"address": self.address, "retry": {"num_retries": 2}},
            "auto_auth": {"method": [{"type": "token_file", "config": {"token_file_path": work.join("token")}}]},
            "exit_after_auth": exit,
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
