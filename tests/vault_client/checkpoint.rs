//! The checkpoint of an init container, which an ordinary container continues with, at a scripted Vault that issues a renewable
//! lease.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::TOKEN;
use super::stub::{Stub, get, post};

const LEASE: &str = "database/creds/webapp/planted";

/// An agent process, killed on drop.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start(arguments: &[&str], vault: &str, volume: &Path) -> Agent {
    let document = format!(
        "auth: {{method: jwt, role: webapp, jwtFile: {}}}\nsources: {{db: {{path: database/creds/webapp, engine: other}}}}\n",
        volume.join("jwt").display()
    );
    let child = Command::new(env!("CARGO_BIN_EXE_keyferry"))
        .args(arguments)
        .arg("--checkpoint")
        .arg(volume.join("checkpoint"))
        .env_clear()
        .env("VAULT_ADDR", vault)
        .env("KEYFERRY_CONFIG_INLINE", document)
        .env("KEYFERRY_DIRECTORY", volume.join("sensitive"))
        .env("KEYFERRY_ALLOW_DISK", "true")
        .stdout(Stdio::null())
        .spawn();
    Agent(child.expect("the agent starts"))
}

fn wait_for(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !fact() {
        assert!(Instant::now() < deadline, "not within its time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn lease_is_renewed_by_second_process() {
    let volume = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    let volume = volume.path();
    std::fs::write(volume.join("jwt"), "head.body.signature").expect("written");
    let lease = |seconds: u32| json!({"lease_id": LEASE, "lease_duration": seconds, "renewable": true});
    let mut read = lease(6);
    read["data"] = json!({"username": "v-webapp", "password": "Losungwort"});
    let stub = Stub::start([
        post("/v1/auth/jwt/login").without("x-vault-token").answer(
            200,
            json!({"auth": {"client_token": TOKEN, "accessor": "a", "lease_duration": 3600, "renewable": true}}),
        ),
        get("/v1/database/creds/webapp").token(TOKEN).answer(200, read),
    ]);
    let code = start(&["once"], &stub.address(), volume).0.wait().expect("it ends").code();
    assert_eq!(code, Some(0), "neither lease nor token is revoked: the script has no such request");
    let password = || std::fs::read_to_string(volume.join("sensitive/password")).ok();
    assert_eq!(password().as_deref(), Some("Losungwort"));

    stub.expect([
        get("/v1/auth/token/lookup-self").token(TOKEN).answer(200, json!({"data": {"ttl": 3600, "renewable": true}})),
        post("/v1/sys/leases/renew")
            .token(TOKEN)
            .json(json!({"lease_id": LEASE, "increment": 6}))
            .answer(200, lease(6)),
    ]);
    let mut agent = start(&["run", "--app-container"], &stub.address(), volume);
    wait_for("the lease is renewed", || stub.is_complete());
    assert_eq!(password().as_deref(), Some("Losungwort"));
    // The application gets SIGTERM at the same time and can still use the lease, so nothing is revoked.
    let pid = rustix::process::Pid::from_child(&agent.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert_eq!(agent.0.wait().expect("it ends").code(), Some(0));
    assert!(volume.join("checkpoint").exists(), "a restarted container continues with the lease");
}
