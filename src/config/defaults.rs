//! Every default, with its reason. The schema and `docs/config.md` are generated from these values.

use std::time::Duration;

/// Output directory. Base images do not use this path.
pub const DIRECTORY: &str = "/etc/sensitive";

/// Time limit of one request to Vault. The 60 s of the Vault CLI are too long for a startup probe; a retry is better
/// than a longer wait.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Path of the ServiceAccount token that the kubelet mounts. Vault Agent and its injector use it too.
pub const KUBERNETES_JWT_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Interval between reads of a source. An unchanged version of a KV secret causes no further work, and the kubelet
/// syncs Secret volumes about once a minute too.
pub const REFRESH: Duration = Duration::from_mins(1);

/// Minimum of [`REFRESH`]. Shorter intervals overload Vault.
pub const MIN_REFRESH: Duration = Duration::from_secs(1);

/// Minimum interval between lookups of a lease. Shorter intervals overload Vault.
pub const MIN_WATCH_LEASE: Duration = Duration::from_secs(10);

/// Staleness tolerance of a source. Longer than a failover or a rolling upgrade of a Vault cluster, short enough that a
/// revoked permission is noticed within minutes.
pub const MAX_STALE: Duration = Duration::from_mins(5);

/// Staleness tolerance in refresh intervals, for sources whose interval is so long that this exceeds [`MAX_STALE`].
pub const MAX_STALE_REFRESHES: u32 = 3;

/// Suffix of the keys of the previous version. A valid part of a file name and of a key of a Secret.
pub const PREVIOUS_SUFFIX: &str = ".previous";

/// Path of the file with the application's token in the output directory.
pub const TOKEN_FILE: &str = "vault-token";

/// Requested TTL of the application's token. The default of Vault is 32 days. One renewal every 40 minutes costs little, and a
/// token that is left behind ends soon.
pub const TOKEN_TTL: Duration = Duration::from_hours(1);

/// Minimum of [`TOKEN_TTL`]. Shorter TTLs overload Vault, and do not survive a failover of Vault.
pub const MIN_TOKEN_TTL: Duration = Duration::from_secs(10);

/// Concurrent reads. Four use the connection well; more would increase the load when a rollout starts many pods at
/// once.
pub const CONCURRENCY: usize = 4;

/// Maximum of [`CONCURRENCY`]. One pod must not exhaust the rate limit of the whole cluster.
pub const MAX_CONCURRENCY: usize = 64;

/// Upper limit of the first retry delay. The first failure is usually a broken connection.
pub const RETRY_BASE: Duration = Duration::from_millis(500);

/// Upper limit of the retry delay. With full jitter a pod retries every 30 s on average, which spreads the load on a
/// server that has recovered.
pub const RETRY_MAX: Duration = Duration::from_mins(1);

/// Upper limit of the retry delay after failures that a person must fix, such as a missing policy or secret.
pub const RETRY_SLOW: Duration = Duration::from_mins(1);

/// Time limit of the work at shutdown. Leaves most of the default termination grace period of 30 s to the application.
pub const DRAIN: Duration = Duration::from_secs(5);

/// Maximum of [`DRAIN`]. Termination grace periods are rarely longer.
pub const MAX_DRAIN: Duration = Duration::from_mins(5);

/// Time without an answer from Vault after which a start uses the seed. Longer than a failover of Vault, and shorter
/// than common startup probes.
pub const SEED_AFTER: Duration = Duration::from_secs(10);

/// Minimum of [`SEED_AFTER`]. Vault needs a moment to answer.
pub const MIN_SEED_AFTER: Duration = Duration::from_secs(1);

/// Secrets in a list. Each one is a request per interval, so a list that grows unnoticed would load Vault, and a wrong path
/// would fill the volume.
pub const LIST_COUNT: u32 = 100;

/// Maximum of [`LIST_COUNT`]. The versions of all secrets of a list must fit into an annotation of a mirrored Secret.
pub const LIST_COUNT_LIMIT: u32 = 1000;

/// Levels of a recursive list. Deeper than the trees that people maintain by hand.
pub const LIST_DEPTH: u32 = 10;

/// Maximum of [`LIST_DEPTH`].
pub const LIST_DEPTH_LIMIT: u32 = 32;

/// Time to wait after a change before a notification. Sources that change together, such as two secrets of one rotation, are
/// often published within a second.
pub const NOTIFY_DEBOUNCE: Duration = Duration::from_secs(1);

/// Time limit of one HTTP notification. A reload of a large configuration takes seconds.
pub const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum of [`NOTIFY_TIMEOUT`].
pub const MAX_NOTIFY_TIMEOUT: Duration = Duration::from_mins(5);

/// Maximum of the waiting times of a notification. Longer ones are probably mistakes.
pub const MAX_NOTIFY_WAIT: Duration = Duration::from_hours(24);

/// Random delay of a restart of all containers. Replicas read a changed secret within one refresh interval, which already
/// spreads them; this is for short intervals.
pub const RESTART_JITTER: Duration = Duration::from_secs(30);

/// Minimum time between two restarts of all containers, enough for most applications to start and to be useful for a while.
pub const RESTART_MIN_INTERVAL: Duration = Duration::from_mins(5);

/// Minimum of [`RESTART_MIN_INTERVAL`]. The kubelet takes about 5 s for a restart.
pub const MIN_RESTART_INTERVAL: Duration = Duration::from_secs(10);
