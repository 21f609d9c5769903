//! Documents that change, become invalid, are restored, or cannot be read.

use std::collections::HashMap;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use tokio::time::{Instant, timeout};

use super::super::watched_file::{DEBOUNCE, MAX_DEBOUNCE, POLL_INTERVAL, read_time};
use super::*;

const VALID: &str = "vault: {address: 'https://v'}\nauth: {role: r}\nsources: {a: {path: secret/a}}\n";

/// A configuration file and a reload that has delivered its content.
struct Fixture {
    directory: tempfile::TempDir,
    reload: Reload,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keyferry.yaml");
        std::fs::write(&path, VALID).expect("written");
        let source = ConfigSource::read(path).expect("a document");
        let reload = Reload::new(source, Box::new(HashMap::<String, String>::new()));
        Self { directory, reload }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("keyferry.yaml")
    }

    /// Replaces the file atomically, as editors do.
    fn write(&self, bytes: impl AsRef<[u8]>) {
        let fresh = self.directory.path().join("fresh");
        std::fs::write(&fresh, bytes).expect("written");
        std::fs::rename(fresh, self.path()).expect("renamed");
    }

    async fn next_within(&mut self, limit: Duration) -> Result<(), String> {
        timeout(limit, self.reload.changed()).await.expect("a change is detected").map(drop)
    }

    async fn next(&mut self) -> Result<(), String> {
        self.next_within(Duration::from_secs(60)).await
    }

    /// Whether several poll intervals pass without a delivery.
    async fn is_quiet(&mut self) -> bool {
        timeout(POLL_INTERVAL * 5, self.reload.changed()).await.is_err()
    }
}

#[tokio::test]
async fn change_before_the_watch_is_detected_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keyferry.yaml");
    std::fs::write(&path, VALID).expect("written");
    let source = ConfigSource::read(path.clone()).expect("a document");
    std::fs::write(&path, VALID.replace("secret/a", "secret/b")).expect("written");
    let reload = Reload::new(source, Box::new(HashMap::<String, String>::new()));
    let mut fixture = Fixture { directory, reload };
    assert_eq!(fixture.next_within(POLL_INTERVAL / 2).await, Ok(()));
}

#[test]
fn constantly_changing_directory_does_not_delay_read() {
    let (mut first, start) = (None, Instant::now());
    let mut now = start;
    let mut read_at = read_time(&mut first, now);
    assert_eq!(read_at, start + DEBOUNCE);
    // Another file in the directory changes every 100 ms.
    while now < read_at && now < start + MAX_DEBOUNCE * 10 {
        now += Duration::from_millis(100);
        read_at = read_time(&mut first, now);
    }
    assert_eq!(read_at, start + MAX_DEBOUNCE);
}

#[tokio::test(start_paused = true)]
async fn unchanged_document_is_delivered_once() {
    let mut fixture = Fixture::new();
    assert!(fixture.is_quiet().await, "the content is already delivered");
    fixture.write(VALID.replace("role: r", "role: other"));
    assert!(fixture.next().await.is_ok());
    assert!(fixture.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn withdrawn_document_is_delivered() {
    let mut fixture = Fixture::new();
    fixture.write("sorces: {}");
    assert!(fixture.next().await.expect_err("bad").contains("sorces"));
    assert!(fixture.is_quiet().await, "the error is returned once");
    fixture.write(VALID);
    assert!(fixture.next().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn non_utf8_document_is_rejected_once() {
    let mut fixture = Fixture::new();
    fixture.write(b"vault: \xff");
    let message = fixture.next().await.expect_err("not text");
    assert!(message.contains("not UTF-8 text (first invalid byte at offset 7)"), "{message}");
    assert!(message.contains("keyferry.yaml"), "{message}");
    assert!(fixture.is_quiet().await);
    fixture.write(VALID);
    assert!(fixture.next().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn named_pipe_is_reported_once_without_blocking() {
    let mut fixture = Fixture::new();
    std::fs::remove_file(fixture.path()).expect("removed");
    rustix::fs::mknodat(CWD, fixture.path(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("mkfifo");
    let message = fixture.next().await.expect_err("a pipe");
    assert!(message.contains(": not a regular file"), "{message}");
    assert!(fixture.is_quiet().await);
    assert!(ConfigSource::read(fixture.path()).is_err(), "the same applies at start");
    std::fs::remove_file(fixture.path()).expect("removed");
    assert!(fixture.is_quiet().await, "a missing file is ignored");
    fixture.write(VALID);
    assert!(fixture.next().await.is_ok(), "the previous document is delivered again after an error");
}

#[tokio::test(start_paused = true)]
async fn dropped_call_loses_no_change() {
    let mut fixture = Fixture::new();
    fixture.write(VALID.replace("role: r", "role: other"));
    for _ in 0..50 {
        if let Ok(delivered) = timeout(Duration::from_millis(20), fixture.reload.changed()).await {
            assert!(delivered.is_ok());
            return;
        }
    }
    assert!(fixture.next().await.is_ok());
}
