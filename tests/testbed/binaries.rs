//! Finds the server binaries, or builds them from the Go modules pinned in `go/`.
//!
//! Search order: `KEYFERRY_SERVERS_DIR`, `KUBEBUILDER_ASSETS` (the convention for kube-apiserver and etcd), `PATH`, the
//! cache, a build into the cache. The cache is in the user's cache directory, so it survives `cargo clean`. The names in it
//! contain a hash of all inputs of a build, so a changed pin causes a new build.

use std::fs::{self, File, TryLockError};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::programs::{CHART_PROGRAMS, KUBE, PROGRAMS, Program, TEMPLATE_PROGRAMS};

/// Oldest Go that the pinned modules accept.
const GO: (u32, u32) = (1, 26);

/// What to do if neither Go nor the servers are installed.
const REMEDY: &str = "the tests and the demo run against a real Vault, etcd and kube-apiserver. One of these helps:
  - install Go 1.26 or later (https://go.dev/dl): the servers are then built once and cached, which takes about 10 minutes on two cores
  - put vault, kube-apiserver and etcd on PATH, or set KEYFERRY_SERVERS_DIR to their directory
    (KUBEBUILDER_ASSETS works for kube-apiserver and etcd: `setup-envtest use -p path`)
  - set KEYFERRY_SKIP_SERVERS=1 to skip the tests that need them";

/// Paths of the server binaries.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub etcd: PathBuf,
    pub kube_apiserver: PathBuf,
    pub vault: PathBuf,
}

impl Binaries {
    /// Finds all servers and builds those that are missing; reports builds on stderr.
    pub fn find_or_build() -> Result<Self> {
        Ok(Self {
            etcd: find_or_build("etcd")?,
            kube_apiserver: find_or_build("kube-apiserver")?,
            vault: find_or_build("vault")?,
        })
    }
}

/// Finds or builds a program of `PROGRAMS`, `CHART_PROGRAMS` or `TEMPLATE_PROGRAMS`.
pub fn find_or_build(name: &str) -> Result<PathBuf> {
    let mut all = PROGRAMS.iter().chain(&CHART_PROGRAMS).chain(&TEMPLATE_PROGRAMS);
    let program = all.find(|p| p.name == name).context("no such program")?;
    if let Some(found) = find(program) {
        return Ok(found);
    }
    build(program).with_context(|| format!("failed to build {name}"))
}

fn find(program: &Program) -> Option<PathBuf> {
    let from = |variable: &str| std::env::var_os(variable).into_iter().collect::<Vec<_>>();
    let mut directories = from("KEYFERRY_SERVERS_DIR");
    if program.module.name == KUBE.name {
        directories.extend(from("KUBEBUILDER_ASSETS"));
    }
    let mut directories: Vec<PathBuf> = directories.into_iter().map(PathBuf::from).collect();
    if program.public {
        directories.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    }
    directories.into_iter().map(|d| d.join(program.name)).find(|f| f.is_file())
}

/// Directory of the built programs.
pub fn cache() -> Result<PathBuf> {
    let root = match std::env::var_os("XDG_CACHE_HOME").filter(|d| Path::new(d).is_absolute()) {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set, so there is no cache directory")?)
            .join(".cache"),
    };
    Ok(root.join("keyferry/servers"))
}

/// Path of a program built from exactly these pins and flags.
fn cached(program: &Program) -> Result<PathBuf> {
    let inputs = [
        program.module.go_mod,
        program.module.go_sum,
        program.package,
        program.tags,
        program.ldflags,
        std::env::consts::ARCH,
    ];
    let inputs = inputs.into_iter().chain(program.module.main_go).collect::<Vec<_>>().join("\0");
    let digest = ring::digest::digest(&ring::digest::SHA256, inputs.as_bytes());
    let short: String = digest.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(cache()?.join(format!("{}-{short}", program.name)).join(program.name))
}

fn build(program: &Program) -> Result<PathBuf> {
    let target = cached(program)?;
    if target.is_file() {
        return Ok(target);
    }
    let directory = target.parent().context("the cache has a parent")?;
    let modules = directory.join("module");
    fs::create_dir_all(&modules).with_context(|| format!("failed to create {}", modules.display()))?;
    let _lock = lock(program, &directory.join("lock"))?;
    if target.is_file() {
        return Ok(target); // Built by the process that held the lock.
    }
    // Build outside of the checkout: Go reads go.mod files of parent directories and could write there.
    fs::write(modules.join("go.mod"), program.module.go_mod)?;
    fs::write(modules.join("go.sum"), program.module.go_sum)?;
    if let Some(source) = program.module.main_go {
        fs::write(modules.join("main.go"), source)?;
    }
    check_go(&modules)?;

    let temporary = directory.join(format!(".{}.{}", program.name, std::process::id()));
    let log = directory.join("build.log");
    let mut go = go(&modules);
    go.args(["build", "-trimpath", "-ldflags", program.ldflags, "-tags", program.tags, "-o"])
        .arg(&temporary)
        .arg(program.package)
        .stdout(Stdio::null())
        .stderr(File::create(&log)?);
    let start = Instant::now();
    let mut child = go.spawn().context("failed to start go")?;
    let mut progress = Progress::new(program, start);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        progress.tick();
        std::thread::sleep(Duration::from_millis(200));
    };
    progress.end(status.success());
    if !status.success() {
        let _ = fs::remove_file(&temporary);
        bail!("go build {} exited with {status}:\n{}\n{REMEDY}", program.package, tail(&log, 15));
    }
    fs::rename(&temporary, &target).with_context(|| format!("failed to move to {}", target.display()))?;
    Ok(target)
}

/// Allows one build of a program at a time, across processes; closing the file releases the lock.
fn lock(program: &Program, path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("failed to create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            print_uncaptured(&format!(
                "waiting: another process is building {} (usually {})",
                program.name, program.usual
            ));
            file.lock().with_context(|| format!("failed to lock {}", path.display()))?;
        }
        Err(TryLockError::Error(e)) => return Err(e).with_context(|| format!("failed to lock {}", path.display())),
    }
    Ok(file)
}

fn go(directory: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(directory)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .env("GOWORK", "off")
        .stdin(Stdio::null());
    go
}

/// Runs in the module's directory, where `go version` reports the toolchain that the module selects.
fn check_go(directory: &Path) -> Result<()> {
    let output = match go(directory).arg("version").output() {
        Ok(output) => output,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => bail!("go is not on PATH; {REMEDY}"),
        Err(e) => return Err(e).context("failed to run go"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match go_version(&text) {
        Some(version) if version >= GO => Ok(()),
        Some((major, minor)) => bail!("go {major}.{minor} is too old; {REMEDY}"),
        None => bail!(
            "failed to parse the output of go version: {}{}\n{REMEDY}",
            text.trim(),
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}

/// `go version go1.26.8 linux/amd64` -> (1, 26)
fn go_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split_whitespace().nth(2)?.strip_prefix("go")?.split('.');
    let minor = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((parts.next()?.parse().ok()?, minor(parts.next()?)?))
}

/// Prints a line that `cargo test` does not capture, so that a build of some minutes does not look like a hang.
pub fn print_uncaptured(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The last lines of a file.
pub fn tail(file: &Path, lines: usize) -> String {
    let text = fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Progress of a build: one rewritten line on a terminal, otherwise a line every 30 seconds.
struct Progress<'a> {
    program: &'a Program,
    start: Instant,
    last_report: Duration,
    terminal: bool,
}

impl<'a> Progress<'a> {
    fn new(program: &'a Program, start: Instant) -> Self {
        let progress = Self { program, start, last_report: Duration::ZERO, terminal: std::io::stderr().is_terminal() };
        progress.report();
        progress
    }

    fn tick(&mut self) {
        let elapsed = self.start.elapsed();
        if elapsed - self.last_report >= Duration::from_secs(if self.terminal { 1 } else { 30 }) {
            self.last_report = elapsed;
            self.report();
        }
    }

    fn report(&self) {
        let line = format!(
            "building {} for the cache: {} s so far, usually {} on two cores",
            self.program.name,
            self.start.elapsed().as_secs(),
            self.program.usual
        );
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        } else {
            print_uncaptured(&line);
        }
    }

    fn end(&self, built: bool) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        let verb = if built { "built" } else { "failed to build" };
        print_uncaptured(&format!("{verb} {} after {} s", self.program.name, self.start.elapsed().as_secs()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_version_is_parsed_from_command_output() {
        assert_eq!(go_version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(go_version("go version go1.27rc1 linux/arm64"), Some((1, 27)));
        assert_eq!(go_version("go: cannot find GOROOT"), None);
    }
}
