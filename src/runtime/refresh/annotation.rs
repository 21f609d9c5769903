//! The annotations of the pod, in a file of a downward API volume. The kubelet replaces the file when they change.

use std::path::PathBuf;

use super::super::watched_file::{TextFile, Watched};
use crate::agent::RefreshRequest;
use crate::kubernetes::parse_annotations;

/// A new value of this annotation requests a refresh.
const REFRESH: &str = "keyferry.dev/refresh";

/// A new value of this annotation requests a refresh with new leases, certificates, and tokens.
const REFRESH_LEASES: &str = "keyferry.dev/refresh-leases";

/// Watches the annotations that request a refresh.
pub(super) struct AnnotationWatch {
    path: PathBuf,
    file: Watched<TextFile>,
    /// The last values; `None` before the first read.
    known: Option<Values>,
}

/// The values of the two annotations.
#[derive(PartialEq, Eq)]
struct Values {
    refresh: Option<String>,
    refresh_leases: Option<String>,
}

impl AnnotationWatch {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { file: Watched::new(("annotations file", path.clone()), None), path, known: None }
    }

    /// Waits for a new value. The values at the start are only remembered: every source is read then anyway, and a restart
    /// of the agent must not replace leases again. Cancel safe.
    pub(super) async fn next(&mut self) -> RefreshRequest {
        loop {
            let values = self.file.next().await.and_then(|TextFile(text)| self.parse(&text));
            match values {
                Ok(values) => {
                    let request = self.known.as_ref().and_then(|known| values.requests(known));
                    self.known = Some(values);
                    if let Some(request) = request {
                        return request;
                    }
                }
                Err(error) => tracing::warn!(
                    "{error}; new values of the annotation {REFRESH} have no effect until the file can be read"
                ),
            }
        }
    }

    fn parse(&self, text: &str) -> Result<Values, String> {
        let mut all = parse_annotations(text)
            .map_err(|error| format!("failed to read annotations file {}: {error}", self.path.display()))?;
        Ok(Values { refresh: all.remove(REFRESH), refresh_leases: all.remove(REFRESH_LEASES) })
    }
}

impl Values {
    /// What the change from `known` requests. Removing an annotation requests nothing.
    fn requests(&self, known: &Self) -> Option<RefreshRequest> {
        let is_new = |new: &Option<String>, old: &Option<String>| new.is_some() && new != old;
        let new_leases = is_new(&self.refresh_leases, &known.refresh_leases);
        let by = if new_leases {
            "the annotation keyferry.dev/refresh-leases"
        } else {
            "the annotation keyferry.dev/refresh"
        };
        (new_leases || is_new(&self.refresh, &known.refresh)).then_some(RefreshRequest { new_leases, by })
    }
}
