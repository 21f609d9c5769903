//! The compared programs. Each delivers the two files of the reference scenario into an empty directory.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Result;
use super::setup::Setup;

/// A directory in memory, removed on drop.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Result<Self> {
        let path = PathBuf::from(format!("/dev/shm/keyferry-bench-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that is killed on drop.
pub struct Running(Child);

impl Running {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn clean(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().env("HOME", "/nonexistent").env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn succeed(mut command: Command) -> Result<Vec<u8>> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let log = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = log.lines().rev().take(5).collect();
    Err(format!("{} exited with {}: {}", command.get_program().display(), output.status, last.join(" / ")).into())
}

fn login_body(setup: &Setup) -> Result<String> {
    let jwt = std::fs::read_to_string(&setup.jwt_file)?;
    Ok(json!({ "role": setup.role, "jwt": jwt.trim() }).to_string())
}

fn token(answer: &[u8]) -> Result<String> {
    let answer: Value = serde_json::from_slice(answer)?;
    Ok(answer["auth"]["client_token"].as_str().ok_or("the login returned no token")?.to_owned())
}

fn write(setup: &Setup, answer: &[u8], to: &Path) -> Result<()> {
    let answer: Value = serde_json::from_slice(answer)?;
    std::fs::create_dir_all(to)?;
    for (key, _) in &setup.files {
        std::fs::write(to.join(key), answer["data"]["data"][key].as_str().unwrap_or_default())?;
    }
    Ok(())
}

/// Two `curl` processes: one for the login, one for the read.
pub fn curl(setup: &Setup, to: &Path) -> Result<()> {
    let curl = |arguments: &[&str]| {
        let mut command = clean(Path::new("curl"));
        command.args(["--silent", "--show-error", "--fail"]).args(arguments).stdout(Stdio::piped());
        succeed(command)
    };
    let login = format!("{}/v1/auth/kubernetes/login", setup.address);
    let token = token(&curl(&["--json", &login_body(setup)?, &login])?)?;
    let read = format!("{}/v1/{}", setup.address, setup.api_path());
    write(setup, &curl(&["--header", &format!("X-Vault-Token: {token}"), &read])?, to)
}

/// The same two requests by a new HTTP client in this process: the lower bound.
pub fn client(setup: &Setup, to: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::new();
        let login = format!("{}/v1/auth/kubernetes/login", setup.address);
        let answer = client.post(login).body(login_body(setup)?).send().await?.error_for_status()?.bytes().await?;
        let read = client.get(format!("{}/v1/{}", setup.address, setup.api_path()));
        let answer = read.header("X-Vault-Token", token(&answer)?).send().await?.error_for_status()?.bytes().await?;
        write(setup, &answer, to)
    })
}

/// The agent with the three variables of the reference scenario, with Vault at `address`, without a subcommand.
pub fn keyferry(setup: &Setup, address: &str, to: &Path) -> Command {
    let mut command = clean(&setup.keyferry);
    command.env("VAULT_ADDR", address).env("KEYFERRY_ROLE", &setup.role).env("KEYFERRY_SECRETS", &setup.secret);
    // This machine is not a Pod, so name the file with the token.
    let config = json!({ "auth": { "jwtFile": setup.jwt_file } }).to_string();
    command.env("KEYFERRY_CONFIG_INLINE", config).env("KEYFERRY_DIRECTORY", to);
    command
}

/// `keyferry once`.
pub fn keyferry_once(setup: &Setup, to: &Path) -> Result<()> {
    let mut command = keyferry(setup, &setup.address, to);
    command.arg("once");
    succeed(command).map(drop)
}

/// `keyferry run`, with Vault at `address` and this refresh interval.
pub fn keyferry_run(setup: &Setup, address: &str, to: &Path, refresh: Duration) -> Result<Running> {
    let mut command = keyferry(setup, address, to);
    command.arg("run").env("KEYFERRY_REFRESH", format!("{}s", refresh.as_secs())).stderr(Stdio::null());
    Ok(Running(command.spawn()?))
}

/// Configuration of `vault agent`, in HCL's JSON syntax.
fn agent_config(setup: &Setup, address: &str, to: &Path, refresh: Duration, once: bool) -> Value {
    let path = setup.api_path();
    let template = |(key, _): &(String, String)| {
        let contents = format!("{{{{ with secret \"{path}\" }}}}{{{{ .Data.data.{key} }}}}{{{{ end }}}}");
        json!({ "contents": contents, "destination": to.join(key) })
    };
    json!({
        "exit_after_auth": once,
        "vault": { "address": address },
        "auto_auth": {
            "method": [{ "type": "kubernetes", "config": { "role": setup.role, "token_path": setup.jwt_file } }],
        },
        "template_config": {
            "static_secret_render_interval": format!("{}s", refresh.as_secs()),
            "exit_on_retry_failure": true,
        },
        "template": setup.files.iter().map(template).collect::<Vec<_>>(),
    })
}

/// `vault agent -exit-after-auth`.
pub fn agent_once(setup: &Setup, to: &Path) -> Result<()> {
    succeed(agent(setup, &setup.address, to, Duration::from_mins(1), true)?).map(drop)
}

/// `vault agent`, with Vault at `address` and this refresh interval.
pub fn agent_run(setup: &Setup, address: &str, to: &Path, refresh: Duration) -> Result<Running> {
    let mut command = agent(setup, address, to, refresh, false)?;
    Ok(Running(command.stderr(Stdio::null()).spawn()?))
}

fn agent(setup: &Setup, address: &str, to: &Path, refresh: Duration, once: bool) -> Result<Command> {
    let config = to.with_extension("json");
    std::fs::write(&config, agent_config(setup, address, to, refresh, once).to_string())?;
    let mut command = clean(&setup.vault);
    command.args(["agent", "-log-level=error", "-config"]).arg(config);
    if once {
        command.arg("-exit-after-auth");
    }
    Ok(command)
}

/// Whether all files exist with the expected content.
pub fn is_complete(setup: &Setup, directory: &Path) -> bool {
    setup.files.iter().all(|(key, value)| std::fs::read(directory.join(key)).is_ok_and(|got| got == value.as_bytes()))
}

/// Waits until the files are complete.
pub fn await_files(setup: &Setup, directory: &Path, process: &mut Running) -> Result<()> {
    let start = Instant::now();
    while !is_complete(setup, directory) {
        if !process.is_alive() || start.elapsed() > Duration::from_secs(20) {
            return Err(format!("no files in {} after {:?}", directory.display(), start.elapsed()).into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
