//! Layout of the directory, repairs, and what stays unchanged.

use std::os::unix::fs::MetadataExt;

use keyferry::model::Mode;
use keyferry::volume::{DATA_LINK, MANIFEST_FILE};

use super::*;

#[test]
fn layout_matches_kubelet_volumes() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    assert_eq!(publisher.publish(OLD), Published::Swapped);
    assert_clean(&root, OLD);

    let target = fs::read_link(root.join(DATA_LINK)).expect("..data");
    assert_eq!(target.components().count(), 1, "a relative link, so that the volume can be mounted anywhere");
    assert_eq!(fs::read_link(root.join("username")).expect("link"), Path::new("..data/username"));
    assert_eq!(fs::read_link(root.join("tls")).expect("link"), Path::new("..data/tls"));
    let modes = tree(&root);
    assert_eq!(modes[&format!("{}/tls", target.display())], "0755");
    assert_eq!(modes[&format!("{}/tls/key", target.display())], "0444");
    assert_eq!(modes[&format!("{}/{MANIFEST_FILE}", target.display())], "0444", "readable like the files");
    assert!(!modes.contains_key(MANIFEST_FILE), "no visible link");
    assert_eq!(fs::metadata(&root).expect("root").mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(root.join(DATA_LINK)).expect("set").mode() & 0o7777, 0o755);
}

#[test]
fn new_set_replaces_previous_set_completely() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    let inode = fs::metadata(&root).expect("root").ino();
    assert_eq!(publisher.publish(NEW), Published::Swapped);
    assert_clean(&root, NEW);
    assert_eq!(publisher.publish(&[]), Published::Swapped);
    assert_clean(&root, &[]);
    assert_eq!(fs::metadata(&root).expect("root").ino(), inode, "the directory itself is never re-created");
}

#[test]
fn equal_set_changes_nothing_even_after_restart() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    let before = tree(&root);
    assert_eq!(publisher.publish(OLD), Published::Unchanged);
    drop(publisher);
    let mut restarted = Volume::open(directory(root.clone()));
    assert_eq!(restarted.publish(OLD), Published::Unchanged);
    assert_eq!(tree(&root), before);
}

#[test]
fn wrong_modes_are_repaired_in_place() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    let before = tree(&root);
    fs::set_permissions(root.join("password"), fs::Permissions::from_mode(0o400)).expect("chmod");
    fs::set_permissions(root.join("tls"), fs::Permissions::from_mode(0o700)).expect("chmod");
    assert_ne!(tree(&root), before);
    assert_eq!(publisher.publish(OLD), Published::ModesRepaired);
    assert_eq!(tree(&root), before);

    let mut stricter = set(OLD);
    let key = FilePath::new("tls/key").expect("path");
    stricter.files.get_mut(&key).expect("entry").mode = Some(Mode::new(0o400).expect("mode"));
    assert_eq!(publisher.try_publish(&stricter).expect("publish"), Published::ModesRepaired);
    assert_eq!(fs::metadata(root.join("tls/key")).expect("key").mode() & 0o7777, 0o400);
}

#[test]
fn changed_content_or_missing_link_is_repaired() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    let tampers: [&dyn Fn(); 5] = [
        &|| fs::remove_file(root.join("username")).expect("remove link"),
        &|| {
            fs::set_permissions(root.join("password"), fs::Permissions::from_mode(0o644)).expect("chmod");
            fs::write(root.join("password"), "OLD").expect("write");
        },
        &|| fs::write(root.join("..data/extra"), "x").expect("write"),
        &|| {
            fs::remove_file(root.join("..data/password")).expect("remove");
            let fifo = rustix::fs::FileType::Fifo;
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, root.join("..data/password"), fifo, mode, 0).expect("mkfifo");
        },
        &|| fs::remove_file(root.join("..data/gone")).expect("remove"),
    ];
    for tamper in tampers {
        tamper();
        assert_eq!(publisher.publish(OLD), Published::Swapped);
        assert_clean(&root, OLD);
    }
}

#[test]
fn files_get_volume_group_if_fs_group_is_set() {
    let volume = memory();
    // For `fsGroup` the kubelet sets the group of the root and its setgid bit. The test has permission to set this
    // group.
    let group = if rustix::process::geteuid().is_root() { 3000 } else { rustix::process::getegid().as_raw() };
    std::os::unix::fs::chown(volume.path(), None, Some(group)).expect("chgrp");
    fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o2775)).expect("chmod");
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    for path in ["password", "tls/key"] {
        let meta = fs::metadata(root.join(path)).expect(path);
        assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o440, group), "{path}");
    }
    for path in ["", "tls", DATA_LINK] {
        let meta = fs::metadata(root.join(path)).expect(path);
        assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o755, group), "{path:?}");
    }
    assert_eq!(publisher.publish(OLD), Published::Unchanged);
}

#[test]
fn publication_uses_current_modes_and_limit() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    let inode = fs::metadata(root.join(DATA_LINK)).expect("set").ino();
    publisher.settings.file_mode = Some(Mode::new(0o400).expect("mode"));
    assert_eq!(publisher.publish(OLD), Published::ModesRepaired);
    for path in ["password", "tls/key", &format!("{DATA_LINK}/{MANIFEST_FILE}")] {
        assert_eq!(fs::metadata(root.join(path)).expect(path).mode() & 0o7777, 0o400, "{path}");
    }
    assert_eq!(fs::metadata(root.join(DATA_LINK)).expect("set").ino(), inode, "no new set for a mode");
    assert_eq!(publisher.publish(OLD), Published::Unchanged);

    publisher.settings.max_bytes = Some(5);
    assert_eq!(publisher.try_publish(&set(NEW)).expect_err("too large").reason, keyferry::model::Reason::NoSpace);
    publisher.settings.path = volume.path().join("other");
    let failure = publisher.try_publish(&set(NEW)).expect_err("another path");
    assert!(failure.message.contains("other") && !volume.path().join("other").exists(), "{failure}");
}

#[test]
fn changed_sources_of_files_are_not_a_difference() {
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    let before = tree(&root);
    let mut other = set(OLD);
    for file in other.files.values_mut() {
        file.sources = BTreeSet::from([source("other")]);
    }
    assert_eq!(publisher.try_publish(&other).expect("publish"), Published::Unchanged);
    assert_eq!(tree(&root), before);
}
