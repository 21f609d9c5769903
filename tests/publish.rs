//! The publisher against real file systems: what an application sees before, during and after a publication, a crash, a
//! kill, a full volume.
#![allow(clippy::disallowed_methods, reason = "tests write files, start threads and read the clock")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyferry::disk::{DATA_LINK, Published, Publisher, STATE_FILE};
use keyferry::model::{Directory, FailureClass, FileEntry, FilePath, FileSet, Mode, Reason, SecretBytes};
use skip::skip_test;
use tempfile::TempDir;

#[path = "support/skip.rs"]
mod skip;

const OLD: &[(&str, &str)] = &[("username", "old"), ("password", "old"), ("tls/key", "old"), ("gone", "old")];
const NEW: &[(&str, &str)] =
    &[("username", "new!"), ("password", "new!"), ("tls/key", "new!"), ("added/deep/er", "new!")];

fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// A volume in memory.
fn volume() -> TempDir {
    tempfile::Builder::new().prefix("keyferry-test").tempdir_in("/dev/shm").expect("tempdir in /dev/shm")
}

fn directory(path: PathBuf) -> Directory {
    Directory { path, allow_disk: false, file_mode: None, max_bytes: None }
}

fn set(files: &[(&str, &str)]) -> FileSet {
    FileSet {
        files: files
            .iter()
            .map(|(path, text)| {
                let entry = FileEntry { bytes: Arc::new(SecretBytes::from(*text)), mode: None, sources: std::collections::BTreeSet::new() };
                (FilePath::new(path).expect("path"), entry)
            })
            .collect(),
    }
}

/// All files below `root`, as `find` would list them, with links and modes: what a failed assertion shows.
fn tree(root: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, at: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(at).expect("readable directory") {
            let path = entry.expect("entry").path();
            let meta = fs::symlink_metadata(&path).expect("metadata");
            let name = path.strip_prefix(root).expect("below root").display().to_string();
            let text = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).expect("link").display())
            } else {
                format!("{:04o}", meta.permissions().mode() & 0o7777)
            };
            found.insert(name, text);
            if meta.is_dir() {
                walk(root, &path, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

/// What an application reads through the visible names; empty before the first publication.
fn visible(root: &Path) -> BTreeMap<String, String> {
    fn walk(at: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(at).expect("readable directory") {
            let entry = entry.expect("entry");
            let name = format!("{prefix}{}", entry.file_name().to_str().expect("UTF-8"));
            if name.starts_with("..") {
                continue;
            }
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{name}/"), found);
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                found.insert(name, text);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, "", &mut found);
    found
}

fn expected(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(path, text)| ((*path).to_string(), (*text).to_string())).collect()
}

fn assert_clean(root: &Path, files: &[(&str, &str)]) {
    assert_eq!(visible(root), expected(files), "{:#?}", tree(root));
    let reserved: Vec<_> = fs::read_dir(root)
        .expect("readable")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .filter(|name| name.starts_with(".."))
        .collect();
    assert_eq!(reserved.len(), 2, "only ..data and its directory: {:#?}", tree(root));
}

#[test]
fn the_layout_is_the_kubelets() {
    let volume = volume();
    let root = volume.path().join("data");
    let mut publisher = Publisher::open(&directory(root.clone())).expect("open");
    assert_eq!(publisher.publish(&set(OLD), now()).expect("publish"), Published::Swapped);
    assert_clean(&root, OLD);

    let target = fs::read_link(root.join(DATA_LINK)).expect("..data");
    assert_eq!(target.components().count(), 1, "a relative link, so that the volume can be mounted anywhere");
    assert_eq!(fs::read_link(root.join("username")).expect("link"), Path::new("..data/username"));
    assert_eq!(fs::read_link(root.join("tls")).expect("link"), Path::new("..data/tls"));
    let modes = tree(&root);
    assert_eq!(modes[&format!("{}/tls", target.display())], "0755");
    assert_eq!(modes[&format!("{}/tls/key", target.display())], "0444");
    assert_eq!(fs::metadata(&root).expect("root").mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(root.join(DATA_LINK)).expect("set").mode() & 0o7777, 0o755);
}

#[test]
fn a_new_set_replaces_the_old_one_and_leaves_nothing_of_it() {
    let volume = volume();
    let root = volume.path().join("data");
    let mut publisher = Publisher::open(&directory(root.clone())).expect("open");
    publisher.publish(&set(OLD), now()).expect("publish");
    let inode = fs::metadata(&root).expect("root").ino();
    assert_eq!(publisher.publish(&set(NEW), now()).expect("publish"), Published::Swapped);
    assert_clean(&root, NEW);
    assert_eq!(publisher.publish(&set(&[]), now()).expect("publish"), Published::Swapped);
    assert_clean(&root, &[]);
    assert_eq!(fs::metadata(&root).expect("root").ino(), inode, "the directory itself is never made anew");
}

#[test]
fn an_equal_set_touches_nothing_also_after_a_restart() {
    let volume = volume();
    let root = volume.path().join("data");
    let mut publisher = Publisher::open(&directory(root.clone())).expect("open");
    publisher.publish(&set(OLD), now()).expect("publish");
    let before = tree(&root);
    assert_eq!(publisher.publish(&set(OLD), now()).expect("publish"), Published::Unchanged);
    let mut restarted = Publisher::open(&directory(root.clone())).expect("open again");
    assert_eq!(restarted.publish(&set(OLD), now()).expect("publish"), Published::Unchanged);
    assert_eq!(tree(&root), before);
}

#[test]
fn wrong_modes_are_repaired_in_place() {
    let volume = volume();
    let root = volume.path().join("data");
    let mut publisher = Publisher::open(&directory(root.clone())).expect("open");
    publisher.publish(&set(OLD), now()).expect("publish");
    let before = tree(&root);
    fs::set_permissions(root.join("password"), fs::Permissions::from_mode(0o400)).expect("chmod");
    fs::set_permissions(root.join("tls"), fs::Permissions::from_mode(0o700)).expect("chmod");
    assert_ne!(tree(&root), before);
    assert_eq!(publisher.publish(&set(OLD), now()).expect("publish"), Published::ModesRepaired);
    assert_eq!(tree(&root), before);

    let mut stricter = set(OLD);
    let key = FilePath::new("tls/key").expect("path");
    stricter.files.get_mut(&key).expect("entry").mode = Some(Mode::new(0o400).expect("mode"));
    assert_eq!(publisher.publish(&stricter, now()).expect("publish"), Published::ModesRepaired);
    assert_eq!(fs::metadata(root.join("tls/key")).expect("key").mode() & 0o7777, 0o400);
}

#[test]
fn tampered_content_or_a_lost_link_is_healed() {
    let volume = volume();
    let root = volume.path().join("data");
    let mut publisher = Publisher::open(&directory(root.clone())).expect("open");
    publisher.publish(&set(OLD), now()).expect("publish");
    let tampers: [&dyn Fn(); 4] = [
        &|| fs::remove_file(root.join("username")).expect("remove link"),
        &|| {
            fs::set_permissions(root.join("password"), fs::Permissions::from_mode(0o644)).expect("chmod");
            fs::write(root.join("password"), "OLD").expect("write");
        },
        &|| fs::write(root.join("..data/extra"), "x").expect("write"),
        &|| fs::remove_file(root.join("..data/gone")).expect("remove"),
    ];
    for tamper in tampers {
        tamper();
        assert_eq!(publisher.publish(&set(OLD), now()).expect("publish"), Published::Swapped);
        assert_clean(&root, OLD);
    }
}

#[test]
fn the_group_of_the_volume_is_given_to_files_where_fs_group_is_set() {
    let volume = volume();
    // As the kubelet does for `fsGroup`: the root's group and its setgid bit. The group is one that this process may give.
    let group = if rustix::process::geteuid().is_root() { 3000 } else { rustix::process::getegid().as_raw() };
    std::os::unix::fs::chown(volume.path(), None, Some(group)).expect("chgrp");
    fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o2775)).expect("chmod");
    let root = volume.path().join("data");
    let mut publisher = Publisher::open(&directory(root.clone())).expect("open");
    publisher.publish(&set(OLD), now()).expect("publish");
    for path in ["password", "tls/key"] {
        let meta = fs::metadata(root.join(path)).expect(path);
        assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o440, group), "{path}");
    }
    for path in ["", "tls", DATA_LINK] {
        let meta = fs::metadata(root.join(path)).expect(path);
        assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o755, group), "{path:?}");
    }
    assert_eq!(publisher.publish(&set(OLD), now()).expect("publish"), Published::Unchanged);
}

#[test]
fn an_unusable_directory_is_refused_with_what_to_do() {
    let volume = volume();
    let open = |directory: &Directory| Publisher::open(directory).err().expect("refused");

    let failure = open(&directory(volume.path().join("absent/data")));
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::DirectoryUnusable));
    assert!(failure.message.contains("mount a memory emptyDir"), "{failure}");

    let sticky = volume.path().join("sticky");
    fs::create_dir(&sticky).expect("mkdir");
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777)).expect("chmod");
    let failure = open(&directory(sticky));
    assert_eq!(failure.reason, Reason::DirectoryUnusable);
    assert!(failure.message.contains("sticky") && failure.message.contains("first container"), "{failure}");

    symlink(volume.path(), volume.path().join("link")).expect("symlink");
    assert!(open(&directory(volume.path().join("link"))).message.contains("not a directory"));

    let on_disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("tempdir");
    let mut settings = directory(on_disk.path().join("data"));
    let failure = open(&settings);
    assert!(failure.message.contains("allowDisk"), "{failure}");
    settings.allow_disk = true;
    let mut publisher = Publisher::open(&settings).expect("allowed");
    publisher.publish(&set(OLD), now()).expect("publish");
    assert_clean(&settings.path, OLD);

    if rustix::process::geteuid().is_root() {
        let foreign = volume.path().join("foreign");
        fs::create_dir(&foreign).expect("mkdir");
        std::os::unix::fs::chown(&foreign, Some(65532), None).expect("chown");
        assert!(open(&directory(foreign)).message.contains("belongs to UID 65532"));
    }
}

#[test]
fn what_is_not_ours_is_never_replaced() {
    let volume = volume();
    let root = volume.path().join("data");
    let mut publisher = Publisher::open(&directory(root.clone())).expect("open");
    fs::write(root.join("username"), "mine").expect("write");
    fs::write(root.join("..keep"), "mine").expect("write");
    fs::write(root.join(STATE_FILE), "{}").expect("write");
    let failure = publisher.publish(&set(OLD), now()).expect_err("refused");
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::DirectoryUnusable));
    assert!(failure.message.contains("username"), "{failure}");
    fs::remove_file(root.join("username")).expect("remove");
    publisher.publish(&set(OLD), now()).expect("publish");
    Publisher::open(&directory(root.clone())).expect("open again");
    assert!(root.join("..keep").exists() && root.join(STATE_FILE).exists(), "{:#?}", tree(&root));

    let failure = publisher.publish(&set(&[("a", "x"), ("a/b", "x")]), now()).expect_err("collision");
    assert_eq!(failure.reason, Reason::RenderFailed);
    assert_eq!(visible(&root), expected(OLD));
}

#[test]
fn a_set_above_the_limit_keeps_the_old_one() {
    let volume = volume();
    let mut settings = directory(volume.path().join("data"));
    settings.max_bytes = Some(100);
    let mut publisher = Publisher::open(&settings).expect("open");
    publisher.publish(&set(OLD), now()).expect("publish");
    let large = "x".repeat(101);
    let failure = publisher.publish(&set(&[("username", &large)]), now()).expect_err("too large");
    assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::NoSpace));
    assert_clean(&settings.path, OLD);
}

// ---- Crashes. The child is this test binary itself, running the ignored test below. ----

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
            let mut publisher = Publisher::open(&settings).expect("open");
            publisher.crash_at(words.next().and_then(|step| step.parse().ok()).expect("step"));
            publisher.publish(&set(NEW), now()).expect("publish");
        }
        "umask" => {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            let mut publisher = Publisher::open(&settings).expect("open");
            publisher.publish(&set(OLD), now()).expect("publish");
        }
        "loop" => {
            let mut publisher = Publisher::open(&settings).expect("open");
            loop {
                publisher.publish(&set(OLD), now()).expect("publish");
                publisher.publish(&set(NEW), now()).expect("publish");
            }
        }
        _ => panic!("{order}"),
    }
}

fn spawn_child(order: &str) -> std::process::Child {
    Command::new(std::env::current_exe().expect("own path"))
        .args(["--ignored", "--exact", "child"])
        .env(CHILD, order)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("child")
}

#[test]
fn the_umask_does_not_matter() {
    let volume = volume();
    let root = volume.path().join("data");
    let status = spawn_child(&format!("umask:{}", root.display())).wait().expect("child");
    assert!(status.success());
    assert_clean(&root, OLD);
    assert_eq!(fs::metadata(root.join("tls/key")).expect("key").mode() & 0o7777, 0o444);
    assert_eq!(fs::metadata(root.join("tls")).expect("tls").mode() & 0o7777, 0o755);
}

#[test]
fn a_crash_after_any_step_leaves_the_old_or_the_new_set_whole() {
    use std::os::unix::process::ExitStatusExt;
    for first in [true, false] {
        for step in 2..=10_u8 {
            let volume = volume();
            let root = volume.path().join("data");
            if !first {
                let mut publisher = Publisher::open(&directory(root.clone())).expect("open");
                publisher.publish(&set(OLD), now()).expect("publish");
            }
            let status = spawn_child(&format!("crash:{}:{step}", root.display())).wait().expect("child");
            assert_eq!(status.signal(), Some(6), "the child reached step {step} ({status})");

            let before: &[_] = if first { &[] } else { OLD };
            let seen = if step < 8 { before } else { NEW };
            assert_eq!(visible(&root), expected(seen), "after step {step}, first: {first}: {:#?}", tree(&root));

            let mut publisher = Publisher::open(&directory(root.clone())).expect("open after a crash");
            if step >= 8 || !first {
                assert_clean(&root, seen);
            } else {
                assert_eq!(tree(&root), BTreeMap::new(), "swept after step {step}");
            }
            publisher.publish(&set(NEW), now()).expect("publish after a crash");
            assert_clean(&root, NEW);
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_set() {
    let volume = volume();
    let root = volume.path().join("data");
    let mut publisher = Publisher::open(&directory(root.clone())).expect("open");
    publisher.publish(&set(OLD), now()).expect("publish");
    drop(publisher);
    for _ in 0..40 {
        let before = fs::read_link(root.join(DATA_LINK)).expect("..data");
        let mut child = spawn_child(&format!("loop:{}", root.display()));
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::read_link(root.join(DATA_LINK)).expect("..data") == before {
            assert!(Instant::now() < deadline, "the child publishes");
            std::thread::yield_now();
        }
        // Somewhere in the middle of the next rounds.
        let spin = Instant::now() + Duration::from_micros(fastrand::u64(0..3000));
        while Instant::now() < spin {
            std::hint::spin_loop();
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
        let seen = visible(&root);
        // A visible link of the other set may be missing or dangling; what is read is always one whole set.
        assert!(seen == expected(OLD) || seen == expected(NEW), "{:#?}", tree(&root));
        let mut publisher = Publisher::open(&directory(root.clone())).expect("open after a kill");
        publisher.publish(&set(OLD), now()).expect("publish after a kill");
        assert_clean(&root, OLD);
    }
}

#[test]
fn a_reader_never_sees_a_mixed_pair() {
    const READS: usize = 10_000;
    let volume = volume();
    let root = volume.path().join("data");
    let mut publisher = Publisher::open(&directory(root.clone())).expect("open");
    publisher.publish(&set(OLD), now()).expect("publish");
    let deadline = Instant::now() + Duration::from_mins(1);
    let reads = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (root, reads, stop) = (root.clone(), Arc::clone(&reads), Arc::clone(&stop));
        std::thread::spawn(move || {
            use rustix::fs::{Mode as M, OFlags, open, openat};
            let mut changes = 0;
            let mut last = String::new();
            // Ends with `stop`, when there were enough reads; but not before the set changed often under the reader.
            while !stop.load(Ordering::Relaxed) || changes < 100 {
                assert!(Instant::now() < deadline, "only {changes} changes seen");
                // The old set may be removed after the link was followed, or between the opens below. The reader starts over,
                // as with the kubelet's volumes; any other error would be a fault.
                let set = match open(root.join(DATA_LINK), OFlags::RDONLY | OFlags::DIRECTORY, M::empty()) {
                    Err(rustix::io::Errno::NOENT) => continue,
                    opened => opened.expect("..data"),
                };
                let read = |name: &str| {
                    let mut text = String::new();
                    let fd = match openat(&set, name, OFlags::RDONLY, M::empty()) {
                        Err(rustix::io::Errno::NOENT) => return None,
                        opened => opened.expect(name),
                    };
                    fs::File::from(fd).read_to_string(&mut text).expect("readable");
                    Some(text)
                };
                let (Some(certificate), Some(key)) = (read("username"), read("password")) else { continue };
                assert_eq!(certificate, key, "a mixed pair");
                if certificate != last {
                    changes += 1;
                    last = certificate;
                }
                reads.fetch_add(1, Ordering::Relaxed);
            }
            changes
        })
    };
    while !reader.is_finished() {
        publisher.publish(&set(NEW), now()).expect("publish");
        publisher.publish(&set(OLD), now()).expect("publish");
        stop.store(reads.load(Ordering::Relaxed) >= READS, Ordering::Relaxed);
    }
    let changes = reader.join().expect("reader");
    println!("{} reads, {changes} changes", reads.load(Ordering::Relaxed));
}

// ---- A full volume. ----

/// A tmpfs of its own.
struct Tmpfs(TempDir);

impl Tmpfs {
    /// `None`, and said, where we may not mount.
    fn mount(test: &str, options: &str) -> Option<Self> {
        let at = tempfile::tempdir().expect("tempdir");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        skip_test(test, "needs root, to mount a tmpfs");
        None
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

#[test]
fn a_volume_without_room_for_two_copies_is_refused_at_the_first_publication() {
    let Some(tmpfs) =
        Tmpfs::mount("a_volume_without_room_for_two_copies_is_refused_at_the_first_publication", "size=64k")
    else {
        return;
    };
    let root = tmpfs.0.path().join("data");
    let mut publisher = Publisher::open(&directory(root.clone())).expect("open");
    let half = "x".repeat(33 * 1024);
    let failure = publisher.publish(&set(&[("a", &half)]), now()).expect_err("two copies do not fit");
    assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::NoSpace));
    assert!(failure.message.contains("at least 128Ki"), "{failure}");
    assert_eq!(tree(&root), BTreeMap::new());
    let third = "x".repeat(20 * 1024);
    publisher.publish(&set(&[("a", &third)]), now()).expect("fits");
    publisher.publish(&set(&[("a", &third.replace('x', "y"))]), now()).expect("fits again");
}

#[test]
fn a_full_volume_keeps_the_old_set() {
    for options in ["size=96k", "size=10m,nr_inodes=30"] {
        let Some(tmpfs) = Tmpfs::mount("a_full_volume_keeps_the_old_set", options) else { return };
        let root = tmpfs.0.path().join("data");
        let mut publisher = Publisher::open(&directory(root.clone())).expect("open");
        publisher.publish(&set(OLD), now()).expect("publish");
        // Somebody else fills the volume.
        let mut fillers = 0;
        while fs::write(tmpfs.0.path().join(format!("filler{fillers}")), vec![0; 4096]).is_ok() && fillers < 100 {
            fillers += 1;
        }
        let failure = publisher.publish(&set(NEW), now()).expect_err("full");
        assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::NoSpace), "{failure}");
        assert_clean(&root, OLD);
        for filler in 0..=fillers {
            fs::remove_file(tmpfs.0.path().join(format!("filler{filler}"))).ok();
        }
        publisher.publish(&set(NEW), now()).expect("room again");
        assert_clean(&root, NEW);
    }
}

/// The count before writing sees no room that others take meanwhile: here a second writer races for the space, so that some
/// tries fail in the middle of the writing.
#[test]
fn a_volume_that_fills_while_we_write_keeps_the_old_set() {
    let Some(tmpfs) = Tmpfs::mount("a_volume_that_fills_while_we_write_keeps_the_old_set", "size=512k") else { return };
    let root = tmpfs.0.path().join("data");
    let mut publisher = Publisher::open(&directory(root.clone())).expect("open");
    let names: Vec<String> = (0..20).map(|number| format!("file{number:02}")).collect();
    let large = |fill: char| {
        let text = fill.to_string().repeat(8 * 1024);
        set(&names.iter().map(|name| (name.as_str(), text.as_str())).collect::<Vec<_>>())
    };
    publisher.publish(&large('a'), now()).expect("publish");
    let stop = Arc::new(AtomicBool::new(false));
    let filler = {
        let (path, stop) = (tmpfs.0.path().join("filler"), Arc::clone(&stop));
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
        match publisher.publish(&large(fill), now()) {
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
        assert_eq!(sets, 1, "the half-written set is removed");
    }
    stop.store(true, Ordering::Relaxed);
    filler.join().expect("filler");
    println!("{failed} of 400 publications found no room");
}
