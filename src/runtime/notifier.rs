//! Notifications in production.

use super::adapters::Notifier;
use super::blocking::blocking;
use super::production::in_box;
use crate::model::{Failure, FailureClass, HttpTarget, Notification, NotificationTarget, Reason};
use crate::notify;
use crate::volume;

/// Notifies processes of the pod.
pub(super) struct PodNotifier;

impl Notifier for PodNotifier {
    async fn notify(&self, notification: &Notification, generation: u64) -> Result<(), Failure> {
        match &notification.target {
            NotificationTarget::Signal { process, signal } => {
                let (process, signal) = (process.clone(), *signal);
                blocking("send the signal", move || notify::send_signal(&process, signal)).await
            }
            NotificationTarget::Http(target) => in_box(send(target)).await,
            NotificationTarget::File(path) => {
                let path = path.clone();
                blocking("write the marker file", move || volume::write_marker(&path, generation)).await
            }
            NotificationTarget::RestartContainers => {
                let message = "failed to restart all containers: internal error; report it with the log";
                Err(Failure::new(FailureClass::Invalid, Reason::Internal, message))
            }
        }
    }
}

async fn send(target: &HttpTarget) -> Result<(), Failure> {
    let target = target.clone();
    let prepared = blocking("read the files of the request", move || notify::prepare(target)).await?;
    prepared.send().await
}
