//! What a test needs of the machine beyond the servers, and what is said where it is not there.

use super::skip::skip_test;

/// Whether these programs are there; each with the Debian packages that bring it. If not, the test says that it is skipped,
/// and fails in CI.
///
/// # Panics
/// In CI, if one is missing.
pub fn has(test: &str, programs: &[(&str, &str)]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|(program, _)| !on_path(program)).collect();
    if missing.is_empty() {
        return true;
    }
    let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let packages: Vec<_> = missing.iter().map(|(_, packages)| *packages).collect();
    skip(test, &format!("needs {} (as root: apt-get install {})", names.join(", "), packages.join(" ")))
}

/// Whether we are root.
///
/// # Panics
/// In CI, if not.
pub fn is_root(test: &str) -> bool {
    rustix::process::geteuid().is_root() || skip(test, "needs root")
}

/// As `skip_test`; always `false`.
///
/// # Panics
/// In CI.
pub fn skip(test: &str, why: &str) -> bool {
    skip_test(test, why);
    false
}

/// Whether a program is on PATH, or where Debian keeps those of root.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(more).any(|directory| directory.join(program).is_file())
}
