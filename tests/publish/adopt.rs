//! Adoption of the visible set by the next process.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use keyferry::model::{AdoptedSet, Mode};
use keyferry::volume::{DATA_LINK, MANIFEST_FILE};

use super::*;

fn adopt(root: &Path) -> Option<AdoptedSet> {
    Publisher::open(&directory(root.to_path_buf())).expect("open").adopt().expect("readable")
}

#[test]
fn adopted_set_has_files_sources_versions_and_time() {
    let volume = memory();
    let root = volume.path().join("data");
    assert!(adopt(&root).is_none(), "nothing is published yet");
    let mut files = set(OLD);
    let key = FilePath::new("tls/key").expect("path");
    let entry = files.files.get_mut(&key).expect("entry");
    entry.mode = Some(Mode::new(0o400).expect("mode"));
    entry.sources = BTreeSet::from([source("certificate"), source("s")]);
    let wanted = manifest(&files, "the layout", 7);
    let now: Timestamp = "2026-11-24T16:05:37.25Z".parse().expect("timestamp");
    let settings = directory(root.clone());
    let mut publisher = Publisher::open(&settings).expect("open");
    publisher.publish(&files, &wanted, &settings, now).expect("publish");
    drop(publisher);

    let adopted = adopt(&root).expect("a set");
    assert!(adopted.files == files, "bytes, configured modes, and sources");
    assert_eq!(adopted.manifest, wanted);
    assert_eq!(adopted.published, now);
}

#[test]
fn changed_manifest_of_equal_set_is_replaced_in_place() {
    let volume = memory();
    let root = volume.path().join("data");
    let settings = directory(root.clone());
    let mut publisher = Publisher::open(&settings).expect("open");
    let files = set(OLD);
    let first: Timestamp = "2026-11-24T16:05:37Z".parse().expect("timestamp");
    let mut publish = |version| {
        let now = first + std::time::Duration::from_secs(version - 1);
        publisher.publish(&files, &manifest(&files, "layout", version), &settings, now).expect("publish")
    };
    assert_eq!(publish(1), Published::Swapped);
    let before = tree(&root);
    let inode = || fs::metadata(root.join(DATA_LINK).join(MANIFEST_FILE)).expect("manifest").ino();
    let manifest_before = inode();
    assert_eq!(publish(1), Published::Unchanged);
    assert_eq!(inode(), manifest_before, "an equal manifest is not written again");
    assert_eq!(publish(2), Published::Unchanged, "no new generation for a manifest alone");
    assert_eq!(tree(&root), before);
    assert_ne!(inode(), manifest_before, "replaced by rename, so that readers see a complete file");
    drop(publisher);
    let adopted = adopt(&root).expect("a set");
    assert_eq!(adopted.manifest, manifest(&files, "layout", 2));
    assert_eq!(adopted.published, first, "the time of publication stays");
}

#[test]
fn set_without_usable_manifest_is_kept_but_not_adopted() {
    let place = |root: &Path| root.join(DATA_LINK).join(MANIFEST_FILE);
    let fifo = |root: &Path| {
        fs::remove_file(place(root)).expect("remove");
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, place(root), fifo, mode, 0).expect("mkfifo");
    };
    let overwrite = |root: &Path, text: &str| {
        fs::set_permissions(place(root), fs::Permissions::from_mode(0o644)).expect("chmod");
        fs::write(place(root), text).expect("write");
        fs::set_permissions(place(root), fs::Permissions::from_mode(0o444)).expect("chmod");
    };
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let damages: [Damage<'_>; 6] = [
        ("missing", &|root| fs::remove_file(place(root)).expect("remove")),
        ("empty", &|root| overwrite(root, "")),
        ("of another format version", &|root| {
            let text = fs::read_to_string(place(root)).expect("read");
            overwrite(root, &text.replacen("{\"version\":", "{\"version\":9", 1));
        }),
        ("a FIFO", &fifo),
        ("names a missing file", &|root| fs::remove_file(root.join("..data/gone")).expect("remove")),
        ("omits a file", &|root| fs::write(root.join("..data/extra"), "x").expect("write")),
    ];
    for (what, damage) in damages {
        let volume = memory();
        let root = volume.path().join("data");
        Volume::open(directory(root.clone())).publish(OLD);
        damage(&root);
        let before = visible(&root);
        assert!(adopt(&root).is_none(), "{what}");
        assert_eq!(visible(&root), before, "{what}");
        Volume::open(directory(root.clone())).publish(OLD);
        assert!(adopt(&root).is_some(), "{what}");
        assert_clean(&root, OLD);
    }
}

#[test]
fn manifest_contains_no_values() {
    let volume = memory();
    let root = volume.path().join("data");
    let files = set(&[("password", "pl@nted-value"), ("long", &"w0rd".repeat(1000))]);
    Volume::open(directory(root.clone())).try_publish(&files).expect("publish");
    let text = fs::read_to_string(root.join(DATA_LINK).join(MANIFEST_FILE)).expect("manifest");
    assert!(text.contains("password") && text.contains("kv-v2:secret/s"), "{text}");
    assert!(!text.contains("pl@nted") && !text.contains("w0rd") && !text.contains("4000"), "{text}");
}
