//! Makes a file set visible, all or nothing, and says when to look again.
//!
//! The layout is the kubelet's own for Secret volumes, so that people and tools know it:
//!
//! ```text
//! username -> ..data/username
//! password -> ..data/password
//! ..data   -> ..2026_11_24_15_04_05.1x2y3z/
//! ```
//!
//! Never touches: tokens, Vault's words, the cluster.

mod directory;
mod publish;
mod sweep;
mod watch;

pub use publish::{Published, Publisher};
pub use watch::Watch;

use crate::model::{Failure, FailureClass, Reason};

/// Name of the link that points at the visible set.
const DATA: &str = "..data";

/// Prefix of everything that is ours and not a visible file.
const RESERVED: &str = "..";

/// Names with this prefix are kept by the sweep: the state of the running agent.
pub(crate) const STATE_FILE: &str = "..keyferry-state";

/// A failed system call, told with what it was about. A full volume has its own reason.
fn failed(what: &str, error: rustix::io::Errno) -> Failure {
    let reason = match error {
        rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT => Reason::NoSpace,
        _ => Reason::WriteFailed,
    };
    let hint = if reason == Reason::NoSpace { "; the old set stays; give the volume a larger sizeLimit" } else { "" };
    let message = format!("failed to {what}: {}{hint}", std::io::Error::from(error));
    Failure::new(FailureClass::Local, reason, message)
}
