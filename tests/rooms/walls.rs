//! The walls, as data. Each has its reason, which is printed with a violation.

/// What a room may name.
pub(crate) struct Room {
    /// Directory or file (without `.rs`) in `src/`.
    pub(crate) name: &'static str,
    /// Other rooms it may use. `None` = all.
    pub(crate) rooms: Option<&'static [&'static str]>,
    /// Crates it may use beside `std`. `None` = all that `forbidden` does not name.
    pub(crate) crates: Option<&'static [&'static str]>,
    /// Paths it must not name, each list with its reason.
    pub(crate) forbidden: &'static [Ban],
}

/// Paths (prefixes) and why they are not for this room.
pub(crate) type Ban = (&'static [&'static str], &'static str);

const CLOCK: Ban = (
    &["std::time::Instant::now", "std::time::SystemTime::now", "jiff::Timestamp::now", "jiff::Zoned::now"],
    "clocks are read in runtime/ only; take the time as an argument",
);
const TASKS: Ban = (
    &[
        "std::thread",
        "tokio::spawn",
        "tokio::task::spawn",
        "tokio::task::spawn_blocking",
        "tokio::task::spawn_local",
        "tokio::task::JoinSet",
        "tokio::time",
        "tokio::runtime",
        "tokio::signal",
        "signal_hook",
    ],
    "tasks, sleeps, timeouts and signals belong to runtime/; a hand tries once and returns",
);
const ENVIRONMENT: Ban = (&["std::env"], "the environment is read in config/ through a trait, and handed to cli/");
const WRITES: Ban = (
    &[
        "std::fs::write",
        "std::fs::File::create",
        "std::fs::File::create_new",
        "std::fs::OpenOptions",
        "std::fs::rename",
        "std::fs::create_dir",
        "std::fs::create_dir_all",
        "std::fs::set_permissions",
        "std::os::unix::fs::symlink",
    ],
    "files are written by volume/ only",
);
const VAULT_WIRE: Ban = (&["reqwest"], "HTTP to Vault belongs to vault/");
const CLUSTER_WIRE: Ban = (&["kube", "k8s_openapi"], "the API server belongs to kubernetes/");
const SERVER: Ban = (&["hyper", "hyper_util", "prometheus_client"], "the listener belongs to runtime/");
const WATCH: Ban = (&["notify"], "watching the file system belongs to volume/");
const DICE: Ban = (&["fastrand"], "dice are thrown by runtime/ and arrive as an argument");
const VAULT_WORDS: Ban = (
    &["crate::model::VaultToken", "crate::model::TokenInfo", "crate::model::Auth", "crate::model::VaultServer"],
    "this room knows neither Vault nor its tokens",
);
const COMMAND_LINE: Ban = (&["clap", "schemars"], "the command line and the schema belong to config/ and cli/");
const ALL_IO: Ban = (
    &[
        "std::env",
        "std::fs",
        "std::io",
        "std::net::TcpListener",
        "std::net::TcpStream",
        "std::net::UdpSocket",
        "std::net::ToSocketAddrs",
        "std::os",
        "std::process",
        "std::thread",
        "std::time::Instant",
        "std::time::SystemTime",
        "jiff::Timestamp::now",
        "jiff::Zoned::now",
    ],
    "this room is pure: no file, socket, process, thread, environment or clock",
);

/// Every room. A new one must be added here, with its walls, and in `ARCHITECTURE.md`.
pub(crate) const ROOMS: &[Room] = &[
    Room { name: "main", rooms: Some(&["cli", "config", "runtime"]), crates: Some(&[]), forbidden: &[CLOCK, WRITES] },
    Room {
        name: "cli",
        rooms: Some(&["config", "model", "runtime", "telemetry"]),
        crates: None,
        forbidden: &[VAULT_WIRE, CLUSTER_WIRE, SERVER, WATCH, DICE, CLOCK, TASKS, WRITES],
    },
    Room { name: "lib", rooms: None, crates: None, forbidden: &[VAULT_WIRE, CLUSTER_WIRE, CLOCK, WRITES, ENVIRONMENT] },
    Room {
        name: "config",
        rooms: Some(&["model"]),
        crates: None,
        forbidden: &[
            (
                &["tokio", "std::net::TcpStream", "std::net::ToSocketAddrs"],
                "configuration is text: no network, no async",
            ),
            VAULT_WIRE,
            CLUSTER_WIRE,
            SERVER,
            WATCH,
            DICE,
            CLOCK,
            TASKS,
            WRITES,
        ],
    },
    Room {
        name: "model",
        rooms: Some(&[]),
        crates: Some(&["jiff", "thiserror", "zeroize"]),
        forbidden: &[ALL_IO, (&["tracing"], "nouns do not log")],
    },
    Room {
        name: "agent",
        rooms: Some(&["model", "render"]),
        crates: Some(&["jiff", "ring"]),
        forbidden: &[ALL_IO, DICE, (&["tracing"], "the agent's lines are actions; the runtime writes them")],
    },
    Room {
        name: "render",
        rooms: Some(&["model"]),
        crates: Some(&["base64", "serde", "serde_json", "serde_saphyr", "thiserror", "zeroize"]),
        forbidden: &[
            (&["std::env", "std::fs", "std::net", "std::process", "std::thread"], "render makes bytes, no I/O"),
            CLOCK,
        ],
    },
    Room {
        name: "vault",
        rooms: Some(&["model"]),
        crates: None,
        forbidden: &[CLUSTER_WIRE, SERVER, WATCH, DICE, CLOCK, TASKS, ENVIRONMENT, WRITES, COMMAND_LINE],
    },
    Room {
        name: "volume",
        rooms: Some(&["model"]),
        crates: None,
        forbidden: &[
            VAULT_WIRE,
            VAULT_WORDS,
            CLUSTER_WIRE,
            SERVER,
            CLOCK,
            TASKS,
            ENVIRONMENT,
            COMMAND_LINE,
            (&["std::net", "http", "rustls"], "the publisher has no network"),
        ],
    },
    Room {
        name: "checkpoint",
        rooms: Some(&["model"]),
        crates: Some(&["base64", "jiff", "serde", "serde_json", "zeroize"]),
        forbidden: &[
            (&["std::env", "std::fs", "std::net", "std::process", "std::thread"], "checkpoint makes bytes, no I/O"),
            CLOCK,
        ],
    },
    Room {
        name: "kubernetes",
        rooms: Some(&["model"]),
        crates: None,
        forbidden: &[VAULT_WIRE, VAULT_WORDS, SERVER, WATCH, DICE, CLOCK, TASKS, ENVIRONMENT, WRITES, COMMAND_LINE],
    },
    Room {
        name: "runtime",
        rooms: None,
        crates: None,
        forbidden: &[
            VAULT_WIRE,
            CLUSTER_WIRE,
            ENVIRONMENT,
            WRITES,
            COMMAND_LINE,
            (&["base64", "serde_saphyr"], "formats belong to render/ and config/"),
        ],
    },
    Room {
        name: "telemetry",
        rooms: Some(&["model"]),
        crates: None,
        forbidden: &[VAULT_WIRE, CLUSTER_WIRE, SERVER, WATCH, CLOCK, TASKS, ENVIRONMENT, WRITES],
    },
];

/// One file of a room that may do what the room may not: path in `src/`, banned prefix, reason.
pub(crate) const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("model/secret.rs", "std::io", "a writer into memory, so that serializers can fill a buffer that never grows")];

/// Most lines a source file may have. Longer ones are hard to hold in the head: split by concern.
pub(crate) const LONGEST_FILE: usize = 400;

/// Files that may be longer: path, limit, reason.
pub(crate) const LONG_FILES: &[(&str, usize, &str)] = &[];
