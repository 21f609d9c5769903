//! The lock on a directory, and directories that were removed or are no longer used.

use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use keyferry::model::{FailureClass, Reason};
use keyferry::volume::STATE_FILE;

use super::*;

const CHILD: &str = "KEYFERRY_TEST_PUBLISH_OWNER";

/// Publishes and holds the lock until it is killed.
#[test]
#[ignore = "the child process of other tests"]
fn child() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    let mut publisher = Volume::open(directory(PathBuf::from(root)));
    publisher.publish(OLD);
    loop {
        std::thread::park();
    }
}

fn spawn_child(root: &Path) -> Child {
    let child = Command::new(std::env::current_exe().expect("own path"))
        .args(["--ignored", "--exact", "owner::child"])
        .env(CHILD, root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("child");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while visible(root) != expected(OLD) {
        assert!(std::time::Instant::now() < deadline, "the child publishes");
        std::thread::yield_now();
    }
    child
}

#[test]
fn second_agent_is_rejected_until_first_exits() {
    let volume = memory();
    let root = volume.path().join("data");
    fs::create_dir(&root).expect("mkdir");
    let mut child = spawn_child(&root);
    let before = tree(&root);
    let failure = Publisher::open(&directory(root.clone())).err().expect("rejected");
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::DirectoryUnusable));
    let expected_text = format!(
        "failed to lock output directory {}: another agent (PID {}) publishes to it; give each agent its own directory",
        root.display(),
        child.id()
    );
    assert_eq!(failure.message, expected_text);
    assert_eq!(tree(&root), before, "nothing is swept, and there is no lock file");
    child.kill().expect("kill");
    child.wait().expect("wait");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(NEW);
    assert_clean(&root, NEW);
}

#[test]
fn removed_directory_is_re_created() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    fs::remove_dir_all(&root).expect("remove");
    assert_eq!(publisher.publish(OLD), Published::Swapped);
    assert_clean(&root, OLD);
    assert!(Publisher::open(&directory(root.clone())).is_err(), "the new directory is locked too");

    let aside = volume.path().join("aside");
    fs::rename(&root, &aside).expect("rename");
    fs::create_dir(&root).expect("mkdir");
    publisher.publish(NEW);
    assert_clean(&root, NEW);
    assert_eq!(visible(&aside), expected(OLD), "the moved directory is unchanged");
    assert_eq!(fs::metadata(&root).expect("root").mode() & 0o7777, 0o755);
}

#[test]
fn missing_volume_is_reported_with_remedy() {
    let volume = memory();
    let parent = volume.path().join("volume");
    fs::create_dir(&parent).expect("mkdir");
    let mut publisher = Volume::open(directory(parent.join("data")));
    publisher.publish(OLD);
    fs::remove_dir_all(&parent).expect("remove");
    let failure = publisher.try_publish(&set(OLD)).expect_err("no parent");
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::DirectoryUnusable));
    assert!(
        failure.message.ends_with(&format!("its parent {} no longer exists; re-create the pod", parent.display())),
        "{failure}"
    );
}

#[test]
fn retired_directory_keeps_only_unmanaged_files() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    fs::write(root.join(STATE_FILE), "{}").expect("write");
    // An incomplete set of a crash, and files that keyferry did not create.
    fs::create_dir(root.join("..2026_11_24_16_05_37.0000000001")).expect("mkdir");
    fs::write(root.join("..2026_11_24_16_05_37.0000000001/password"), "half").expect("write");
    fs::write(root.join("notes"), "mine").expect("write");
    std::os::unix::fs::symlink("notes", root.join("link")).expect("symlink");
    publisher.publisher.retire().expect("retired");
    let left: Vec<String> = tree(&root).into_keys().collect();
    assert_eq!(left, ["link", "notes"]);
    assert_eq!(Volume::open(directory(root.clone())).publish(OLD), Published::Swapped, "it is unlocked and usable");
}
