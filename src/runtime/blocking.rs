//! Calls that can block on a file system.

use tokio::task::spawn_blocking;

use crate::model::{Failure, FailureClass, Reason};

/// Runs `work` on the blocking pool, so that a hanging mount delays neither SIGTERM nor a time limit. `what`: what it does, for
/// the message of a panic.
pub(super) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    spawn_blocking(work).await.unwrap_or_else(|error| {
        let message = format!("failed to {what}: internal error ({error}); report it with the log");
        Err(Failure::new(FailureClass::Local, Reason::Internal, message))
    })
}
