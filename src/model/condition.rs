//! Pod conditions and Events, as values.

use super::Reason;

/// Conditions that the agent owns on its Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The mirror Secrets hold the published set.
    Mirrored,
    /// Nothing is stale beyond its tolerance.
    SecretsFresh,
    /// All required outputs are published. The readiness gate.
    SecretsReady,
}

impl ConditionType {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 3] = [Self::SecretsReady, Self::SecretsFresh, Self::Mirrored];

    /// The name in `status.conditions[].type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mirrored => "keyferry.dev/Mirrored",
            Self::SecretsFresh => "keyferry.dev/SecretsFresh",
            Self::SecretsReady => "keyferry.dev/SecretsReady",
        }
    }
}

/// `status.conditions[].status`; the API server does not check it, so the type does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known yet.
    Unknown,
}

impl ConditionStatus {
    /// The API's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One wanted condition. It has no timestamp: the cluster room keeps the time of the last change of status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Which one.
    pub kind: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one stable word.
    pub reason: Reason,
    /// Why, for a person. Holds no secret, no length and no hash of one.
    pub message: String,
}

/// Weight of an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// Good news.
    Normal,
    /// A person should look.
    Warning,
}

/// An Event to record on the Pod, made on a transition only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodEvent {
    /// `Normal` or `Warning`.
    pub kind: EventType,
    /// The same word as in conditions, logs and metrics.
    pub reason: Reason,
    /// For a person. Holds no secret.
    pub message: String,
}
