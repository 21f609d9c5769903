//! Requests to read all sources now: an annotation of the pod, and `POST /refresh`. Signals are in `signals`.

mod annotation;
mod command;
mod endpoint;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

pub use command::request_refresh;
pub(super) use endpoint::{Answer, RefreshEndpoint};

use crate::agent::RefreshRequest;
use crate::model::{RefreshNow, lock};
use annotation::AnnotationWatch;

/// The configured ways to request a refresh.
#[derive(Default)]
pub(super) struct RefreshTriggers {
    configured: RefreshNow,
    annotations: Option<AnnotationWatch>,
    endpoint: RefreshEndpoint,
}

impl RefreshTriggers {
    pub(super) fn new(settings: &RefreshNow) -> Self {
        let mut triggers = Self::default();
        triggers.configure(settings);
        triggers
    }

    /// Applies the settings, at the start and after a reload. A file that is already watched stays watched.
    pub(super) fn configure(&mut self, settings: &RefreshNow) {
        if self.configured.annotations_file != settings.annotations_file {
            self.annotations = settings.annotations_file.clone().map(AnnotationWatch::new);
        }
        if self.configured.token_file != settings.token_file {
            self.endpoint.set_token_file(settings.token_file.clone());
        }
        self.configured.clone_from(settings);
    }

    /// The endpoint, for the listener.
    pub(super) fn endpoint(&self) -> RefreshEndpoint {
        self.endpoint.clone()
    }

    /// Waits for the next request. Cancel safe.
    pub(super) async fn next(&mut self) -> RefreshRequest {
        let annotated = async {
            match &mut self.annotations {
                Some(annotations) => annotations.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            request = annotated => request,
            request = self.endpoint.requested() => request,
        }
    }
}

/// At most one request that was accepted and not yet taken.
#[derive(Clone, Default)]
struct Pending(Arc<(Mutex<Option<RefreshRequest>>, Notify)>);

impl Pending {
    /// Adds a request to the pending one, if there is one.
    fn add(&self, request: RefreshRequest) {
        let (pending, changed) = &*self.0;
        let mut pending = lock(pending);
        let new_leases = request.new_leases || pending.is_some_and(|pending| pending.new_leases);
        *pending = Some(RefreshRequest { new_leases, ..request });
        changed.notify_one();
    }

    /// Waits for a request. Cancel safe.
    async fn next(&self) -> RefreshRequest {
        let (pending, changed) = &*self.0;
        loop {
            if let Some(request) = lock(pending).take() {
                return request;
            }
            changed.notified().await;
        }
    }
}
