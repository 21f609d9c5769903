//! `just cluster-up` and `just cluster-down`: the test cluster for interactive use. It runs in the background until it is
//! stopped, with the reference scenario in its Vault and the shipped images on its node.
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

  up              start a Kubernetes cluster of one node and a Vault in the background
  down            stop both and remove everything
  env             print the environment for kubectl, vault and `just e2e`: eval \"$(... env)\"
  import FILE...  import images from docker or OCI archives into the node
  toolbox DIR     write the toolbox image of the tests to DIR/toolbox.tar, for an existing cluster

Requires root. The cluster runs in separate namespaces and is reachable through loopback ports.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["up"] => up(),
        ["down"] => down(),
        ["env"] => environment(),
        ["import", ref files @ ..] if !files.is_empty() => import(files),
        ["toolbox", directory] => toolbox(directory.as_ref()),
        // Started by `up`; not for interactive use.
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

/// Starts this program again in its own session, and prints its output until the cluster is ready.
fn up() -> Result<()> {
    if let Some(state) = State::running()? {
        println!("the cluster is already running\n");
        print_state(&state);
        return Ok(());
    }
    ensure!(state::process().is_none(), "a cluster is already starting; just cluster-down stops it");
    ensure!(cluster::can_run("cluster-up"), "this machine does not meet the requirements of a node");
    let log = state::directory()?.join("log");
    let output = File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
    // setsid: signals of a closing terminal must not reach the cluster.
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
            bail!("the cluster did not start: {status}; see its log: {}", log.display());
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
        "Kubernetes and Vault are running. To use them in this shell:\n\n  eval \"$({program} env)\"\n\n\
         KUBECONFIG={}\nVAULT_ADDR={} (from here), {} (in pods)\n\n\
         kubectl is {}\n\n\
         Vault contains secret/webapp/config. ServiceAccount secret-privileged-sa of namespace playground can log in with role\n\
         webapp at the mounts kubernetes and jwt, audience {AUDIENCE}.\n\
         To stop the cluster: just cluster-down",
        state.kubeconfig.display(),
        state.vault_address,
        state.vault_address_in_pods,
        state.kubectl.display(),
    );
}

fn environment() -> Result<()> {
    let state = State::running()?.context("no cluster is running; just cluster-up starts one")?;
    let vault = testbed::binaries::find_or_build("vault")?;
    for program in [&vault, &state.kubectl] {
        println!("export PATH='{}':\"$PATH\"", program.parent().unwrap_or(Path::new("/")).display());
    }
    let token = format!("$(cat '{}')", state.vault_token_file.display());
    for (name, value) in [
        ("KUBECONFIG", state.kubeconfig.display().to_string()),
        ("VAULT_ADDR", state.vault_address.clone()),
        // Print a command instead of the token, because the output can end up in a log.
        ("VAULT_TOKEN", token.clone()),
        // With these variables, the tests use this cluster.
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
    let state = State::running()?.context("no cluster is running; just cluster-up starts one")?;
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

/// Stops the cluster with SIGTERM, and cleans up after a killed cluster.
fn down() -> Result<()> {
    let start = Instant::now();
    let running = state::process();
    let directory =
        State::running().ok().flatten().and_then(|state| Some(state.kubeconfig.ancestors().nth(2)?.to_owned()));
    if let Some(number) = running {
        let process = rustix::process::Pid::from_raw(number.try_into()?).context("a process has a number")?;
        rustix::process::kill_process(process, rustix::process::Signal::TERM).context("failed to stop the cluster")?;
        while state::process().is_some() {
            ensure!(start.elapsed() < Duration::from_secs(60), "process {number} is still running after one minute");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    // The watchdog holds the lock until the cleanup is complete and removes the directory last. If the next run already holds
    // the lock, the missing directory shows that the cleanup is complete.
    let is_gone = || directory.as_ref().is_some_and(|directory| !directory.exists());
    while !(is_gone() || cluster::sweep()?) {
        ensure!(
            start.elapsed() < Duration::from_secs(20),
            "the watchdog is not done after 20 s; the next run cleans up the rest"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    state::remove()?;
    match running {
        Some(_) => println!("stopped after {:.1} s; everything is removed", start.elapsed().as_secs_f32()),
        None => println!("no cluster was running"),
    }
    Ok(())
}

/// Runs the cluster until SIGTERM. During the start, signals keep their default action and the watchdog cleans up, because
/// a build or a wait for a lock would not react to a signal handler.
async fn run() -> Result<()> {
    state::write_process()?;
    let cluster = RealCluster::start().await?;
    set_up(&cluster).await?;
    testbed::binaries::print_uncaptured("the node is Ready; building and importing the images");
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

/// Sets up the reference scenario in Vault.
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
