//! Configuration of notifications: how the application learns that published files have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{FilePath, FileSet, Glob, NameError, ObjectName, SecretBytes};

/// Name of a notification, chosen by the user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NotificationName(Arc<str>);

impl NotificationName {
    /// # Errors
    /// If the name is not an RFC 1123 subdomain, like the names of Kubernetes objects.
    pub fn new(name: &str) -> Result<Self, NameError> {
        ObjectName::new(name).map_err(|_| {
            NameError(
                "expected a name of lower-case letters, digits, '-' and '.', with a letter or digit at the start and the end"
                    .into(),
            )
        })?;
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NotificationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One notification.
#[derive(Clone, PartialEq, Eq)]
pub struct Notification {
    /// What to do.
    pub target: NotificationTarget,
    /// Patterns of the files whose changes are notified. If empty, all files.
    pub files: Vec<Glob>,
    /// Notifications about the same change that must succeed first.
    pub after: BTreeSet<NotificationName>,
    /// Whether the first publication of the pod counts as a change.
    pub at_start: bool,
    /// Time to wait after a change for further changes.
    pub debounce: Duration,
    /// Upper limit of a random delay, so that replicas do not act at the same time.
    pub jitter: Duration,
    /// Minimum time between two notifications.
    pub min_interval: Duration,
}

impl Notification {
    /// Whether a change of this file is notified.
    #[must_use]
    pub fn selects(&self, file: &FilePath) -> bool {
        self.files.is_empty() || self.files.iter().any(|pattern| pattern.matches(file.as_str()))
    }

    /// Whether the notification restarts all containers of the pod.
    #[must_use]
    pub fn is_restart(&self) -> bool {
        self.target == NotificationTarget::RestartContainers
    }
}

/// What a notification does.
#[derive(Clone, PartialEq, Eq)]
pub enum NotificationTarget {
    /// Send a signal to a process of the pod.
    Signal {
        /// The process.
        process: ProcessSelector,
        /// The signal.
        signal: SignalName,
    },
    /// Send an HTTP request within the pod.
    Http(Box<HttpTarget>),
    /// Write the generation to a file.
    File(PathBuf),
    /// Restart all containers of the pod: exit with the code that a rule of the pod maps to `RestartAllContainers`.
    RestartContainers,
}

/// How to find a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessSelector {
    /// By its name.
    Name(String),
    /// By the process ID in a file.
    PidFile(PathBuf),
}

macro_rules! signals {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A signal, by its name without `SIG` (signal(7)).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum SignalName { $($(#[$doc])* $name,)* }

        impl SignalName {
            /// The name without `SIG`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

signals! {
    /// Hang up; for many servers: read the configuration again.
    Hup = "HUP",
    /// Interrupt.
    Int = "INT",
    /// Quit.
    Quit = "QUIT",
    /// Kill.
    Kill = "KILL",
    /// User-defined signal 1.
    Usr1 = "USR1",
    /// User-defined signal 2.
    Usr2 = "USR2",
    /// Timer.
    Alrm = "ALRM",
    /// Terminate.
    Term = "TERM",
    /// Continue.
    Cont = "CONT",
    /// Terminal input; for some servers: one more worker.
    Ttin = "TTIN",
    /// Terminal output; for some servers: one worker less.
    Ttou = "TTOU",
    /// Urgent data.
    Urg = "URG",
    /// Window size; for some servers: stop the workers.
    Winch = "WINCH",
    /// Input or output is possible.
    Io = "IO",
    /// Power failure.
    Pwr = "PWR",
}

/// An HTTP request to an application in the same pod.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// `http` or `https` URL. Its host is a loopback address or `localhost`.
    pub url: String,
    /// Addresses of the host. Not used with `unix_socket`.
    pub addresses: Vec<IpAddr>,
    /// Path of a Unix socket to connect to instead.
    pub unix_socket: Option<PathBuf>,
    /// Request method.
    pub method: String,
    /// Header values by name.
    pub headers: BTreeMap<String, HeaderSource>,
    /// Request body.
    pub body: Option<SecretBytes>,
    /// Status codes that count as success. If empty, all from 200 to 299.
    pub expect: BTreeSet<u16>,
    /// Time limit of one request.
    pub timeout: Duration,
    /// PEM file with the trusted CA certificates for `https`; no others are trusted.
    pub ca_file: Option<PathBuf>,
    /// Name to verify in the certificate instead of the host of the URL.
    pub server_name: Option<String>,
}

impl HttpTarget {
    /// Whether a response with this status code is a success.
    #[must_use]
    pub fn expects(&self, status: u16) -> bool {
        if self.expect.is_empty() { (200..300).contains(&status) } else { self.expect.contains(&status) }
    }
}

/// Where the value of a header comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderSource {
    /// The configuration.
    Value(SecretBytes),
    /// The content of a file, without the newline at its end. Read for each request.
    File(PathBuf),
}

/// State of the notifications that the next process needs. Stored in the manifest, so it changes together with the files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotificationRecord {
    /// Number of sets with different files that were published to the volume so far. Unlike
    /// [`Generation`](super::Generation), it continues in the next process.
    pub generation: u64,
    /// Notifications about the files of this set that have not succeeded yet.
    pub pending: BTreeSet<NotificationName>,
    /// The last restart of all containers.
    pub restart: Option<RestartRecord>,
}

/// A restart of all containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartRecord {
    /// Wall-clock time.
    pub at: jiff::Timestamp,
    /// Number of consecutive restarts up to this one for changes that came sooner than the minimum interval after the
    /// restart before.
    pub early: u32,
}

impl FileSet {
    /// The files of this set and of `other` that are missing in the other one or have other content.
    pub fn changes<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a FilePath> {
        let is_same = |path: &FilePath, set: &Self, bytes: &Arc<SecretBytes>| {
            set.files.get(path).is_some_and(|there| Arc::ptr_eq(&there.bytes, bytes) || there.bytes == *bytes)
        };
        let changed = self.files.iter().filter(move |(path, entry)| !is_same(path, other, &entry.bytes));
        let removed = other.files.keys().filter(|path| !self.files.contains_key(path));
        changed.map(|(path, _)| path).chain(removed)
    }
}
