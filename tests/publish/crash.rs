//! Crashes and kills. The child process is this test binary, which runs the ignored test below.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyferry::volume::{DATA_LINK, MANIFEST_FILE};
use std::os::unix::fs::MetadataExt;

use super::*;

const CHILD: &str = "KEYFERRY_TEST_PUBLISH_CHILD";

/// `<mode>:<directory>[:<step>]`: `crash` publishes NEW and aborts after the step, `loop` alternates until killed,
/// `umask` publishes OLD under a strict umask.
#[test]
#[ignore = "the child process of other tests"]
fn child() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let mut words = order.split(':');
    let mode = words.next().expect("mode");
    let settings = directory(words.next().expect("directory").into());
    match mode {
        "crash" => {
            let last: u8 = words.next().and_then(|step| step.parse().ok()).expect("step");
            let mut publisher = Publisher::open(&settings).expect("open");
            let (new, now) = (set(NEW), Timestamp::now());
            let mut after = |step| {
                if step == last {
                    std::process::abort();
                }
            };
            publisher.publish_in_steps(&new, &manifest(&new, "new", 2), &settings, now, &mut after).expect("publish");
        }
        "umask" => {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            let mut publisher = Volume::open(settings);
            publisher.publish(OLD);
        }
        "loop" => {
            let mut publisher = Volume::open(settings);
            loop {
                publisher.publish(OLD);
                publisher.publish(NEW);
            }
        }
        _ => panic!("{order}"),
    }
}

fn spawn_child(order: &str) -> std::process::Child {
    Command::new(std::env::current_exe().expect("own path"))
        .args(["--ignored", "--exact", "crash::child"])
        .env(CHILD, order)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("child")
}

#[test]
fn umask_does_not_affect_modes() {
    let volume = memory();
    let root = volume.path().join("data");
    let status = spawn_child(&format!("umask:{}", root.display())).wait().expect("child");
    assert!(status.success());
    assert_clean(&root, OLD);
    assert_eq!(fs::metadata(root.join("tls/key")).expect("key").mode() & 0o7777, 0o444);
    assert_eq!(fs::metadata(root.join("tls")).expect("tls").mode() & 0o7777, 0o755);
}

#[test]
fn crash_after_any_step_leaves_one_whole_set() {
    use std::os::unix::process::ExitStatusExt;
    for first in [true, false] {
        for step in 2..=10_u8 {
            let volume = memory();
            let root = volume.path().join("data");
            if !first {
                let mut publisher = Volume::open(directory(root.clone()));
                publisher.publish(OLD);
            }
            let status = spawn_child(&format!("crash:{}:{step}", root.display())).wait().expect("child");
            assert_eq!(status.signal(), Some(6), "the child reached step {step} ({status})");

            let before: &[_] = if first { &[] } else { OLD };
            let seen = if step < 8 { before } else { NEW };
            assert_eq!(visible(&root), expected(seen), "after step {step}, first: {first}: {:#?}", tree(&root));

            let mut publisher = Volume::open(directory(root.clone()));
            let adopted = publisher.publisher.adopt().expect("readable").and_then(|adopted| adopted.manifest.layout);
            let layout = if step >= 8 { Some("new") } else { (!first).then_some("layout") };
            assert_eq!(adopted.as_deref(), layout, "the manifest is the one of the visible set");
            if step >= 8 || !first {
                assert_clean(&root, seen);
            } else {
                assert_eq!(tree(&root), BTreeMap::new(), "swept after step {step}");
            }
            publisher.publish(NEW);
            assert_clean(&root, NEW);
        }
    }
}

#[test]
fn kill_at_any_moment_leaves_one_whole_set() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    drop(publisher);
    for _ in 0..40 {
        let before = fs::read_link(root.join(DATA_LINK)).expect("..data");
        let mut child = spawn_child(&format!("loop:{}", root.display()));
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::read_link(root.join(DATA_LINK)).expect("..data") == before {
            assert!(Instant::now() < deadline, "the child publishes");
            std::thread::yield_now();
        }
        // Kill the child at a random point of the next publications.
        let spin = Instant::now() + Duration::from_micros(fastrand::u64(0..3000));
        while Instant::now() < spin {
            std::hint::spin_loop();
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
        let seen = visible(&root);
        // Visible symlinks of the other set can be missing or dangling. The readable files are always one complete set.
        assert!(seen == expected(OLD) || seen == expected(NEW), "{:#?}", tree(&root));
        let mut publisher = Volume::open(directory(root.clone()));
        let adopted = publisher.publisher.adopt().expect("readable").expect("a whole set with its manifest");
        assert_eq!(adopted.files.files.len(), seen.len());
        publisher.publish(OLD);
        assert_clean(&root, OLD);
    }
}

#[test]
fn temporary_manifest_of_crash_is_swept() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    let before = tree(&root);
    let left = root.join(format!("{DATA_LINK}/{MANIFEST_FILE}.tmp"));
    fs::write(&left, "{").expect("write");
    assert_eq!(publisher.publish(OLD), Published::Unchanged, "the temporary file is not a difference");
    drop(publisher);
    Volume::open(directory(root.clone()));
    assert_eq!(tree(&root), before);
}

/// `..data` points to a set whose directory cannot be opened. Its name is too long, which simulates an error such as
/// ENOMEM.
#[test]
fn unreadable_set_is_an_error_not_absence() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    fs::remove_file(root.join(DATA_LINK)).expect("remove");
    let unreadable = format!("..2026_11_24_16_05_37.{}", "0".repeat(300));
    std::os::unix::fs::symlink(unreadable, root.join(DATA_LINK)).expect("symlink");
    let before = tree(&root);
    let failure = publisher.publisher.adopt().err().expect("an error, not None");
    assert!(failure.message.starts_with("failed to read the published set"), "{failure}");
    publisher.try_publish(&set(OLD)).expect_err("it is unknown which set is visible");
    drop(publisher);
    let failure = Publisher::open(&directory(root.clone())).err().expect("an error, not a sweep");
    assert_eq!(failure.class, keyferry::model::FailureClass::Local, "{failure}");
    assert_eq!(tree(&root), before, "nothing is removed");
}
