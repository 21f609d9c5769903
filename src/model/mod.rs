//! Domain types: secrets, versions, leases, file sets, conditions, and the parsed configuration.
//!
//! Never touches: I/O, async, logging. Every other module can use this one.

mod certificate;
mod checkpoint;
mod condition;
mod event;
mod failure;
mod files;
mod glob;
mod json;
mod list;
mod lock;
mod merge;
mod mirror;
mod names;
mod notify;
mod output;
mod pointer;
mod reading;
mod request;
mod secret;
mod selection;
mod settings;
mod suggestion;
mod template;
mod text;
mod token;

pub use certificate::{CertificateRequest, KeyType};
pub use checkpoint::{Checkpoint, SavedSecret, SavedSource, SavedToken};
pub use condition::{Condition, ConditionStatus, ConditionType, EventType, PodEvent};
pub use event::ServerEvent;
pub use failure::{Failure, FailureClass, Reason};
pub use files::{AdoptedSet, FileEntry, FileSet, Generation, Manifest, ManifestSource, SeedData};
pub use glob::Glob;
pub use list::SecretList;
pub(crate) use lock::lock;
pub use merge::{MergeItem, variable_of};
pub use mirror::{Mirror, MirrorKey, MirrorOwner, OnDrift, SecretType};
pub use names::{FilePath, Mode, NameError, ObjectName, SourceName, is_env_file_key, is_variable_name};
pub use notify::{
    HeaderSource, HttpTarget, Notification, NotificationName, NotificationRecord, NotificationTarget, ProcessSelector,
    RestartRecord, SignalName,
};
pub use output::{FileFormat, KeyReference, Output, OutputKind, Pkcs12, WhenMissing};
pub use pointer::JsonPointer;
pub use reading::{CertificateTimes, Lease, LeaseId, Order, Reading, SecretValue, Validity, Version};
pub use request::{Parameter, Parameters, RequestMethod};
pub use secret::{ExactBuffer, SecretBytes};
pub use selection::KeySelection;
pub use settings::{
    Auth, AuthMethod, Directory, KvEngine, Listener, RefreshNow, Retry, Seed, Settings, Source, StatusReport, Tls,
    VaultServer,
};
pub(crate) use suggestion::{nearest, suggestion};
pub use template::{MissingKey, SecretCall, SecretFunction, Template};
pub use text::truncated;
pub use token::{CHILD_TOKEN_KEY, Session, TokenInfo, VaultToken};
