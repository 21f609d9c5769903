//! Readers and crashes: the visible set is complete at any time.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde_json::json;

use crate::setup::{SOON, Setup, login};

/// Opens the set once and reads both files from it, as an application should.
fn read_pair(directory: &Path) -> Result<(String, String)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let set = openat(CWD, directory.join("..data"), flags, Mode::empty()).context("no set")?;
    Ok((read_at(&set, "username")?, read_at(&set, "password")?))
}

fn read_at(set: impl AsFd, name: &str) -> Result<String> {
    let file = openat(set, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(std::io::read_to_string(std::fs::File::from(file))?)
}

/// A user name and password with the same number, which identifies the pair.
fn pair(round: u64) -> serde_json::Value {
    login(&format!("Nutzer-{round}"), &format!("Losung-{round}"))
}

fn matches((username, password): &(String, String)) -> bool {
    username.strip_prefix("Nutzer-") == password.strip_prefix("Losung-")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reader_sees_consistent_pairs_in_ten_thousand_reads() -> Result<()> {
    Setup::shared("reader", async |setup| {
        setup.case.put(&pair(0)).await?;
        let mut agent = setup.agent(&["run"], &[("KEYFERRY_REFRESH", "1s"), ("KEYFERRY_MIRROR", "")])?;
        setup.file_is(&mut agent, "password", "Losung-0").await?;
        let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted, directory) = (Arc::clone(&stop), Arc::clone(&reads), setup.case.directory.clone());
        let reader = std::thread::spawn(move || {
            let (mut sets, mut retried) = (std::collections::BTreeSet::new(), 0_u32);
            while !stopped.load(Ordering::Relaxed) {
                match read_pair(&directory) {
                    Ok(pair) => {
                        assert!(matches(&pair), "a mixed pair: {pair:?}");
                        sets.insert(pair.0);
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    // The old set was removed after its directory was opened: retry with the new set.
                    Err(_) => retried += 1,
                }
            }
            (sets.len(), retried)
        });
        let mut round = 0;
        while reads.load(Ordering::Relaxed) < 10_000 || round < 20 {
            round += 1;
            setup.case.put(&pair(round)).await?;
            agent.signal(rustix::process::Signal::HUP)?;
            setup.file_is(&mut agent, "password", &format!("Losung-{round}")).await?;
        }
        stop.store(true, Ordering::Relaxed);
        let (sets, retried) = reader.join().expect("the reader saw no mixed pair");
        let reads = reads.load(Ordering::Relaxed);
        println!("{reads} reads over {round} rotations saw {sets} sets; {retried} reads were retried");
        assert!(reads >= 10_000 && sets >= 10, "{reads} reads, {sets} sets");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn sigkill_at_any_time_leaves_complete_set_and_restart_continues() -> Result<()> {
    Setup::shared("kill", async |setup| {
        // With many keys, a publication takes long enough to be interrupted.
        let many = |round: u64| {
            let mut data = pair(round);
            for key in 0..200 {
                data[format!("key{key}")] = json!(format!("Wert-{round}-{key}"));
            }
            data
        };
        setup.case.put(&many(0)).await?;
        let changes = [("KEYFERRY_REFRESH", "1s"), ("KEYFERRY_MIRROR", "")];
        let mut agent = setup.agent(&["run"], &changes)?;
        setup.file_is(&mut agent, "password", "Losung-0").await?;
        for round in 1..=25_u64 {
            setup.case.put(&many(round)).await?;
            agent.signal(rustix::process::Signal::HUP)?;
            tokio::time::sleep(Duration::from_micros(fastrand::u64(500..25_000))).await;
            agent.kill().await?;
            let seen = read_pair(&setup.case.directory).context("the set exists after the kill")?;
            assert!(matches(&seen), "a mixed pair: {seen:?}");
            for key in [0, 99, 199] {
                let text = setup.case.read(&format!("key{key}")).context("every file of the set exists")?;
                assert_eq!(
                    Some(text.as_str()),
                    seen.0.strip_prefix("Nutzer-").map(|r| format!("Wert-{r}-{key}")).as_deref()
                );
            }
            agent = setup.agent(&["run"], &changes)?;
            setup.file_is(&mut agent, "password", &format!("Losung-{round}")).await?;
            agent
                .wait_for("leftovers are removed", SOON, || {
                    let left = std::fs::read_dir(&setup.case.directory).into_iter().flatten().filter_map(Result::ok);
                    let sets = left.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count();
                    async move { (sets == 1).then_some(()) }
                })
                .await?;
        }
        Ok(())
    })
    .await
}
