//! The dependency rules of the modules in `src/`, as data. A violation prints the reason of its rule.

/// The rules of one module.
pub(crate) struct Module {
    /// Directory or file (without `.rs`) in `src/`.
    pub(crate) name: &'static str,
    /// Other modules it may use. `None`: all.
    pub(crate) modules: Option<&'static [&'static str]>,
    /// Crates it may use in addition to `std`. `None`: all that `forbidden` does not name.
    pub(crate) crates: Option<&'static [&'static str]>,
    /// Paths it must not name.
    pub(crate) forbidden: &'static [Ban],
}

/// Prefixes of paths, and the reason why a module must not name them.
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
    "tasks, sleeps, timeouts, and signals belong to runtime/; an adapter makes one attempt and returns",
);
const ENVIRONMENT: Ban = (&["std::env"], "config/ reads the environment through a trait");
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
    "only volume/ writes files",
);
const VAULT_WIRE: Ban = (&["reqwest"], "HTTP requests belong to vault/ and notify/");
const CLUSTER_WIRE: Ban = (&["kube", "k8s_openapi"], "the API server belongs to kubernetes/");
const SERVER: Ban = (&["hyper", "hyper_util", "prometheus_client"], "the listener belongs to runtime/");
const WATCH: Ban = (&["notify"], "watching the file system belongs to volume/");
const RANDOM: Ban = (&["fastrand"], "runtime/ draws random numbers; take them as an argument");
const VAULT_WORDS: Ban = (
    &["crate::model::VaultToken", "crate::model::TokenInfo", "crate::model::Auth", "crate::model::VaultServer"],
    "only vault/, agent/, and checkpoint/ handle Vault tokens",
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
    "this module is pure: no file, socket, process, thread, environment, or clock",
);

/// Every module. Add a new one here with its rules, and in `ARCHITECTURE.md`.
pub(crate) const MODULES: &[Module] = &[
    Module {
        name: "main",
        modules: Some(&["cli", "config", "runtime"]),
        crates: Some(&[]),
        forbidden: &[CLOCK, WRITES],
    },
    Module {
        name: "cli",
        modules: Some(&["config", "model", "runtime", "telemetry"]),
        crates: None,
        forbidden: &[VAULT_WIRE, CLUSTER_WIRE, SERVER, WATCH, RANDOM, CLOCK, TASKS, WRITES],
    },
    Module {
        name: "lib",
        modules: None,
        crates: None,
        forbidden: &[VAULT_WIRE, CLUSTER_WIRE, CLOCK, WRITES, ENVIRONMENT],
    },
    Module {
        name: "config",
        modules: Some(&["model", "template"]),
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
            RANDOM,
            CLOCK,
            TASKS,
            WRITES,
        ],
    },
    Module {
        name: "model",
        modules: Some(&[]),
        crates: Some(&["glob", "jiff", "ring", "strsim", "thiserror", "zeroize"]),
        forbidden: &[ALL_IO, (&["tracing"], "domain types do not log")],
    },
    Module {
        name: "agent",
        modules: Some(&["model", "render"]),
        crates: Some(&["jiff", "ring"]),
        forbidden: &[ALL_IO, RANDOM, (&["tracing"], "the agent returns log lines as actions; the runtime writes them")],
    },
    Module {
        name: "template",
        modules: Some(&["model"]),
        crates: Some(&["base64", "gotmpl", "granit_parser", "jiff", "md5", "regex", "ring", "serde_json", "zeroize"]),
        forbidden: &[ALL_IO, RANDOM],
    },
    Module {
        name: "render",
        modules: Some(&["model", "template"]),
        crates: Some(&[
            "aes",
            "base64",
            "cbc",
            "der",
            "ring",
            "rustls",
            "serde",
            "serde_json",
            "serde_saphyr",
            "thiserror",
            "x509_cert",
            "zeroize",
        ]),
        forbidden: &[
            (&["std::env", "std::fs", "std::net", "std::process", "std::thread"], "render/ builds bytes, without I/O"),
            CLOCK,
        ],
    },
    Module {
        name: "vault",
        modules: Some(&["model"]),
        crates: None,
        forbidden: &[CLUSTER_WIRE, SERVER, WATCH, RANDOM, CLOCK, TASKS, ENVIRONMENT, WRITES, COMMAND_LINE],
    },
    Module {
        name: "volume",
        modules: Some(&["model"]),
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
            (&["std::net", "http", "rustls"], "volume/ does not use the network"),
        ],
    },
    Module {
        name: "checkpoint",
        modules: Some(&["model"]),
        crates: Some(&["base64", "jiff", "serde", "serde_json", "zeroize"]),
        forbidden: &[
            (
                &["std::env", "std::fs", "std::net", "std::process", "std::thread"],
                "checkpoint/ builds bytes, without I/O",
            ),
            CLOCK,
        ],
    },
    Module {
        name: "kubernetes",
        modules: Some(&["model"]),
        crates: None,
        forbidden: &[VAULT_WIRE, VAULT_WORDS, SERVER, WATCH, RANDOM, CLOCK, TASKS, ENVIRONMENT, WRITES, COMMAND_LINE],
    },
    Module {
        name: "notify",
        modules: Some(&["model"]),
        crates: None,
        forbidden: &[
            VAULT_WORDS,
            CLUSTER_WIRE,
            SERVER,
            WATCH,
            RANDOM,
            CLOCK,
            TASKS,
            ENVIRONMENT,
            WRITES,
            COMMAND_LINE,
            (&["std::net::ToSocketAddrs"], "notifications never leave the pod; the configuration has the addresses"),
        ],
    },
    Module {
        name: "runtime",
        modules: None,
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
    Module {
        name: "telemetry",
        modules: Some(&["model"]),
        crates: None,
        forbidden: &[VAULT_WIRE, CLUSTER_WIRE, SERVER, WATCH, CLOCK, TASKS, ENVIRONMENT, WRITES],
    },
];

/// Exceptions for one file: path in `src/`, prefix that the file may name, reason.
pub(crate) const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("model/secret.rs", "std::io", "`Write` into memory, so that serializers fill a buffer that never reallocates")];

/// Maximum lines of a source file. Split a longer one by concern.
pub(crate) const MAX_LINES: usize = 400;

/// Files that can be longer: path, limit, reason.
pub(crate) const LONG_FILES: &[(&str, usize, &str)] = &[];
