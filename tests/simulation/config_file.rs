//! Configuration files, and the settings that the real parser returns for them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use keyferry::model::Settings;

use super::pki;
use super::random::Random;
use super::secrets::PREVIOUS;

/// Time without an answer after which the seed is used.
pub const SEED_AFTER: Duration = Duration::from_secs(10);

/// Minimum time between two restarts of all containers.
pub const RESTART_INTERVAL: Duration = Duration::from_secs(60);

/// Prefix of the paths of lists.
pub const LISTS: &str = "lists/";

/// Choices of `renewBefore`, in seconds.
const RENEW_BEFORE: [u64; 5] = [0, 0, 10, 28, 300];

/// Prefix of the paths of certificates.
pub const PKI: &str = "pki/";

/// The outputs of a source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Layout {
    EachKey,
    Password,
    Whole,
    Both,
    /// The password, and that of the previous version if there is one.
    Previous,
    /// A file for each of some keys, one of them under another name.
    Renamed,
}

impl Layout {
    const ALL: [Self; 6] = [Self::EachKey, Self::Password, Self::Whole, Self::Both, Self::Previous, Self::Renamed];

    /// Whether an output fails without the key `password`.
    fn requires_password(self) -> bool {
        matches!(self, Self::Password | Self::Both | Self::Previous)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpec {
    pub path: String,
    pub refresh: u64,
    pub max_stale: u64,
    pub required: bool,
    pub layout: Layout,
    pub may_mirror: bool,
    /// In seconds; 0 for the default.
    pub overlap: u64,
    /// In seconds; 0 for none.
    pub watch_lease: u64,
    /// In the alternative name of a certificate.
    pub alt_name: u64,
    /// In seconds; 0 for the default.
    pub renew_before: u64,
}

impl SourceSpec {
    pub fn is_certificate(&self) -> bool {
        self.path.starts_with(PKI)
    }

    /// Whether an output fails without the key `password`, or without the private key of a certificate.
    pub fn requires_password(&self) -> bool {
        if self.is_certificate() { self.layout != Layout::Whole } else { self.layout.requires_password() }
    }
}

/// A configuration file.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one section of the file")]
pub struct ConfigFile {
    pub address: &'static str,
    pub authority: &'static str,
    /// Role of the auth method `kubernetes`; `None` for a supplied token in a file.
    pub role: Option<&'static str>,
    pub sources: BTreeMap<String, SourceSpec>,
    pub directory: &'static str,
    pub mirrors: usize,
    pub retry: (u64, u64, u64),
    pub concurrency: u64,
    pub timeout: u64,
    pub drain: u64,
    pub revoke_on_exit: bool,
    /// The first mirror is a seed too.
    pub seed: bool,
    /// A template with a value of each secret that is neither a list nor a certificate. A seed cannot contain its file.
    pub template: bool,
    /// Number of notifications.
    pub notifications: usize,
    /// Changes of some files restart all containers.
    pub restart: bool,
}

impl ConfigFile {
    /// The settings from the real parser.
    pub fn settings(&self) -> Arc<Settings> {
        let text = self.text();
        let none: HashMap<String, String> = HashMap::new();
        match keyferry::config::load(&none, Some(&text)) {
            Ok(settings) => Arc::new(settings),
            Err(error) => panic!("the simulation wrote an invalid configuration: {error}\n{text}"),
        }
    }

    /// Whether it names an existing server and role, and the server's CA certificate.
    pub fn works(&self, authority: &str) -> bool {
        self.address != "unreachable" && self.role != Some("bad") && self.authority == authority
    }

    fn text(&self) -> String {
        let Self { address, authority, directory, concurrency, timeout, drain, revoke_on_exit, .. } = self;
        let mut text = format!(
            "vault: {{address: 'https://{address}:8200', timeout: {timeout}s, tls: {{caFile: {authority}}}}}\n\
             directory: {{path: {directory}}}\n\
             concurrency: {concurrency}\nrevokeOnExit: {revoke_on_exit}\ndrain: {drain}s\n\
             retry: {{base: {}ms, max: {}s, slow: {}s}}\n\
             status: {{podName: web-0, podUid: u-1, podNamespace: web}}\n",
            self.retry.0, self.retry.1, self.retry.2,
        );
        let _ = match self.role {
            Some(role) => writeln!(text, "auth: {{method: kubernetes, role: {role}}}"),
            None => writeln!(text, "auth: {{method: token, tokenFile: /given/token}}"),
        };
        let (mut sources, mut outputs) = ("sources:\n".to_owned(), "outputs:\n".to_owned());
        let mut files = Vec::new();
        for (name, spec) in &self.sources {
            if spec.is_certificate() {
                pki::source(name, spec, &mut sources, &mut outputs, &mut files);
                continue;
            }
            let SourceSpec { path, refresh, max_stale, required, layout, may_mirror, overlap, watch_lease, .. } = spec;
            let list = path.starts_with(LISTS);
            // A secret that is in every list.
            let secret = if list { "m0/" } else { "" };
            let _ = write!(
                sources,
                "  {name}: {{path: {path}, list: {list}, refresh: {refresh}s, maxStale: {max_stale}s, required: {required}"
            );
            for (key, value) in [("overlap", overlap), ("watchLease", watch_lease)] {
                if *value > 0 && !list {
                    let _ = write!(sources, ", {key}: {value}s");
                }
            }
            sources += "}\n";
            if *layout == Layout::EachKey {
                let _ = writeln!(outputs, "  - {{source: {name}, prefix: {name}}}");
                if *may_mirror {
                    files.push(format!("{name}/{secret}username"));
                }
            }
            if *layout == Layout::Renamed {
                let any = if list { "*/" } else { "" };
                let selection = format!(
                    "include: ['{any}username', '{any}password*'], exclude: ['*.previous'], rename: {{{secret}username: user}}"
                );
                let _ = writeln!(outputs, "  - {{source: {name}, prefix: {name}, {selection}}}");
                if *may_mirror {
                    files.push(format!("{name}/user"));
                }
            }
            if *layout == Layout::Previous {
                let _ = writeln!(
                    outputs,
                    "  - {{source: {name}, key: {secret}{PREVIOUS}, file: {name}.previous, optional: true}}"
                );
                if *may_mirror {
                    files.push(format!("{name}.previous"));
                }
            }
            if layout.requires_password() {
                let _ = writeln!(outputs, "  - {{source: {name}, key: {secret}password, file: {name}.password}}");
                if *may_mirror {
                    files.push(format!("{name}.password"));
                }
            }
            if matches!(layout, Layout::Whole | Layout::Both) {
                let _ = writeln!(outputs, "  - {{source: {name}, format: json, file: {name}.json}}");
                if *may_mirror {
                    files.push(format!("{name}.json"));
                }
            }
        }
        let is_plain = |spec: &SourceSpec| !spec.is_certificate() && !spec.path.starts_with(LISTS);
        let plain = self.sources.iter().filter(|(_, spec)| is_plain(spec));
        let values: String = plain.map(|(name, _)| format!("{{{{ index . \"{name}\" \"username\" }}}}\\n")).collect();
        if self.template && !self.seed && !values.is_empty() {
            let _ = writeln!(outputs, "  - {{file: all.txt, template: '{values}'}}");
        }
        text += &sources;
        text += &outputs;
        if self.mirrors > 0 && !files.is_empty() {
            text += "mirrors:\n";
            for index in 0..self.mirrors {
                let chosen = files.iter().enumerate().filter(|(place, _)| index == 0 || place % 2 == index % 2);
                // Of a seed, a key always has the same meaning.
                let key = |place: usize, file: &str| if self.seed { file.to_owned() } else { format!("k{place}") };
                let keys: Vec<_> = chosen.map(|(place, file)| format!("{}: {file}", key(place, file))).collect();
                if !keys.is_empty() {
                    let leased = !self.seed;
                    let _ = writeln!(text, "  m{index}: {{keys: {{{}}}, allowLeased: {leased}}}", keys.join(", "));
                }
            }
        }
        if self.notifications > 0 || self.restart {
            text += "notify:\n";
        }
        for (index, settings) in [
            "",
            ", files: ['s0*', 's0/**'], jitter: 3s, debounce: 4s, after: [n0]",
            ", minInterval: 20s, atStart: true",
        ]
        .iter()
        .enumerate()
        .take(self.notifications)
        {
            let _ = writeln!(text, "  n{index}: {{file: /notify/n{index}{settings}}}");
        }
        if self.restart {
            let interval = RESTART_INTERVAL.as_secs();
            let files = "files: ['s0*', 's0/**'], jitter: 2s";
            let _ = writeln!(text, "  restart: {{restart: containers, minInterval: {interval}s, {files}}}");
        }
        if self.seed {
            let _ = writeln!(text, "seed: {{directory: /seed, mirror: m0, after: {}s}}", SEED_AFTER.as_secs());
        }
        text
    }

    /// Adapts the outputs and mirrors to a seed, whose mirror must contain all files.
    pub fn adapt_to_seed(&mut self) {
        if self.seed {
            self.mirrors = self.mirrors.max(1);
            for spec in self.sources.values_mut() {
                spec.may_mirror = true;
                if matches!(spec.layout, Layout::EachKey | Layout::Renamed) {
                    spec.layout = Layout::Both;
                }
            }
        }
    }

    /// Changes a random part.
    pub fn edit(&mut self, random: &mut Random, paths: &[String], exotic: bool) {
        match random.below(if exotic { 12 } else { 8 }) {
            0 => {
                let path = random.pick(paths).clone();
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                self.sources.insert(name, spec(&path, random));
            }
            1 if self.sources.len() > 1 => {
                let names: Vec<_> = self.sources.keys().cloned().collect();
                self.sources.remove(random.pick(&names));
            }
            2 => {
                let names: Vec<_> = self.sources.keys().cloned().collect();
                let spec = self.sources.get_mut(random.pick(&names)).expect("a source");
                if spec.is_certificate() && random.chance(50) {
                    spec.alt_name = random.below(3) as u64;
                    return;
                }
                // Move the source to another path, or back.
                spec.path = match spec.path.strip_suffix('b') {
                    Some(path) => path.to_owned(),
                    None => format!("{}b", spec.path),
                };
            }
            3 | 4 => {
                let names: Vec<_> = self.sources.keys().cloned().collect();
                let spec = self.sources.get_mut(random.pick(&names)).expect("a source");
                spec.layout = *random.pick(&Layout::ALL);
            }
            5 if random.chance(30) => self.notifications = random.below(4),
            5 if random.chance(30) => self.template = !self.template,
            5 => self.mirrors = random.below(3),
            6 => self.concurrency = random.below(6) as u64 + 1,
            7 => {
                let names: Vec<_> = self.sources.keys().cloned().collect();
                let spec = self.sources.get_mut(random.pick(&names)).expect("a source");
                spec.refresh = *random.pick(&[2, 5, 10, 30]);
                spec.max_stale = spec.refresh * 3;
                spec.renew_before = *random.pick(&RENEW_BEFORE);
            }
            8 => self.role = Some(*random.pick(&["web", "api", "bad"])),
            9 => self.address = *random.pick(&["a", "b", "unreachable"]),
            10 => self.directory = *random.pick(&["/run/one", "/run/two"]),
            _ => self.authority = *random.pick(&["/ca-1.pem", "/ca-2.pem"]),
        }
        self.adapt_to_seed();
    }
}

/// A source at `path` with random intervals and outputs.
pub fn spec(path: &str, random: &mut Random) -> SourceSpec {
    let refresh = *random.pick(&[1, 5, 10, 10, 20, 20, 60, 60]);
    SourceSpec {
        path: path.to_owned(),
        refresh,
        max_stale: refresh * *random.pick(&[1, 3, 10]),
        required: random.chance(70),
        layout: *random.pick(&Layout::ALL),
        may_mirror: random.chance(60),
        overlap: *random.pick(&[0, 0, 5, 40, 600]),
        watch_lease: *random.pick(&[0, 0, 0, 15, 100]),
        alt_name: 0,
        renew_before: *random.pick(&RENEW_BEFORE),
    }
}
