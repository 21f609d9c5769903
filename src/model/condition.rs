//! Pod conditions and Events.

use super::Reason;

/// Conditions that the agent owns on its Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// All mirrored Secrets contain the published set.
    Mirrored,
    /// The application was notified of the published files.
    Notified,
    /// Every source is within its staleness tolerance.
    SecretsFresh,
    /// All required outputs are published. Meant for the Pod's readiness gate.
    SecretsReady,
}

impl ConditionType {
    /// All condition types, in the order in which they are reported.
    pub const ALL: [Self; 4] = [Self::SecretsReady, Self::SecretsFresh, Self::Mirrored, Self::Notified];

    /// The name in `status.conditions[].type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mirrored => "keyferry.dev/Mirrored",
            Self::Notified => "keyferry.dev/Notified",
            Self::SecretsFresh => "keyferry.dev/SecretsFresh",
            Self::SecretsReady => "keyferry.dev/SecretsReady",
        }
    }
}

/// `status.conditions[].status`. The API server does not validate this field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// The condition is met.
    True,
    /// The condition is not met.
    False,
    /// The state is not known yet.
    Unknown,
}

impl ConditionStatus {
    /// The value in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition to report. Has no timestamp: `kubernetes` sets the time of the last change of status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `type` in the API.
    pub kind: ConditionType,
    /// `status` in the API.
    pub status: ConditionStatus,
    /// `reason` in the API.
    pub reason: Reason,
    /// `message` in the API. Contains no secret, and no length or hash of a secret.
    pub message: String,
}

/// `type` of an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// An expected change.
    Normal,
    /// A change that can require action.
    Warning,
}

/// An Event to record on the Pod. Recorded on transitions only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodEvent {
    /// `type` in the API.
    pub kind: EventType,
    /// `reason` in the API; the same codes as in conditions, logs and metrics.
    pub reason: Reason,
    /// `message` in the API. Contains no secret.
    pub message: String,
}
