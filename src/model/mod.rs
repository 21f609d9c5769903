//! The nouns of the house: what a secret, a version, a lease, a file set, a condition *is*.
//!
//! Never touches: I/O, async, logging. Every other room may use this one.

mod condition;
mod failure;
mod files;
mod handover;
mod names;
mod reading;
mod secret;
mod settings;
mod token;

pub use condition::{Condition, ConditionStatus, ConditionType, Notice, NoticeKind};
pub use failure::{Failure, FailureClass, Reason};
pub use files::{FileEntry, FileSet, Generation};
pub use handover::{HandedSource, Handover};
pub use names::{FilePath, Mode, NameError, ObjectName, SourceName};
pub use reading::{Lease, LeaseId, Reading, SecretValue, Version};
pub use secret::SecretBytes;
pub use settings::{
    Auth, AuthMethod, Directory, FileFormat, KvEngine, Listener, Mirror, MirrorKey, MirrorOwner, OnDrift, Output, OutputKind,
    Retry, SecretType, Settings, Source, StatusReport, Tls, VaultServer,
};
pub use token::{TokenInfo, VaultToken};
