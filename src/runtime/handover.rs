//! Leaves token and leases to the next process, and takes what an earlier one left.

use std::path::PathBuf;
use std::sync::Arc;

use super::clock::wall;
use crate::disk::{leave_private_file, take_private_file};
use crate::handover::{Estate, decode, encode};
use crate::model::{Failure, FailureClass, Reason, Settings};

/// What lies in `file`; `None` if there is nothing. The file is gone afterwards.
pub(super) async fn take(file: Option<PathBuf>, settings: &Arc<Settings>) -> Result<Option<Box<Estate>>, Failure> {
    let Some(file) = file else { return Ok(None) };
    let settings = Arc::clone(settings);
    let take = move || {
        let Some(bytes) = take_private_file(&file)? else { return Ok(None) };
        decode(&bytes, &settings, wall()).map(|estate| Some(Box::new(estate))).map_err(|why| {
            let message = format!("failed to take over from {}: {why}", file.display());
            Failure::new(FailureClass::Invalid, Reason::HandoverRefused, message)
        })
    };
    tokio::task::spawn_blocking(take).await.unwrap_or_else(|error| Err(ended(&error)))
}

/// Writes `file`.
pub(super) async fn leave(file: PathBuf, estate: Estate, settings: Arc<Settings>) -> Result<(), Failure> {
    let leave = move || {
        let bytes = encode(&estate, &settings, wall()).map_err(|why| {
            let message = format!("failed to leave {} for the next process: {why}", file.display());
            Failure::new(FailureClass::Local, Reason::WriteFailed, message)
        })?;
        leave_private_file(&file, &bytes, settings.directory.allow_disk)
    };
    tokio::task::spawn_blocking(leave).await.unwrap_or_else(|error| Err(ended(&error)))
}

fn ended(error: &tokio::task::JoinError) -> Failure {
    Failure::new(FailureClass::Local, Reason::WriteFailed, format!("failed to hand over: {error}"))
}
