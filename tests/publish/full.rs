//! Full volumes and the size limit.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use keyferry::model::{FailureClass, Reason};

use super::*;
use crate::skip::skip_test;

#[test]
fn set_above_limit_keeps_previous_set() {
    let volume = memory();
    let mut settings = directory(volume.path().join("data"));
    settings.max_bytes = Some(100);
    let mut publisher = Volume::open(settings.clone());
    publisher.publish(OLD);
    let large = "x".repeat(101);
    let failure = publisher.try_publish(&set(&[("username", &large)])).expect_err("too large");
    assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::NoSpace));
    assert_clean(&settings.path, OLD);
}

/// A tmpfs for one test.
pub(crate) struct Tmpfs(TempDir);

impl Tmpfs {
    /// `None` if the test has no permission to mount. Prints that the test is skipped.
    pub(crate) fn mount(test: &str, options: &str) -> Option<Self> {
        let at = tempfile::tempdir().expect("tempdir");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        skip_test(test, "needs root, to mount a tmpfs");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        let status = Command::new("mount").args(["-o", &options]).arg(self.path()).status().expect("mount");
        assert!(status.success(), "{options}");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

#[test]
fn first_publication_requires_space_for_two_copies() {
    let Some(tmpfs) = Tmpfs::mount("first_publication_requires_space_for_two_copies", "size=64k") else {
        return;
    };
    let root = tmpfs.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    let half = "x".repeat(33 * 1024);
    let failure = publisher.try_publish(&set(&[("a", &half)])).expect_err("two copies do not fit");
    assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::NoSpace));
    assert!(failure.message.contains("at least 128Ki"), "{failure}");
    assert!(!failure.message.contains("last published set"), "nothing is published yet: {failure}");
    assert_eq!(tree(&root), BTreeMap::new());
    let third = "x".repeat(20 * 1024);
    publisher.publish(&[("a", &third)]);
    publisher.publish(&[("a", &third.replace('x', "y"))]);
}

#[test]
fn full_volume_keeps_previous_set() {
    for options in ["size=96k", "size=10m,nr_inodes=30"] {
        let Some(tmpfs) = Tmpfs::mount("full_volume_keeps_previous_set", options) else { return };
        let root = tmpfs.path().join("data");
        let mut publisher = Volume::open(directory(root.clone()));
        publisher.publish(OLD);
        // Another container fills the volume.
        let mut fillers = 0;
        while fs::write(tmpfs.path().join(format!("filler{fillers}")), vec![0; 4096]).is_ok() && fillers < 100 {
            fillers += 1;
        }
        let failure = publisher.try_publish(&set(NEW)).expect_err("full");
        assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::NoSpace), "{failure}");
        assert!(failure.message.ends_with("; the last published set is unchanged"), "{failure}");
        if options == "size=96k" {
            let expected_text = "not enough space in the volume: 64 KiB needed, 0 of 96 KiB free, at least 64 KiB used \
                                 by files that keyferry did not create; remove them or raise sizeLimit";
            assert!(failure.message.contains(expected_text), "{failure}");
        } else {
            assert!(failure.message.contains("not enough inodes in the volume"), "{failure}");
        }
        assert_clean(&root, OLD);
        for filler in 0..=fillers {
            fs::remove_file(tmpfs.path().join(format!("filler{filler}"))).ok();
        }
        publisher.publish(NEW);
        assert_clean(&root, NEW);
    }
}

/// The check before writing cannot account for concurrent writers. A second writer uses the space here, so that some
/// publications fail while they write.
#[test]
fn volume_filled_during_write_keeps_previous_set() {
    let Some(tmpfs) = Tmpfs::mount("volume_filled_during_write_keeps_previous_set", "size=512k") else { return };
    let root = tmpfs.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    let names: Vec<String> = (0..20).map(|number| format!("file{number:02}")).collect();
    let large = |fill: char| {
        let text = fill.to_string().repeat(8 * 1024);
        set(&names.iter().map(|name| (name.as_str(), text.as_str())).collect::<Vec<_>>())
    };
    publisher.try_publish(&large('a')).expect("publish");
    let stop = Arc::new(AtomicBool::new(false));
    let filler = {
        let (path, stop) = (tmpfs.path().join("filler"), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                fs::write(&path, vec![0; 400 * 1024]).ok();
                fs::remove_file(&path).ok();
            }
        })
    };
    let mut failed = 0;
    let mut shown = 'a';
    for round in 0..400 {
        let fill = if round % 2 == 0 { 'b' } else { 'a' };
        match publisher.try_publish(&large(fill)) {
            Ok(_) => shown = fill,
            Err(failure) => {
                assert_eq!(failure.reason, Reason::NoSpace, "{failure}");
                failed += 1;
            }
        }
        let seen = visible(&root);
        assert_eq!(seen.len(), names.len());
        assert!(seen.values().all(|text| text.starts_with(shown) && text.len() == 8 * 1024));
        let sets = tree(&root).keys().filter(|name| name.starts_with("..2") && !name.contains('/')).count();
        assert_eq!(sets, 1, "the incomplete set is removed");
    }
    stop.store(true, Ordering::Relaxed);
    filler.join().expect("filler");
    println!("{failed} of 400 publications had not enough space");
}
