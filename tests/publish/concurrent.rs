//! A concurrent reader.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyferry::volume::DATA_LINK;

use super::*;

#[test]
fn reader_never_sees_files_of_two_sets() {
    const READS: usize = 10_000;
    let volume = memory();
    let root = volume.path().join("data");
    let mut publisher = Volume::open(directory(root.clone()));
    publisher.publish(OLD);
    let deadline = Instant::now() + Duration::from_mins(1);
    let reads = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (root, reads, stop) = (root.clone(), Arc::clone(&reads), Arc::clone(&stop));
        std::thread::spawn(move || {
            use rustix::fs::{Mode as M, OFlags, open, openat};
            let mut changes = 0;
            let mut last = String::new();
            // Stops after enough reads, but not before the set has changed often.
            while !stop.load(Ordering::Relaxed) || changes < 100 {
                assert!(Instant::now() < deadline, "only {changes} changes seen");
                // The previous set can be removed after the symlink was followed or between the two opens below. As
                // with the kubelet's volumes, the reader then starts again. Any other error is a failure.
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
        publisher.publish(NEW);
        publisher.publish(OLD);
        stop.store(reads.load(Ordering::Relaxed) >= READS, Ordering::Relaxed);
    }
    let changes = reader.join().expect("reader");
    println!("{} reads, {changes} changes", reads.load(Ordering::Relaxed));
}
