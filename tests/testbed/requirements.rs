//! Requirements of tests beyond the servers: programs and root.

use super::skip::skip_test;

/// Whether these programs are installed; each with its Debian packages. If not, prints that the test is skipped.
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

/// Whether the process runs as root; if not, prints that the test is skipped.
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

/// Whether a program is on `PATH` or in Debian's directories for root.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(more).any(|directory| directory.join(program).is_file())
}
