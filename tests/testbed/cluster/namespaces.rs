//! The namespaces that a cluster lives in.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::super::guardian::{Guardian, Process};
use super::super::wait_until;
use super::relay;

/// The first process: makes what the node's programs expect, then reaps what is left to it. Directories of this machine that
/// they would write to are covered, so that nothing of the node stays in them.
const FIRST: &str = r#"
set -e
for directory in /run /var/lib /var/log; do mount -t tmpfs -o mode=0755 tmpfs "$directory"; done
ip link set lo up
for address in "$@"; do ip address add "$address/32" dev lo; done
echo 1 >/proc/sys/net/ipv4/ip_forward
hostname node-1 2>/dev/null || true
: >"$READY"
while :; do sleep 5 & wait; done
"#;

/// Running namespaces; they end with this.
pub struct Namespaces {
    first: u32,
    net: File,
    _unshare: Process,
}

impl Namespaces {
    /// Make them, with these addresses on the loopback device.
    pub async fn start(guardian: &Guardian, addresses: &[IpAddr]) -> Result<Self> {
        let ready = guardian.directory.join("namespaces-ready");
        let log = guardian.directory.join("namespaces.log");
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"])
            .args(["/bin/sh", "-c", FIRST, "namespaces"])
            .args(addresses.iter().map(ToString::to_string))
            .env("READY", &ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let unshare = guardian.spawn(&mut command)?;
        wait_until("the namespaces are ready", Duration::from_secs(10), || async { ready.exists().then_some(()) })
            .await
            .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", unshare.id()))?;
        let first = children.trim().parse().context("unshare has one child")?;
        let net = File::open(Path::new("/proc").join(format!("{first}/ns/net")))?;
        Ok(Self { first, net, _unshare: unshare })
    }

    /// The first process, as this machine numbers it.
    pub fn pid(&self) -> u32 {
        self.first
    }

    /// A loopback address of this machine that leads to an address in here.
    pub fn relay(&self, inside: SocketAddr) -> Result<SocketAddr> {
        relay::start(self.net.try_clone()?, inside)
    }
}
