//! `just agent-cost`: the time that the agent's core takes for one input, by number of sources.
//!
//! Each source is read once in its interval and gives what it gave before, the steady state of a pod. The cost of one
//! input must not grow with the number of sources.
#![allow(missing_docs, reason = "a program for developers")]
#![allow(clippy::disallowed_methods, reason = "measuring is reading clocks; the boundaries hold in src/ only")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyferry::agent::{Action, Agent, Input, Mode, Now, Op, Outcome, Ticket};
use keyferry::model::{Reading, SecretBytes, SecretValue, Session, Settings, TokenInfo, Validity, VaultToken, Version};

/// Inputs that are timed for each number of sources.
const INPUTS: u32 = 20_000;

fn main() {
    println!("{:>8} {:>16} {:>26}", "sources", "ns per input", "ns per source, first set");
    for sources in [1, 10, 100, 1000] {
        let Cost { input, start } = measure(sources);
        println!("{sources:>8} {:>16} {:>26}", input.as_nanos(), start.as_nanos());
    }
    let sources = 50;
    println!("one rendering of a template over {sources} sources: {} µs", render_template(sources).as_micros());
}

/// A configuration with sources, without outputs.
fn with_sources(sources: usize) -> String {
    let mut text =
        "vault: {address: 'https://vault:8200'}\nauth: {method: kubernetes, role: web}\nsources:\n".to_owned();
    for source in 0..sources {
        let _ = writeln!(text, "  s{source}: {{path: secret/s{source}, refresh: 60s}}");
    }
    text + "outputs:\n"
}

/// Settings with an output for each source.
fn settings(sources: usize) -> Arc<Settings> {
    let mut text = with_sources(sources);
    for source in 0..sources {
        let _ = writeln!(text, "  - {{source: s{source}, key: password, file: p{source}}}");
    }
    load(&text)
}

/// Settings with one template over all sources, which reads each by name and by path.
fn with_template(sources: usize) -> Arc<Settings> {
    let mut text = with_sources(sources);
    text.push_str("- file: all\n  template: |\n");
    for source in 0..sources {
        let by_path = format!("{{{{ with secret \"secret/s{source}\" }}}}{{{{ .Data.password }}}}{{{{ end }}}}");
        let _ = writeln!(text, "    s{source}={{{{ .s{source}.password | toJSON }}}} {by_path}");
    }
    load(&text)
}

/// The time of one rendering: the longest input until the set is published. Only the last reading renders the template.
fn render_template(sources: usize) -> Duration {
    let at = Duration::from_secs(1);
    let mode = Mode::Run { checkpoint: false, app_container: false };
    let mut agent = Agent::new(with_template(sources), mode, &now(at));
    let mut pending: VecDeque<(Ticket, Op)> = VecDeque::new();
    collect(agent.handle(Input::Started(None), &now(at)), &mut pending);
    let mut longest = Duration::ZERO;
    while !agent.is_ready() {
        let (ticket, op) = pending.pop_front().expect("an operation until the set is published");
        let start = Instant::now();
        let actions = agent.handle(Input::Completed(ticket, answer(&op)), &now(at));
        longest = longest.max(start.elapsed());
        collect(actions, &mut pending);
    }
    longest
}

fn load(text: &str) -> Arc<Settings> {
    let environment: HashMap<String, String> = HashMap::new();
    Arc::new(keyferry::config::load(&environment, Some(text)).expect("a valid configuration"))
}

struct Cost {
    /// The mean time of one input in the steady state.
    input: Duration,
    /// The time until the first set is published, divided by the number of sources.
    start: Duration,
}

fn measure(sources: usize) -> Cost {
    let settings = settings(sources);
    let mut at = Duration::from_secs(1);
    let mut agent = Agent::new(settings, Mode::Run { checkpoint: false, app_container: false }, &now(at));
    let mut pending: VecDeque<(Ticket, Op)> = VecDeque::new();
    collect(agent.handle(Input::Started(None), &now(at)), &mut pending);
    let (mut inputs, mut spent) = (0, Duration::ZERO);
    let (mut ready, mut starting) = (false, Duration::ZERO);
    let warm = at + Duration::from_secs(180);
    while inputs < INPUTS {
        let input = if let Some((ticket, op)) = pending.pop_front() {
            at += Duration::from_micros(10);
            Input::Completed(ticket, answer(&op))
        } else {
            at = agent.wake_at(at).expect("a source is due some time");
            Input::TimerFired
        };
        let moment = now(at);
        let start = Instant::now();
        let actions = agent.handle(input, &moment);
        if !ready {
            starting += start.elapsed();
            ready = agent.is_ready();
        }
        if at > warm {
            spent += start.elapsed();
            inputs += 1;
        }
        collect(actions, &mut pending);
    }
    Cost { input: spent / INPUTS, start: starting / u32::try_from(sources).expect("a small number") }
}

fn now(at: Duration) -> Now {
    Now { at, wall: jiff::Timestamp::UNIX_EPOCH, seed: u64::try_from(at.as_nanos()).unwrap_or_default() }
}

fn collect(actions: Vec<Action>, pending: &mut VecDeque<(Ticket, Op)>) {
    pending.extend(actions.into_iter().filter_map(|action| match action {
        Action::Start(ticket, op) => Some((ticket, op)),
        Action::Cancel(_) | Action::Log(_) | Action::Exit { .. } => None,
    }));
}

/// What a server without faults answers.
fn answer(op: &Op) -> Outcome {
    let token = || TokenInfo { ttl: Some(Duration::from_secs(3600)), renewable: true };
    match op {
        Op::LogIn { .. } => Outcome::LoggedIn(Ok(Session {
            token: VaultToken::new("hvs.bench"),
            info: token(),
            self_issued: true,
            lookup_denied: false,
        })),
        Op::LookUp { .. } => Outcome::LookedUp(Ok(token())),
        Op::RenewToken { .. } => Outcome::TokenRenewed(Ok(token())),
        Op::Read { .. } => Outcome::Read(Ok(Reading {
            data: BTreeMap::from([(
                "password".to_owned(),
                SecretValue::Text(SecretBytes::new(b"Losungwort".to_vec())),
            )]),
            version: Version { number: Some(1), created: Some(jiff::Timestamp::UNIX_EPOCH), ..Version::default() },
            validity: Validity::Unlimited,
            warnings: Vec::new(),
            ..Reading::default()
        })),
        Op::Publish { .. } => Outcome::Published(Ok(true)),
        Op::RetireDirectory { .. } => Outcome::Retired(Ok(())),
        Op::PatchConditions { .. } => Outcome::ConditionsPatched(Ok(false)),
        Op::RecordEvent { .. } => Outcome::EventRecorded(Ok(())),
        Op::Save { .. } => Outcome::Saved(Ok(())),
        Op::Revoke { .. } => Outcome::Revoked(Ok(())),
        Op::RenewLease { .. }
        | Op::LookUpLease { .. }
        | Op::RevokeLease { .. }
        | Op::Mirror { .. }
        | Op::ReadSeed { .. }
        | Op::Subscribe { .. }
        | Op::Notify { .. } => unreachable!("no leases, mirrors, seed, events, or notifications here"),
    }
}
