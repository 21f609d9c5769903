//! Every default, with its reason. The schema and `docs/config.md` take them from here.

use std::time::Duration;

/// Where files go: the directory of the article that started this, and one that no base image uses.
pub const DIRECTORY: &str = "/etc/sensitive";

/// A request that takes longer than this meets a server that is better asked again. The Vault CLI's 60 s are for a
/// person who waits; a start probe does not.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the kubelet puts the `ServiceAccount`'s token. What Vault Agent and its injector use too.
pub const KUBERNETES_JWT_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Cheap, because an unchanged version of a KV secret makes nothing happen; and as quick as the kubelet itself, which
/// syncs Secret volumes about once a minute.
pub const REFRESH: Duration = Duration::from_mins(1);

/// Below this a poll is a load test.
pub const MIN_REFRESH: Duration = Duration::from_secs(1);

/// Long enough that the failover of a Vault cluster or a rolling upgrade of it alarms nobody, short enough that a lost
/// right is seen the same coffee break.
pub const MAX_STALE: Duration = Duration::from_mins(5);

/// A source that is read seldom is stale after this number of missed reads, if that is later than [`MAX_STALE`].
pub const MAX_STALE_REFRESHES: u32 = 3;

/// Four reads at a time fill a round trip; more only makes a burst of all pods of a rollout worse.
pub const CONCURRENCY: usize = 4;

/// More than this in parallel is one pod against the whole cluster's rate limit.
pub const MAX_CONCURRENCY: usize = 64;

/// The first failure is mostly a connection that broke.
pub const RETRY_BASE: Duration = Duration::from_millis(500);

/// With full jitter a pod asks every 30 s on average: a server that comes back sees no stampede and is found soon.
pub const RETRY_MAX: Duration = Duration::from_mins(1);

/// A policy or a missing secret is repaired by a person, so once a minute finds it soon enough.
pub const RETRY_SLOW: Duration = Duration::from_mins(1);

/// Well within the pod's default grace of 30 s, of which the application may need most.
pub const DRAIN: Duration = Duration::from_secs(5);

/// The kubelet's own grace for a pod is rarely longer.
pub const MAX_DRAIN: Duration = Duration::from_mins(5);
