//! Classifies error responses of the API server
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#api-verbs>; unusual ones were observed on 1.37).

#[cfg(test)]
mod tests;

use std::time::Duration;

use kube::core::Status;
use kube::core::response::StatusCause;

use super::client::Response;
use crate::model::{Failure, FailureClass, Reason, truncated};

/// Maximum number of characters of the server's message in a [`Failure`], so that conditions stay short.
const MAX_CHARS: usize = 400;

/// Describes a request, for error messages.
pub(super) struct RequestContext {
    /// "<verb> <noun> {which}".
    pub(super) what: String,
    /// RBAC rule that allows the request.
    pub(super) rule: String,
}

/// A parsed error response.
pub(super) struct ApiError {
    pub(super) code: u16,
    /// `status.message`, by which the error is classified. Empty if the body is not a Status, for example from a proxy.
    message: String,
    /// The part of `message` that the failure shows. Differs from `message` if that could contain a secret value.
    shown_message: String,
    pub(super) causes: Vec<StatusCause>,
    pub(super) retry_after: Option<Duration>,
}

impl ApiError {
    pub(super) fn from_response(response: &Response) -> Self {
        let status: Status = serde_json::from_slice(&response.body).unwrap_or_default();
        let details = status.details;
        let hint = details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
        let message = clip(&status.message);
        Self {
            code: response.code.as_u16(),
            shown_message: message.clone(),
            message,
            causes: details.map(|details| details.causes).unwrap_or_default(),
            retry_after: response.retry_after.or_else(|| Some(Duration::from_secs(hint?.into()))),
        }
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Replaces the server's message in the failure with `text`. The classification stays the same.
    pub(super) fn replace_shown_message(&mut self, text: String) {
        self.shown_message = text;
    }

    /// Whether RBAC denied the request, not an admission plugin. RBAC's message is
    /// `User "..." cannot patch resource "secrets" in API group ""`.
    pub(super) fn is_rbac(&self) -> bool {
        let parts = ["\" cannot ", " resource \"", "\" in API group \""];
        self.code == 403 && parts.into_iter().all(|part| self.message.contains(part))
    }

    /// Whether `OwnerReferencesPermissionEnforcement` denied the request. The plugin requires permission to `delete` an
    /// object for a change of its owners (`plugin/pkg/admission/gc/gc_admission.go` in 1.37).
    pub(super) fn is_owner_denial(&self) -> bool {
        let texts = ["cannot set an ownerRef on a resource", "cannot set blockOwnerDeletion"];
        self.code == 403 && texts.into_iter().any(|text| self.message.contains(text))
    }

    /// Whether the server reports `field` as invalid.
    pub(super) fn names_field(&self, field: &str) -> bool {
        self.causes.iter().any(|cause| cause.field == field)
    }

    /// The field managers with which an apply conflicts, and their fields.
    fn conflicts(&self) -> Option<String> {
        let conflicts: Vec<_> = self.causes.iter().filter(|cause| cause.reason == "FieldManagerConflict").collect();
        let describe = |cause: &&StatusCause| format!("{} on {}", cause.message, cause.field);
        (!conflicts.is_empty()).then(|| clip(&conflicts.iter().map(describe).collect::<Vec<_>>().join(", ")))
    }
}

/// Converts an error response to a failure.
pub(super) fn failure(context: &RequestContext, error: &ApiError) -> Failure {
    use FailureClass::{Conflict, Denied, Invalid, Missing, Transient};
    let (class, reason, remedy) = match error.code {
        401 => (
            Transient,
            Reason::CredentialUnreadable,
            "the ServiceAccount token is invalid: it has expired, or the ServiceAccount was deleted or re-created; \
             keyferry reads the token file again within a minute; if the error persists, re-create the pod"
                .to_owned(),
        ),
        403 if error.is_rbac() => (Denied, Reason::Forbidden, format!("the Role needs the rule {}", context.rule)),
        403 => (
            Denied,
            Reason::Forbidden,
            "RBAC is not the cause; check the admission policies, the quota, and the state of the namespace".to_owned(),
        ),
        404 => (Missing, Reason::ObjectNotFound, "check that the namespace exists".to_owned()),
        409 => match error.conflicts() {
            Some(conflicts) => (
                Invalid,
                Reason::Drifted,
                format!(
                    "another field manager writes to it ({conflicts}); stop that writer, or delete the Secret and \
                     keyferry re-creates it"
                ),
            ),
            None => (Conflict, Reason::Conflict, "it changed after keyferry read it; keyferry retries".to_owned()),
        },
        // The object was deleted and re-created: the server reports an immutable field, not a conflict.
        422 if error.names_field("metadata.uid") => {
            (Conflict, Reason::Conflict, "it was re-created; keyferry retries".to_owned())
        }
        422 if error.names_field("type") => (
            Invalid,
            Reason::InvalidRequest,
            "the type of a Secret cannot change; delete it and keyferry re-creates it".to_owned(),
        ),
        422 if error.message.contains("immutable when") => {
            (Invalid, Reason::InvalidRequest, "it is immutable; delete it and keyferry re-creates it".to_owned())
        }
        // 400, 405, 413, 415, 422 and others: the server would reject the same request again.
        400..=499 if !matches!(error.code, 408 | 429) => (Invalid, Reason::InvalidRequest, String::new()),
        // 408, 429, and 5xx. A redirect or another unexpected status comes from a proxy and can be temporary.
        _ => (Transient, Reason::ApiUnavailable, String::new()),
    };
    let by = if error.is_rbac() { " (RBAC)" } else { "" };
    let mut message = format!("failed to {}: the API server answered {}{by}", context.what, error.code);
    for (separator, part) in [(": ", error.shown_message.as_str()), ("; ", remedy.as_str())] {
        if !part.is_empty() {
            message.push_str(separator);
            message.push_str(part);
        }
    }
    Failure { class, reason, message, retry_after: error.retry_after, missing_rule: None }
}

/// Reduces `text` to one line of at most [`MAX_CHARS`] characters.
fn clip(text: &str) -> String {
    truncated(&text.replace(char::is_control, " "), MAX_CHARS)
}
