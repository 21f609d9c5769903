//! The steps of the demo. Each shows a result and fails if it is not as expected.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Secret;
use reqwest::Method;
use serde_json::{Value, json};

use super::screen::{Screen, seconds};
use super::testbed::agent::{self, Agent};
use super::testbed::binaries::Binaries;
use super::testbed::kube::{Cluster, client_from, status_of};
use super::testbed::reference_scenario::{APPLICATION, Case, SECRET};
use super::testbed::{Servers, wait_until};

/// Timeout of a step, much longer than any step needs.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Refresh interval of the agent in the demo; the default is one minute.
const REFRESH: &str = "2s";
const NEW_PASSWORD: &str = "Schwertfisch";

pub(super) fn find_servers(screen: &mut Screen) -> Result<Binaries> {
    screen.step("Find Vault, etcd and kube-apiserver, or build them once");
    let binaries = Binaries::find_or_build()?;
    for binary in [&binaries.vault, &binaries.etcd, &binaries.kube_apiserver] {
        screen.show(&binary.display().to_string());
    }
    Ok(binaries)
}

/// Builds the agent before the servers start, so that the measured start time of the agent includes no build.
pub(super) fn build_agent(screen: &mut Screen) -> Result<()> {
    screen.step("Build the agent");
    screen.explain("with Cargo; the first build takes one or two minutes");
    screen.show(&agent::binary()?.display().to_string());
    Ok(())
}

pub(super) async fn start_servers(screen: &mut Screen, binaries: &Binaries) -> Result<Servers> {
    screen.step("Start the servers");
    let since = Instant::now();
    let servers = Servers::start_from(binaries).await?;
    let health = servers.vault.admin()?.get("sys/health").await?;
    let version = servers.kube.client().await?.apiserver_version().await?;
    screen.pass(&format!("Vault {} at {}", health["version"].as_str().unwrap_or("?"), servers.vault.address()));
    screen.pass(&format!("Kubernetes {} at {}", version.git_version, servers.kube.url()));
    screen.explain(&format!("both ready after {}", seconds(since.elapsed())));
    Ok(servers)
}

/// The reference scenario and its agent.
pub(super) struct Demo<'a> {
    servers: &'a Servers,
    case: Case,
    agent: Option<Agent>,
    accessor: String,
}

impl<'a> Demo<'a> {
    pub(super) async fn seed(screen: &mut Screen, servers: &'a Servers) -> Result<Self> {
        screen.step("Set up the reference scenario");
        let case = Case::reference(servers).await?;
        screen
            .pass("Vault: secret/webapp/config contains username and password; policy webapp allows only reads of it");
        screen.pass(&format!(
            "Vault: Pods of ServiceAccount {}/{} can log in, with a token whose audience is Vault",
            case.namespace, case.account
        ));
        screen.pass(&format!("Kubernetes: Pod {} in namespace {}", case.pod_name, case.namespace));
        screen
            .pass(&format!("Kubernetes: its permissions are create and patch on Secret {SECRET}, and status reports"));
        Ok(Self { servers, case, agent: None, accessor: String::new() })
    }

    fn agent(&mut self) -> Result<&mut Agent> {
        self.agent.as_mut().context("the agent runs")
    }

    pub(super) async fn start_agent(&mut self, screen: &mut Screen) -> Result<()> {
        screen.step("Start the agent, as the Pod's init container would");
        screen.explain("with this environment only:");
        let changes = [("KEYFERRY_REFRESH", REFRESH)];
        let mut shown = String::new();
        for (name, value) in self.case.environment().iter().map(|(n, v)| (n.as_str(), v.as_str())).chain(changes) {
            let _ = writeln!(shown, "{name}={value}");
        }
        screen.show(&shown);
        let since = Instant::now();
        let agent = self.agent.insert(Agent::for_case(&self.servers.watchdog, &self.case, &["run"], &changes)?);
        let case = &self.case;
        agent
            .wait_for("both files are published", TIMEOUT, || async {
                case.read("username")?;
                case.read("password")
            })
            .await?;
        screen.pass(&format!("logged in, read and published after {}", seconds(since.elapsed())));
        let accessors = case.admin.accessors_of(&case.auth_mount).await?;
        ensure!(accessors.len() == 1, "expected one login, found {}", accessors.len());
        self.accessor.clone_from(&accessors[0]);
        screen.pass("Vault has recorded one login");
        Ok(())
    }

    pub(super) fn show_files(&self, screen: &mut Screen) -> Result<()> {
        screen.step("The files, as the application sees them");
        screen.explain(&self.case.directory.display().to_string());
        screen.show(&agent::tree(&self.case.directory));
        self.expect_file("username", "Nutzername", screen)?;
        self.expect_file("password", "Losungwort", screen)
    }

    fn expect_file(&self, name: &str, expected: &str, screen: &Screen) -> Result<()> {
        let content = self.case.read(name).with_context(|| format!("{name} is missing"))?;
        ensure!(content == expected, "{name} contains {content:?}, Vault contains {expected:?}");
        screen.pass(&format!("{name} contains {content}"));
        Ok(())
    }

    pub(super) async fn show_secret(&mut self, screen: &mut Screen) -> Result<()> {
        screen.step(&format!("The Secret {SECRET}, for workloads that read Secrets"));
        let (cluster, namespace) = (self.case.cluster.clone(), self.case.namespace.clone());
        let secret = self
            .agent()?
            .wait_for("the Secret exists", TIMEOUT, || async { cluster.secret(&namespace, SECRET).await.ok()? })
            .await?;
        screen.explain(&format!("type {}", secret.type_.as_deref().unwrap_or("?")));
        let data = secret.data.clone().unwrap_or_default();
        let rows: Vec<Vec<String>> =
            data.iter().map(|(key, value)| vec![key.clone(), String::from_utf8_lossy(&value.0).into_owned()]).collect();
        screen.table(&["KEY", "DECODED"], &rows);
        ensure!(secret.type_.as_deref() == Some("Opaque"), "its type is not Opaque");
        let keys: Vec<&String> = data.keys().collect();
        ensure!(keys == ["password", "username"], "its keys are {keys:?}");
        ensure!(value(&secret, "username").as_deref() == Some("Nutzername"), "username differs from Vault's");
        ensure!(value(&secret, "password").as_deref() == Some("Losungwort"), "password differs from Vault's");
        screen.pass("same data as the files");
        Ok(())
    }

    pub(super) async fn show_conditions(&mut self, screen: &mut Screen) -> Result<()> {
        screen.step("The Pod's conditions");
        let (cluster, namespace, pod) =
            (self.case.cluster.clone(), self.case.namespace.clone(), self.case.pod_name.clone());
        let expected = ["keyferry.dev/SecretsReady", "keyferry.dev/SecretsFresh", "keyferry.dev/Mirrored"];
        let look = || async {
            let conditions = cluster.conditions(&namespace, &pod).await.ok()?;
            let holds = |kind: &&str| conditions.iter().any(|c| c.type_ == **kind && c.status == "True");
            expected.iter().all(holds).then_some(conditions)
        };
        let agent = self.agent()?;
        let conditions = match agent.wait_for("all three conditions are True", TIMEOUT, look).await {
            Ok(conditions) => conditions,
            Err(error) => {
                let seen = cluster.conditions(&namespace, &pod).await?;
                return Err(error.context(format!("the Pod has {seen:?}")));
            }
        };
        let text = |text: Option<String>| text.unwrap_or_default();
        let rows: Vec<Vec<String>> =
            conditions.into_iter().map(|c| vec![c.type_, c.status, text(c.reason), text(c.message)]).collect();
        screen.table(&["TYPE", "STATUS", "REASON", "MESSAGE"], &rows);
        screen.pass("ready, fresh and mirrored; SecretsReady is a readiness gate of this Pod");
        Ok(())
    }

    pub(super) async fn change_the_password(&mut self, screen: &mut Screen) -> Result<()> {
        screen.step("Change the password in Vault");
        screen.explain(&format!("the agent reads every {REFRESH} in this demo; the default is one minute"));
        let before = std::fs::read_link(self.case.directory.join("..data"))?;
        let version = self.case.put(&json!({"username": "Nutzername", "password": NEW_PASSWORD})).await?;
        let changed = Instant::now();
        screen.explain(&format!("Vault has version {version}"));
        let case = &self.case;
        let agent = self.agent.as_mut().context("the agent runs")?;
        let file = agent.wait_for("the file has the new password", TIMEOUT, || async {
            (case.read("password")? == NEW_PASSWORD).then(|| changed.elapsed())
        });
        let secret = wait_until("the Secret has the new password", TIMEOUT, || async {
            let secret = case.cluster.secret(&case.namespace, SECRET).await.ok()??;
            (value(&secret, "password").as_deref() == Some(NEW_PASSWORD)).then(|| changed.elapsed())
        });
        let (file, secret) = tokio::join!(file, secret);
        let (file, secret) = (file?, secret.map_err(|error| anyhow!("{error:#}\n{}", agent.report()))?);
        screen.pass(&format!("in the file after {}", seconds(file)));
        screen.pass(&format!("in the Secret after {}", seconds(secret)));
        let after = std::fs::read_link(case.directory.join("..data"))?;
        ensure!(before != after, "..data still points to {}", before.display());
        screen.pass(&format!("one rename: ..data pointed to {}, now to {}", before.display(), after.display()));
        let logins = case.admin.accessors_of(&case.auth_mount).await?;
        ensure!(logins == [self.accessor.as_str()], "the agent has logged in again");
        screen.pass("no second login");
        Ok(())
    }

    pub(super) async fn try_other_paths_in_vault(&self, screen: &mut Screen) -> Result<()> {
        screen.step("Requests that Vault denies to the agent's token");
        let case = &self.case;
        let paths = ["secret/data/webapp/config", "secret/data/other/config", "sys/policies/acl/webapp"];
        let body = json!({"accessor": self.accessor, "paths": paths});
        let answer = case.admin.ok(Method::POST, "sys/capabilities-accessor", body).await?;
        let capabilities = |path: &str| answer["data"][path].as_array().cloned().unwrap_or_default();
        let words = |path: &str| capabilities(path).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        let rows: Vec<Vec<String>> = paths.iter().map(|path| vec![(*path).to_owned(), words(path)]).collect();
        screen.table(&["PATH", "CAPABILITIES"], &rows);
        ensure!(capabilities(paths[0]) == ["read"], "the token must have only the capability read on its secret");
        ensure!(
            capabilities(paths[1]) == ["deny"] && capabilities(paths[2]) == ["deny"],
            "the token has capabilities on other paths"
        );
        case.admin.put_kv("secret", "other/config", &json!({"password": "fremd"})).await?;
        let token = case.login(self.servers).await?;
        let pod = self.servers.vault.client(&token)?;
        let (status, _) = pod.request(Method::GET, paths[1], Value::Null).await?;
        pod.ok(Method::PUT, "auth/token/revoke-self", Value::Null).await?;
        ensure!(status == 403, "a read of {} answered {status}", paths[1]);
        screen.pass(&format!("a read of {} with a token of the same role: {status}", paths[1]));
        Ok(())
    }

    pub(super) async fn try_other_objects_in_kubernetes(&self, screen: &mut Screen) -> Result<()> {
        screen.step("Requests that Kubernetes denies to the Pod's ServiceAccount");
        let client = client_from(&std::fs::read_to_string(&self.case.kubeconfig)?).await?;
        let namespace = &self.case.namespace;
        let pod = Cluster { client };
        let read = pod.secret(namespace, SECRET).await.err().context("the ServiceAccount can read the Secret")?;
        forbidden(&read)?;
        screen.pass(&format!("get Secret {SECRET}: Forbidden"));
        let other = "{apiVersion: v1, kind: Secret, metadata: {name: other}}";
        let written = pod.apply(namespace, other).await.err().context("the ServiceAccount can write another Secret")?;
        forbidden(&written)?;
        screen.pass("apply Secret other: Forbidden");
        Ok(())
    }

    pub(super) fn print_commands_to_inspect(&self, screen: &mut Screen) {
        screen.step("Inspect the running demo; Ctrl-C stops it");
        let case = &self.case;
        screen.show(&format!(
            "export VAULT_ADDR={} VAULT_TOKEN={}\n\
             export KUBECONFIG={}\n\
             kubectl -n {} get secret {SECRET} -o yaml\n\
             kubectl -n {} get pod {} -o jsonpath='{{.status.conditions}}'\n\
             kubectl -n {} get events\n\
             ls -lA {}\n\
             vault kv put {} username=Nutzername password=anders   # updates the file within {REFRESH}",
            self.servers.vault.address(),
            self.servers.vault.root_token(),
            self.servers.kube.admin_kubeconfig().display(),
            case.namespace,
            case.namespace,
            case.pod_name,
            case.namespace,
            case.directory.display(),
            case.secret_path(),
        ));
    }

    pub(super) async fn stop_agent(&mut self, screen: &mut Screen) -> Result<()> {
        screen.step(&format!("Stop the Pod of {APPLICATION}: SIGTERM, as from the kubelet"));
        ensure!(self.case.admin.token(&self.accessor).await?.is_some(), "the token was revoked too early");
        let since = Instant::now();
        let status = self.agent()?.terminate(TIMEOUT).await?;
        let took = since.elapsed();
        ensure!(status.success(), "the agent exited with {status}\n{}", self.agent()?.report());
        screen.pass(&format!("exited with code 0 after {}", seconds(took)));
        ensure!(self.case.admin.token(&self.accessor).await?.is_none(), "the token is not revoked");
        screen.pass("its token is revoked: Vault returns \"invalid accessor\"");
        self.case.check_for_leaks().await?;
        screen.pass("no secret value or token in its log, its environment, the conditions, the Events or the metadata");
        Ok(())
    }
}

fn value(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

fn forbidden(error: &anyhow::Error) -> Result<()> {
    let status = error.chain().filter_map(|cause| cause.downcast_ref()).find_map(status_of);
    ensure!(status == Some(403), "expected Forbidden: {error:#}");
    Ok(())
}
