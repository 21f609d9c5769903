//! The namespaces of a cluster.
//!
//! Their first process reads from a pipe of the test process. When the test process exits, even by SIGKILL, the first
//! process exits too, and the kernel removes every process, mount and network device in the namespaces. This does not need
//! the watchdog.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::binaries;
use super::super::wait_until;
use super::super::watchdog::{Process, UNSHARE, Watchdog};
use super::relay;

/// Directories that a node writes to. Inside, empty file systems are mounted over them.
const HIDDEN: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// Script of the first process: sets up what the node's programs expect, then waits and reaps orphans.
const FIRST: &str = r#"
set -e
exec 3<&0 </dev/null
for directory in $HIDDEN; do mount -t tmpfs -o mode=0755 tmpfs "$directory"; done
ip link set lo up
for address in "$@"; do ip address add "$address/32" dev lo; done
echo 1 >/proc/sys/net/ipv4/ip_forward
hostname node-1 2>/dev/null || true
: >"$READY"
cat <&3 >/dev/null &
wait $!
"#;

/// Running namespaces. Dropping this value removes them.
pub struct Namespaces {
    first: u32,
    net: File,
    _unshare: Process,
}

impl Namespaces {
    /// Creates the namespaces, with these addresses on the loopback device.
    pub async fn start(watchdog: &Watchdog, addresses: &[IpAddr]) -> Result<Self> {
        for (needed, variable) in [(watchdog.directory.clone(), "TMPDIR"), (binaries::cache()?, "XDG_CACHE_HOME")] {
            let hidden = HIDDEN.into_iter().find(|hidden| needed.starts_with(hidden));
            let needed = needed.display();
            ensure!(
                hidden.is_none(),
                "{needed} is hidden inside the cluster; set {variable} to a directory outside of {hidden:?}"
            );
        }
        let ready = watchdog.directory.join("namespaces-ready");
        let log = watchdog.directory.join("namespaces.log");
        let mut command = Command::new(UNSHARE);
        command
            .args(["--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"])
            .args(["/bin/sh", "-c", FIRST, "namespaces"])
            .args(addresses.iter().map(ToString::to_string))
            .env("HIDDEN", HIDDEN.join(" "))
            .env("READY", &ready)
            // The handle holds the write end of the pipe, which closes when this process exits.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let unshare = watchdog.spawn(&mut command)?;
        wait_until("the namespaces are ready", Duration::from_secs(10), || async { ready.exists().then_some(()) })
            .await
            .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        let first = unshare.program().context("unshare has one child")?.as_raw_nonzero().get().unsigned_abs();
        let net = File::open(Path::new("/proc").join(format!("{first}/ns/net")))?;
        Ok(Self { first, net, _unshare: unshare })
    }

    /// PID of the first process, on this machine.
    pub fn pid(&self) -> u32 {
        self.first
    }

    /// A loopback address of this machine that relays to an address in the namespaces.
    pub fn relay(&self, inside: SocketAddr) -> Result<SocketAddr> {
        relay::start(self.net.try_clone()?, inside)
    }
}
