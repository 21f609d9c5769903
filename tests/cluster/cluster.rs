//! `just cluster-up` and `just cluster-down`: the cluster of the tests, for people. It runs in the background until it is taken
//! down, with the reference scenario set up in its Vault and the shipped images on its node.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::print_stdout, clippy::print_stderr)]

#[path = "../testbed/mod.rs"]
mod testbed;

mod state;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use state::State;
use testbed::cluster::{self, RealCluster};
use testbed::pki;
use testbed::reference_scenario::{self, APPLICATION, AUDIENCE};
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "cargo run --example cluster -- COMMAND

  up              start a Kubernetes cluster of one node, and a Vault that trusts it, in the background
  down            end it; nothing is left
  env             print the environment for kubectl, vault and `just e2e`: eval \"$(... env)\"
  import FILE...  give its node images from docker or OCI archives
  toolbox DIR     write the tests' toolbox image to DIR/toolbox.tar, for a cluster that is there already

Needs root. All of it runs in namespaces of its own and is reached through loopback ports.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["up"] => up(),
        ["down"] => down(),
        ["env"] => environment(),
        ["import", ref files @ ..] if !files.is_empty() => import(files),
        ["toolbox", directory] => toolbox(directory.as_ref()),
        // What `up` starts; not for people.
        ["run"] => run().await,
        ["--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Start ourselves once more, in a session of its own, and tell what it says until it is ready.
fn up() -> Result<()> {
    if let Some(state) = State::running()? {
        println!("a cluster is up already\n");
        print_state(&state);
        return Ok(());
    }
    ensure!(state::process().is_none(), "a cluster is starting already; just cluster-down ends it");
    ensure!(cluster::can_run("cluster-up"), "this machine cannot run a node yet");
    let log = state::directory()?.join("log");
    let output = File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
    // setsid: what a closing terminal sends must not reach it.
    let mut child = Command::new("setsid")
        .arg(std::env::current_exe()?)
        .arg("run")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("failed to start setsid (util-linux)")?;
    let mut follow = File::open(&log)?;
    let mut at = 0;
    loop {
        follow.seek(SeekFrom::Start(at))?;
        let mut text = String::new();
        at += follow.read_to_string(&mut text)? as u64;
        eprint!("{text}");
        if let Some(status) = child.try_wait()? {
            bail!("the cluster did not come up: {status}; its log is {}", log.display());
        }
        if let Some(state) = State::running()? {
            print_state(&state);
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn print_state(state: &State) {
    let program = "cargo run --quiet --example cluster --";
    println!(
        "Kubernetes and Vault are up. In this shell:\n\n  eval \"$({program} env)\"\n\n\
         KUBECONFIG={}\nVAULT_ADDR={} (from here), {} (in pods)\n\n\
         kubectl is {}\n\n\
         Vault holds secret/webapp/config, and lets ServiceAccount secret-privileged-sa of namespace playground log in: role\n\
         webapp at the mounts kubernetes and jwt, audience {AUDIENCE}.\n\
         Its end: just cluster-down",
        state.kubeconfig.display(),
        state.vault_address,
        state.vault_address_in_pods,
        state.kubectl.display(),
    );
}

fn environment() -> Result<()> {
    let state = State::running()?.context("no cluster is up; just cluster-up starts one")?;
    let vault = testbed::binaries::find_or_build("vault")?;
    for program in [&vault, &state.kubectl] {
        println!("export PATH='{}':\"$PATH\"", program.parent().unwrap_or(Path::new("/")).display());
    }
    let token = format!("$(cat '{}')", state.vault_token_file.display());
    for (name, value) in [
        ("KUBECONFIG", state.kubeconfig.display().to_string()),
        ("VAULT_ADDR", state.vault_address.clone()),
        // Not its value: what is printed may be logged.
        ("VAULT_TOKEN", token.clone()),
        // For the tests, which then start no cluster of their own.
        ("KEYFERRY_E2E_CLUSTER", "1".to_owned()),
        ("KEYFERRY_E2E_VAULT_ADDR", state.vault_address.clone()),
        ("KEYFERRY_E2E_VAULT_ADDR_IN_PODS", state.vault_address_in_pods.clone()),
        ("KEYFERRY_E2E_VAULT_TOKEN", token),
        ("KEYFERRY_E2E_API_SERVER", state.api_server_in_pods.clone()),
    ] {
        println!("export {name}=\"{value}\"");
    }
    Ok(())
}

fn import(files: &[&str]) -> Result<()> {
    let state = State::running()?.context("no cluster is up; just cluster-up starts one")?;
    let (program, arguments) = state.import.split_first().context("the state names a command")?;
    for file in files {
        let file = std::fs::canonicalize(file).with_context(|| format!("failed to find {file}"))?;
        cluster::output(Command::new(program).args(arguments).arg(&file))?;
        println!("imported {}", file.display());
    }
    Ok(())
}

fn toolbox(directory: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    let archive = cluster::images::toolbox(work.path(), &testbed::binaries::find_or_build("kubectl")?)?;
    let to = directory.join("toolbox.tar");
    std::fs::copy(archive, &to).with_context(|| format!("failed to write {}", to.display()))?;
    println!("wrote {}", to.display());
    Ok(())
}

/// End it by SIGTERM; what a killed one left is swept.
fn down() -> Result<()> {
    let start = Instant::now();
    let running = state::process();
    let directory =
        State::running().ok().flatten().and_then(|state| Some(state.kubeconfig.ancestors().nth(2)?.to_owned()));
    if let Some(number) = running {
        let process = rustix::process::Pid::from_raw(number.try_into()?).context("a process has a number")?;
        rustix::process::kill_process(process, rustix::process::Signal::TERM).context("failed to end the cluster")?;
        while state::process().is_some() {
            ensure!(start.elapsed() < Duration::from_secs(60), "process {number} still runs after a minute");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    // The watchdog holds the lock until all is taken back, the directory last; the next run may be quicker to get the lock.
    let is_gone = || directory.as_ref().is_some_and(|directory| !directory.exists());
    while !(is_gone() || cluster::sweep()?) {
        ensure!(
            start.elapsed() < Duration::from_secs(20),
            "its watchdog is not done after 20 s; the next run takes back what is left"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    state::remove()?;
    match running {
        Some(_) => println!("down after {:.1} s; nothing is left", start.elapsed().as_secs_f32()),
        None => println!("no cluster was up"),
    }
    Ok(())
}

/// The cluster itself, until SIGTERM. While it starts, a signal ends us as it ends any process, and the watchdog takes back
/// what is there already: a build or a wait for a lock would not look for signals.
async fn run() -> Result<()> {
    state::write_process()?;
    let cluster = RealCluster::start().await?;
    set_up(&cluster).await?;
    testbed::binaries::print_uncaptured("the node is Ready; its images are next");
    cluster.with_images().await?;
    let (mut end, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = state::directory()?.join("vault-token");
    pki::write(&token, cluster.vault.root_token())?;
    let state = State {
        kubeconfig: cluster.kube.admin_kubeconfig().to_owned(),
        kubectl: cluster.kubectl_binary().to_owned(),
        vault_address: cluster.vault.address().to_owned(),
        vault_address_in_pods: cluster.vault.address_inside().to_owned(),
        vault_token_file: token,
        api_server_in_pods: cluster.api_server_inside(),
        import: cluster.import_command().await?,
    };
    state.write()?;
    tokio::select! {
        _ = end.recv() => {}
        _ = interrupt.recv() => {}
    }
    state::remove()?;
    drop(cluster);
    Ok(())
}

/// The reference scenario in Vault.
async fn set_up(cluster: &RealCluster) -> Result<()> {
    let (vault, admin) = (cluster.vault.admin()?, cluster.admin().await?);
    let (api, ca) = (cluster.api_server_inside(), cluster.kube.ca_pem());
    reference_scenario::trust(&vault, &admin, "kubernetes", &api, ca).await?;
    reference_scenario::trust_keys(&vault, &admin, "jwt", &api, ca).await?;
    vault.put_kv("secret", "webapp/config", &reference_scenario::secret_data()).await?;
    let policy = "path \"secret/data/webapp/config\" { capabilities = [\"read\"] }";
    vault.policy(APPLICATION, policy).await?;
    let role = json!({
        "audience": AUDIENCE,
        "bound_service_account_names": ["secret-privileged-sa"],
        "bound_service_account_namespaces": ["playground"],
        "token_policies": [APPLICATION],
        "token_ttl": "20m",
    });
    vault.role("kubernetes", APPLICATION, role).await?;
    let role = json!({
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": [AUDIENCE],
        "bound_subject": "system:serviceaccount:playground:secret-privileged-sa",
        "token_policies": [APPLICATION],
        "token_ttl": "20m",
    });
    vault.role("jwt", APPLICATION, role).await
}
