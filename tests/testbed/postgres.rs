//! A real PostgreSQL server from Debian's packages, on loopback.

use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::Signal;
use serde_json::json;
use tokio_postgres::NoTls;

use super::binaries::tail;
use super::vault::{Admin, Vault};
use super::watchdog::{Process, Watchdog};
use super::{free_port, pki, requirements, wait_until};

/// Debian puts the programs of each version here, outside of `PATH`.
const INSTALLED: &str = "/usr/lib/postgresql";
const NEEDED: [&str; 2] = ["initdb", "postgres"];
/// Name of the superuser, and of the account that Debian's package creates for the server.
const SUPERUSER: &str = "postgres";
const STOP: Duration = Duration::from_secs(5);

/// The programs of the newest installed version; if there is none, prints that the test is skipped.
///
/// # Panics
/// In CI, if there is none.
pub fn installed(test: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir(INSTALLED).into_iter().flatten().filter_map(Result::ok);
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let complete = |path: &PathBuf| NEEDED.iter().all(|program| path.join("bin").join(program).is_file());
    let newest = versions.map(|entry| entry.path()).filter(complete).max_by_key(|path| version(path));
    if newest.is_none() {
        requirements::skip(test, "needs PostgreSQL (as root: apt-get install postgresql)");
    }
    newest.map(|version| version.join("bin"))
}

/// A running server. Dropping it stops the server and removes its data.
pub struct Postgres {
    process: Process,
    directory: PathBuf,
    /// Where Vault reaches the server.
    inside: SocketAddr,
    /// Where this process reaches it.
    outside: SocketAddr,
    password: String,
}

impl Postgres {
    /// Creates a database cluster in memory and starts its server, in the namespaces of `watchdog`. `programs`: the result of
    /// `installed`. `relay`: where this process reaches an address in these namespaces.
    pub async fn start(
        programs: &Path,
        watchdog: &Watchdog,
        relay: impl Fn(SocketAddr) -> Result<SocketAddr>,
    ) -> Result<Self> {
        // Not below the watchdog's directories: they are private to this user, which is root, and PostgreSQL refuses root.
        let directory = tempfile::Builder::new().prefix("keyferry-test-postgres-").tempdir_in("/dev/shm")?.keep();
        watchdog.undo(&format!("rm -rf -- '{}'", directory.display()));
        let data = directory.join("data");
        // A killed server leaves a small segment of System V memory, whose ID is in line 7 of this file.
        let pid_file = data.join("postmaster.pid");
        let pid_file = pid_file.display();
        watchdog.undo(&format!(
            "[ ! -f '{pid_file}' ] || ipcrm --shmem-id \"$(awk 'NR == 7 {{ print $2 }}' '{pid_file}')\""
        ));
        let password: String = std::iter::repeat_with(fastrand::alphanumeric).take(24).collect();
        let password_file = directory.join("password");
        pki::write(&password_file, &password)?;
        let account = account()?;
        if let Some((uid, gid)) = account {
            chown(&directory, Some(uid), Some(gid))?;
            chown(&password_file, Some(uid), Some(gid))?;
        }
        let command = |program: &str| {
            let program = programs.join(program);
            let mut command = match account {
                // After the change of namespaces, which needs root.
                Some((uid, gid)) => {
                    let mut command = watchdog.command(Path::new("/usr/bin/setpriv"));
                    command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"]).arg(program);
                    command
                }
                None => watchdog.command(&program),
            };
            command.env_clear().env("LC_ALL", "C.UTF-8").current_dir("/").stdin(Stdio::null());
            command
        };
        let output = command("initdb")
            .arg(format!("--pgdata={}", data.display()))
            .arg(format!("--username={SUPERUSER}"))
            .arg(format!("--pwfile={}", password_file.display()))
            .args(["--auth=scram-sha-256", "--no-sync"])
            .output()
            .context("failed to start initdb")?;
        ensure!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));

        let port = free_port()?;
        let inside = SocketAddr::from(([127, 0, 0, 1], port));
        let outside = relay(inside)?;
        let log = watchdog.directory.join(format!("postgres-{port}.log"));
        let file = std::fs::File::create(&log)?;
        let mut server = command("postgres");
        server.arg("-D").arg(&data).stdout(file.try_clone()?).stderr(file);
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={port}"),
            "unix_socket_directories=",
            "fsync=off",
            "shared_buffers=16MB",
            // In the data directory, which is removed. Segments in /dev/shm outlive a killed server.
            "dynamic_shared_memory_type=mmap",
        ] {
            server.args(["-c", setting]);
        }
        let process = watchdog.spawn(&mut server)?;
        let mut server = Self { process, directory, inside, outside, password };
        let deadline = Duration::from_secs(30);
        let ready = tokio::select! {
            ready = wait_until("PostgreSQL accepts logins", deadline, || async {
                connect(outside, SUPERUSER, &server.password).await.ok()
            }) => ready.map(drop),
            ended = server.process.wait(deadline * 2) => Err(anyhow::anyhow!("PostgreSQL exited: {ended:?}")),
        };
        ready.with_context(|| format!("failed to start PostgreSQL; its log ends with:\n{}", tail(&log, 15)))?;
        Ok(server)
    }

    /// The `connection_url` of Vault's database engine, which fills in the credentials of the superuser.
    fn url_for_vault(&self) -> String {
        format!("postgresql://{{{{username}}}}:{{{{password}}}}@{}/postgres?sslmode=disable", self.inside)
    }

    pub fn superuser_password(&self) -> &str {
        &self.password
    }

    /// Mounts Vault's database engine at `mount` for this server.
    pub async fn mount(&self, vault: &Vault, mount: &str) -> Result<()> {
        let plugin = "postgresql-database-plugin";
        vault.offer_plugin("database", plugin, plugin).await?;
        let admin = vault.admin()?;
        admin.put(&format!("sys/mounts/{mount}"), json!({"type": "database"})).await?;
        let config = json!({
            "plugin_name": plugin,
            "allowed_roles": "*",
            "connection_url": self.url_for_vault(),
            "username": SUPERUSER,
            "password": self.password,
        });
        admin.put(&format!("{mount}/config/postgres"), config).await.map(drop)
    }

    /// Logs in, and executes a statement as an application would.
    pub async fn log_in(&self, user: &str, password: &str) -> Result<(), tokio_postgres::Error> {
        connect(self.outside, user, password).await?.simple_query("SELECT 1").await.map(drop)
    }

    /// Executes statements as the superuser.
    pub async fn execute(&self, statements: &str) -> Result<()> {
        Ok(connect(self.outside, SUPERUSER, &self.password).await?.batch_execute(statements).await?)
    }

    /// Names of the roles that match a pattern of `LIKE`.
    pub async fn roles(&self, pattern: &str) -> Result<Vec<String>> {
        let client = connect(self.outside, SUPERUSER, &self.password).await?;
        let rows = client.query("SELECT rolname::text FROM pg_roles WHERE rolname LIKE $1", &[&pattern]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

/// Creates a role of the database engine, whose credentials have this TTL, in seconds, and this maximum.
pub async fn dynamic_role(admin: &Admin, mount: &str, name: &str, ttl: u64, max_ttl: u64) -> Result<()> {
    let role = json!({
        "db_name": "postgres",
        "creation_statements": "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'",
        "default_ttl": ttl,
        "max_ttl": max_ttl,
    });
    admin.put(&format!("{mount}/roles/{name}"), role).await.map(drop)
}

/// User name and password from a directory of the visible set. It is opened once, so that both files are from the same set.
pub fn credentials(directory: &Path) -> Result<(String, String)> {
    // An old set is removed after the new one is visible; a reader that was between both opens the directory again.
    let mut error = None;
    for _ in 0..3 {
        match read_set(directory) {
            Ok(found) => return Ok(found),
            Err(e) => error = Some(e),
        }
    }
    Err(error.context("an error")?)
}

fn read_set(directory: &Path) -> Result<(String, String)> {
    let directory = openat(CWD, directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let read = |name: &str| -> Result<String> {
        let file = openat(&directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        std::fs::File::from(file).read_to_string(&mut text)?;
        Ok(text)
    };
    Ok((read("username")?, read("password")?))
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // "Immediate shutdown": the server releases its shared memory, which it would not do on SIGKILL.
        let _ = self.process.signal(Signal::QUIT);
        let start = Instant::now();
        while self.process.exit_status().is_none() && start.elapsed() < STOP {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

async fn connect(
    server: SocketAddr,
    user: &str,
    password: &str,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host(server.ip().to_string()).port(server.port()).user(user).password(password).dbname("postgres");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// UID and GID of the server's account, if this process is root: PostgreSQL refuses to run as root.
fn account() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd").context("failed to read /etc/passwd")?;
    let ids = accounts.lines().find_map(|line| {
        let mut fields = line.strip_prefix(SUPERUSER)?.strip_prefix(':')?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    ids.map(Some).with_context(|| format!("/etc/passwd has no account {SUPERUSER}"))
}
