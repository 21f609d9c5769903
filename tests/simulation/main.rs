//! The agent's core in a simulated world: Vault servers, a volume, an API server, users, and faults of all of them.
//!
//! A world is determined by its seed. `SEED=17 cargo test --test simulation` runs only that world and prints its last events
//! if a property is violated. `just simulate HOURS` runs new worlds for this time.

#![allow(clippy::disallowed_methods, reason = "the soak test reads the clock and the environment")]
#![allow(missing_docs, unreachable_pub, clippy::cast_precision_loss, reason = "a test")]

mod application;
mod cluster;
mod config_edits;
mod config_file;
mod faults;
mod new_world;
mod outcomes;
mod pki;
mod process;
mod properties;
mod random;
mod requests;
mod secrets;
mod server;
mod volume;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use world::World;

/// Events in the default run.
const EVENTS: u64 = 1_000_000;

/// Trace lines that are printed for a violation.
const SHOWN: usize = 40;

type Largest = BTreeMap<&'static str, (f64, String, u64)>;

fn record(largest: &mut Largest, what: &'static str, value: f64, detail: String, seed: u64) {
    let entry = largest.entry(what).or_default();
    if value > entry.0 {
        *entry = (value, detail, seed);
    }
}

/// Runs the world of `seed` and returns its number of events. After a violation, runs the world again with a trace and
/// panics. With `KEEP_GOING` set, only prints the violation.
fn run(seed: u64, largest: &mut Largest) -> u64 {
    let mut world = World::new(seed);
    world.run();
    for (what, (value, detail)) in std::mem::take(&mut world.watch.largest) {
        record(largest, what, value, detail, seed);
    }
    if let Some((property, _)) = world.violation {
        if std::env::var("KEEP_GOING").is_err() {
            show(seed);
        }
        println!("violation: {property:?}, seed {seed}");
    }
    world.events
}

fn show(seed: u64) {
    let mut world = World::new(seed);
    world.tracing = true;
    world.run();
    let lines = std::env::var("LINES_SHOWN").ok().and_then(|lines| lines.parse().ok()).unwrap_or(SHOWN);
    let Some((property, detail)) = world.violation.take() else { panic!("seed {seed} is not reproducible") };
    panic!(
        "SEED={seed} violates {property:?}: {}\n{detail}\n{:?}\nthe last events:\n{}",
        property.sentence(),
        world.config,
        world.last(lines)
    );
}

fn seed() -> Option<u64> {
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok())
}

#[test]
fn properties_hold_for_one_million_events() {
    let mut largest = Largest::new();
    if let Some(seed) = seed() {
        let events = run(seed, &mut largest);
        println!("seed {seed}: {events} events");
        return;
    }
    let (events, seeds) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let work = || {
            let mut largest = Largest::new();
            while events.load(Ordering::Relaxed) < EVENTS {
                events.fetch_add(run(seeds.fetch_add(1, Ordering::Relaxed), &mut largest), Ordering::Relaxed);
            }
            largest
        };
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let found = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            for (what, (value, detail, seed)) in found {
                record(&mut largest, what, value, detail, seed);
            }
        }
    });
    println!("{} events in {} worlds", events.into_inner(), seeds.into_inner());
    for (what, (value, detail, seed)) in largest {
        println!("{what}: {value:.2} ({detail}; seed {seed})");
    }
}

#[test]
fn properties_hold_during_soak() {
    let Some(hours) = std::env::var("SIMULATE_HOURS").ok().and_then(|hours| hours.parse::<f64>().ok()) else {
        println!("SIMULATE_HOURS is not set; run `just simulate HOURS`");
        return;
    };
    let end = Instant::now() + Duration::from_secs_f64(hours * 3600.0);
    let first =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() * 1_000_000;
    let (mut events, mut seed, mut largest) = (0, seed().unwrap_or(first), Largest::new());
    while Instant::now() < end {
        events += run(seed, &mut largest);
        seed += 1;
    }
    println!("{events} events, the last seed is {seed}");
}
