//! The annotations file as the kubelet replaces it, and the endpoint with right and wrong requests.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use tokio::time::timeout;

use super::endpoint::Answer;
use super::*;

/// Longer than the debounce and a blocking read.
const QUIET: Duration = Duration::from_secs(1);

/// A downward API volume with a file `annotations`.
struct Volume {
    root: tempfile::TempDir,
    swaps: u32,
}

impl Volume {
    fn new(text: &str) -> Self {
        let mut volume = Self { root: tempfile::tempdir().expect("a directory"), swaps: 0 };
        volume.write(text);
        symlink("..data/annotations", volume.file()).expect("linked");
        volume
    }

    fn file(&self) -> PathBuf {
        self.root.path().join("annotations")
    }

    /// As the kubelet: a new directory, a rename of `..data`, and the removal of the old directory.
    fn write(&mut self, text: &str) {
        let root = self.root.path();
        let old = std::fs::read_link(root.join("..data")).ok();
        self.swaps += 1;
        let name = format!("..2026_11_29_07_00_00.{}", self.swaps);
        std::fs::create_dir(root.join(&name)).expect("created");
        std::fs::write(root.join(&name).join("annotations"), text).expect("written");
        symlink(&name, root.join("..data_tmp")).expect("linked");
        std::fs::rename(root.join("..data_tmp"), root.join("..data")).expect("renamed");
        if let Some(old) = old {
            std::fs::remove_dir_all(root.join(old)).expect("removed");
        }
    }

    fn triggers(&self) -> RefreshTriggers {
        RefreshTriggers::new(&RefreshNow { annotations_file: Some(self.file()), token_file: None })
    }
}

async fn next(triggers: &mut RefreshTriggers) -> bool {
    timeout(Duration::from_secs(20), triggers.next()).await.expect("a request").new_leases
}

async fn is_quiet(triggers: &mut RefreshTriggers) -> bool {
    timeout(QUIET, triggers.next()).await.is_err()
}

#[tokio::test]
async fn new_value_of_an_annotation_requests_one_refresh() {
    let seen = "kubernetes.io/config.seen=\"2026\"";
    let mut volume = Volume::new(&format!("keyferry.dev/refresh=\"1\"\n{seen}"));
    let mut triggers = volume.triggers();
    assert!(is_quiet(&mut triggers).await, "the value at the start is only remembered");
    volume.write(&format!("keyferry.dev/refresh=\"2\"\n{seen}"));
    assert!(!next(&mut triggers).await);
    assert!(is_quiet(&mut triggers).await, "one request for each value");
    volume.write("keyferry.dev/refresh=\"2\"\nkubernetes.io/config.seen=\"2027\"");
    assert!(is_quiet(&mut triggers).await, "another annotation");
    volume.write("");
    assert!(is_quiet(&mut triggers).await, "the annotation was removed");
    volume.write("keyferry.dev/refresh=\"2\"\nkeyferry.dev/refresh-leases=\"a\"");
    assert!(next(&mut triggers).await, "with new leases");
    // A restart of the agent.
    let mut triggers = volume.triggers();
    assert!(is_quiet(&mut triggers).await);
    volume.write("keyferry.dev/refresh=\"\"\nkeyferry.dev/refresh-leases=\"a\"");
    assert!(!next(&mut triggers).await, "an empty value is a new one");
}

#[tokio::test]
async fn file_that_cannot_be_read_at_the_start_requests_nothing() {
    let mut volume = Volume::new("not a file of annotations");
    let mut triggers = volume.triggers();
    assert!(is_quiet(&mut triggers).await);
    volume.write("keyferry.dev/refresh=\"1\"");
    assert!(is_quiet(&mut triggers).await, "the first value is only remembered");
    volume.write("keyferry.dev/refresh=\"2\"");
    assert!(!next(&mut triggers).await);
}

#[tokio::test]
async fn reload_changes_the_watched_file() {
    let (mut old, mut new) = (Volume::new(""), Volume::new(""));
    let mut triggers = old.triggers();
    triggers.configure(&RefreshNow { annotations_file: Some(new.file()), token_file: None });
    assert!(is_quiet(&mut triggers).await);
    old.write("keyferry.dev/refresh=\"1\"");
    assert!(is_quiet(&mut triggers).await);
    new.write("keyferry.dev/refresh=\"1\"");
    assert!(!next(&mut triggers).await);
}

const TOKEN: &str = "Zugangslosung-0123456789";

/// Triggers whose token file contains [`TOKEN`].
fn with_token(directory: &Path) -> RefreshTriggers {
    let file = directory.join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("written");
    RefreshTriggers::new(&RefreshNow { annotations_file: None, token_file: Some(file) })
}

/// The answer to a request with this method, query, `Authorization`, and size of the body.
async fn answer(triggers: &RefreshTriggers, request: (&str, &str, Option<&str>, usize)) -> Answer {
    let (method, query, authorization, size) = request;
    let mut builder = Request::builder().method(method).uri(format!("/refresh{query}"));
    if let Some(value) = authorization {
        builder = builder.header("authorization", value);
    }
    let request = builder.body(Full::new(Bytes::from(vec![b'x'; size]))).expect("a request");
    triggers.endpoint().answer(request).await
}

#[tokio::test]
async fn endpoint_accepts_only_the_token() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut triggers = with_token(directory.path());
    let right = format!("Bearer {TOKEN}");
    let longer = format!("Bearer {TOKEN}0");
    for (request, expected) in [
        (("GET", "", Some(right.as_str()), 0), Answer::NotPost),
        (("POST", "", None, 0), Answer::NoToken),
        (("POST", "", Some("Bearer "), 0), Answer::NoToken),
        (("POST", "", Some("Basic eDp5"), 0), Answer::NoToken),
        (("POST", "", Some("Bearer x"), 0), Answer::WrongToken),
        (("POST", "", Some(longer.as_str()), 0), Answer::WrongToken),
        (("POST", "?new-leases=yes", Some(right.as_str()), 0), Answer::BadQuery),
        (("POST", "?new-lease=true", Some(right.as_str()), 0), Answer::BadQuery),
        (("POST", "", Some(right.as_str()), 1025), Answer::TooLarge),
    ] {
        assert_eq!(answer(&triggers, request).await, expected, "{request:?}");
    }
    assert!(is_quiet(&mut triggers).await, "no request was accepted");
    let lower = format!("bearer  {TOKEN}");
    for (authorization, query) in [(&right, ""), (&lower, "?new-leases=true"), (&right, "?new-leases=false")] {
        let request = ("POST", query, Some(authorization.as_str()), 1024);
        assert_eq!(answer(&triggers, request).await, Answer::Accepted, "{query}");
    }
    assert!(next(&mut triggers).await, "one pending request, which asks for what any of them asked for");
    assert!(is_quiet(&mut triggers).await);
}

#[tokio::test]
async fn token_file_is_read_for_each_request() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut triggers = with_token(directory.path());
    let file = directory.path().join("token");
    let request = |token: &str| format!("Bearer {token}");
    let (first, second) = (request(TOKEN), request("another-token-of-24-bytes"));
    assert_eq!(answer(&triggers, ("POST", "", Some(&first), 0)).await, Answer::Accepted);
    std::fs::write(&file, "another-token-of-24-bytes").expect("written");
    assert_eq!(answer(&triggers, ("POST", "", Some(&first), 0)).await, Answer::WrongToken);
    assert_eq!(answer(&triggers, ("POST", "", Some(&second), 0)).await, Answer::Accepted);
    for text in ["", "\n", "fifteen-letters"] {
        std::fs::write(&file, text).expect("written");
        let given = request(text.trim());
        let authorization = if text.trim().is_empty() { &second } else { &given };
        assert_eq!(answer(&triggers, ("POST", "", Some(authorization), 0)).await, Answer::Unusable, "{text:?}");
    }
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(answer(&triggers, ("POST", "", Some(&second), 0)).await, Answer::Unusable);
    triggers.configure(&RefreshNow::default());
    assert_eq!(answer(&triggers, ("POST", "", Some(&second), 0)).await, Answer::NotFound, "removed by a reload");
}
