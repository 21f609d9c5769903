//! Directories that are rejected, each with a remedy.

use std::os::unix::fs::symlink;

use keyferry::model::{FailureClass, Reason};
use keyferry::volume::STATE_FILE;

use super::*;

#[test]
fn unusable_directory_is_rejected_with_remedy() {
    let volume = memory();
    let open = |directory: &Directory| Publisher::open(directory).err().expect("rejected");

    let failure = open(&directory(volume.path().join("absent/data")));
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::DirectoryUnusable));
    assert!(failure.message.contains("mount an emptyDir with `medium: Memory`"), "{failure}");

    let sticky = volume.path().join("sticky");
    fs::create_dir(&sticky).expect("mkdir");
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777)).expect("chmod");
    let failure = open(&directory(sticky));
    assert_eq!(failure.reason, Reason::DirectoryUnusable);
    assert!(failure.message.contains("sticky") && failure.message.contains("first container"), "{failure}");

    symlink("/elsewhere/data", volume.path().join("link")).expect("symlink");
    let failure = open(&directory(volume.path().join("link")));
    assert!(failure.message.contains("it is a symlink to /elsewhere/data; set directory.path"), "{failure}");
    fs::write(volume.path().join("file"), "x").expect("write");
    let failure = open(&directory(volume.path().join("file")));
    assert!(failure.message.contains("it is a file; remove it"), "{failure}");

    let on_disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("tempdir");
    let mut settings = directory(on_disk.path().join("data"));
    let failure = open(&settings);
    assert!(failure.message.contains("directory.allowDisk: true (KEYFERRY_ALLOW_DISK)"), "{failure}");
    assert!(!settings.path.exists(), "the created directory is removed");
    fs::create_dir(&settings.path).expect("mkdir");
    open(&settings);
    assert!(settings.path.exists(), "an existing directory stays");
    settings.allow_disk = true;
    let mut publisher = Volume::open(settings.clone());
    publisher.publish(OLD);
    assert_clean(&settings.path, OLD);
    publisher.settings.allow_disk = false;
    let failure = publisher.try_publish(&set(NEW)).expect_err("no longer allowed");
    assert!(failure.message.contains("not in memory"), "{failure}");
    assert_clean(&settings.path, OLD);

    if rustix::process::geteuid().is_root() {
        let other_owner = volume.path().join("other-owner");
        fs::create_dir(&other_owner).expect("mkdir");
        std::os::unix::fs::chown(&other_owner, Some(65532), None).expect("chown");
        assert!(open(&directory(other_owner)).message.contains("owned by UID 65532"));
    }
}

#[test]
fn unmanaged_file_is_never_replaced() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    fs::write(root.join("username"), "mine").expect("write");
    fs::write(root.join("..keep"), "mine").expect("write");
    fs::write(root.join(STATE_FILE), "{}").expect("write");
    let failure = publisher.try_publish(&set(OLD)).expect_err("rejected");
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::DirectoryUnusable));
    assert!(failure.message.contains("username"), "{failure}");
    fs::remove_file(root.join("username")).expect("remove");
    publisher.publish(OLD);
    drop(publisher);
    let mut publisher = Volume::open(directory(root.clone()));
    assert!(root.join("..keep").exists() && root.join(STATE_FILE).exists(), "{:#?}", tree(&root));

    let failure = publisher.try_publish(&set(&[("a", "x"), ("a/b", "x")])).expect_err("collision");
    assert_eq!(failure.reason, Reason::RenderFailed);
    assert_eq!(visible(&root), expected(OLD));
}

#[test]
fn data_entry_that_is_not_a_symlink_is_rejected_with_remedy() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    fs::create_dir(root.join("..data")).expect("mkdir");
    let failure = publisher.try_publish(&set(OLD)).expect_err("rejected");
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::DirectoryUnusable));
    assert!(failure.message.contains(&format!("remove it (rm -r {}/..data)", root.display())), "{failure}");
}

#[test]
fn read_only_volume_is_reported_with_remedy() {
    let Some(tmpfs) = full::Tmpfs::mount("read_only_volume_is_reported_with_remedy", "size=1m") else { return };
    let root = tmpfs.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    tmpfs.remount("ro");
    let failure = publisher.try_publish(&set(NEW)).expect_err("read-only");
    assert!(failure.message.contains("remove `readOnly: true` from the agent's volumeMount"), "{failure}");
    assert_clean(&root, OLD);
    let failure = Publisher::open(&directory(tmpfs.path().join("new"))).err().expect("rejected");
    assert!(failure.message.contains("remove `readOnly: true`"), "{failure}");
}
