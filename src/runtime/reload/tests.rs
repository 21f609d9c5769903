//! Documents that change, break, are taken back, or are no documents.

use std::collections::HashMap;

use rustix::fs::{CWD, FileType};
use tokio::time::timeout;

use super::*;

const GOOD: &str = "vault: {address: 'https://v'}\nauth: {role: r}\nsources: {a: {path: secret/a}}\n";

/// A document in a directory, and a reload that has it in force.
struct Watched {
    directory: tempfile::TempDir,
    reload: Reload,
}

impl Watched {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keyferry.yaml");
        std::fs::write(&path, GOOD).expect("written");
        let source = ConfigSource::read(path).expect("a document");
        let reload = Reload::new(source, Box::new(HashMap::<String, String>::new()));
        Self { directory, reload }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("keyferry.yaml")
    }

    /// As an editor does it: the file is never half there.
    fn write(&self, bytes: impl AsRef<[u8]>) {
        let fresh = self.directory.path().join("fresh");
        std::fs::write(&fresh, bytes).expect("written");
        std::fs::rename(fresh, self.path()).expect("renamed");
    }

    async fn next(&mut self) -> Result<(), String> {
        timeout(Duration::from_secs(60), self.reload.changed()).await.expect("a change is seen").map(drop)
    }

    /// Looked at many times in virtual time, and nothing is said.
    async fn is_quiet(&mut self) -> bool {
        timeout(POLL * 5, self.reload.changed()).await.is_err()
    }
}

#[test]
fn a_document_beside_something_that_never_rests_is_looked_at() {
    let (mut first, start) = (None, Instant::now());
    let mut now = start;
    let mut look_at = after_tick(&mut first, now);
    assert_eq!(look_at, start + QUIET);
    // A neighbour writes every 100 ms.
    while now < look_at && now < start + PATIENCE * 10 {
        now += Duration::from_millis(100);
        look_at = after_tick(&mut first, now);
    }
    assert_eq!(look_at, start + PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn the_same_document_is_given_once() {
    let mut watched = Watched::new();
    assert!(watched.is_quiet().await, "it is in force");
    watched.write(GOOD.replace("role: r", "role: other"));
    assert!(watched.next().await.is_ok());
    assert!(watched.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_taken_back_is_given_too() {
    let mut watched = Watched::new();
    watched.write("sorces: {}");
    assert!(watched.next().await.expect_err("bad").contains("sorces"));
    assert!(watched.is_quiet().await, "it is told once");
    watched.write(GOOD);
    assert!(watched.next().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_not_text_is_rejected_once() {
    let mut watched = Watched::new();
    watched.write(b"vault: \xff");
    let told = watched.next().await.expect_err("not text");
    assert!(told.contains("not UTF-8 text (first invalid byte at offset 7)") && told.contains("keyferry.yaml"), "{told}");
    assert!(watched.is_quiet().await);
    watched.write(GOOD);
    assert!(watched.next().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_named_pipe_never_blocks_and_is_told_once() {
    let mut watched = Watched::new();
    std::fs::remove_file(watched.path()).expect("removed");
    rustix::fs::mknodat(CWD, watched.path(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("mkfifo");
    let told = watched.next().await.expect_err("a pipe");
    assert!(told.contains(": not a regular file"), "{told}");
    assert!(watched.is_quiet().await);
    assert!(ConfigSource::read(watched.path()).is_err(), "at the start too");
    std::fs::remove_file(watched.path()).expect("removed");
    assert!(watched.is_quiet().await, "an absent file is a moment between two");
    watched.write(GOOD);
    assert!(watched.next().await.is_ok(), "the old document is news after a failure");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_loses_nothing() {
    let mut watched = Watched::new();
    watched.write(GOOD.replace("role: r", "role: other"));
    for _ in 0..50 {
        if let Ok(given) = timeout(Duration::from_millis(20), watched.reload.changed()).await {
            assert!(given.is_ok());
            return;
        }
    }
    assert!(watched.next().await.is_ok());
}
