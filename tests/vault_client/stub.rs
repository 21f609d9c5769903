//! A server on loopback that plays a script: it checks order, method, path, headers and body of every request, and fails the
//! test on missing and on extra calls. HTTP/1.1 with keep-alive, by hand, on its own threads, so that it needs nothing of the
//! code under test.
//!
//! The check is made when the stub is dropped, so it cannot be forgotten.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the stub does with a request.
#[derive(Clone)]
enum Reply {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// Reads the request and never answers.
    Hang,
    /// Closes the connection instead of an answer.
    Close,
}

/// One expected request and its reply.
#[derive(Clone)]
pub(crate) struct Exchange {
    method: &'static str,
    path: String,
    headers: Vec<(String, Option<String>)>,
    body: Option<serde_json::Value>,
    reply: Reply,
}

/// Expects a `GET` of `path` (with the query); answers 200 `{}` unless told otherwise.
pub(crate) fn get(path: &str) -> Exchange {
    Exchange::new("GET", path)
}

/// Expects a `POST` to `path`.
pub(crate) fn post(path: &str) -> Exchange {
    Exchange::new("POST", path)
}

impl Exchange {
    fn new(method: &'static str, path: &str) -> Self {
        let reply = Reply::Answer { status: 200, headers: Vec::new(), body: "{}".into() };
        Self { method, path: path.into(), headers: Vec::new(), body: None, reply }
    }

    /// The request must have this header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_lowercase(), Some(value.into())));
        self
    }

    /// The request must not have this header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.push((name.to_lowercase(), None));
        self
    }

    /// The request must carry Vault's token header with this value.
    pub(crate) fn token(self, token: &str) -> Self {
        self.header("x-vault-token", token)
    }

    /// The request's body must be this JSON.
    pub(crate) fn json(mut self, body: serde_json::Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Answers so.
    #[allow(clippy::needless_pass_by_value, reason = "reads better in a script")]
    pub(crate) fn answer(mut self, status: u16, body: impl ToString) -> Self {
        self.reply = Reply::Answer { status, headers: Vec::new(), body: body.to_string() };
        self
    }

    /// Adds a header to the answer; after `answer`.
    pub(crate) fn answer_header(mut self, name: &str, value: &str) -> Self {
        if let Reply::Answer { headers, .. } = &mut self.reply {
            headers.push((name.into(), value.into()));
        }
        self
    }

    /// Never answers.
    pub(crate) fn hang(mut self) -> Self {
        self.reply = Reply::Hang;
        self
    }

    /// Closes the connection instead of an answer.
    pub(crate) fn close(mut self) -> Self {
        self.reply = Reply::Close;
        self
    }
}

#[derive(Default)]
struct Play {
    script: VecDeque<Exchange>,
    complaints: Vec<String>,
    seen: Vec<String>,
}

/// The running stub.
pub(crate) struct Stub {
    address: SocketAddr,
    scheme: &'static str,
    play: Arc<Mutex<Play>>,
    connections: Arc<AtomicUsize>,
}

impl Stub {
    /// Plays `script` on a free port, without TLS.
    pub(crate) fn start(script: impl IntoIterator<Item = Exchange>) -> Self {
        Self::serve(script, None)
    }

    /// Plays `script` on a free port, with TLS.
    pub(crate) fn start_tls(script: impl IntoIterator<Item = Exchange>, tls: rustls::ServerConfig) -> Self {
        Self::serve(script, Some(Arc::new(tls)))
    }

    fn serve(script: impl IntoIterator<Item = Exchange>, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let play = Arc::new(Mutex::new(Play { script: script.into_iter().collect(), ..Play::default() }));
        let connections = Arc::new(AtomicUsize::new(0));
        let stub = Self {
            address,
            scheme: if tls.is_some() { "https" } else { "http" },
            play: Arc::clone(&play),
            connections: Arc::clone(&connections),
        };
        // The threads end with the test process: they hold a port and nothing else.
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (play, tls) = (Arc::clone(&play), tls.clone());
                thread::spawn(move || match tls {
                    None => converse(socket, &play),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).expect("a good server configuration");
                        converse(rustls::StreamOwned::new(session, socket), &play);
                    }
                });
            }
        });
        stub
    }

    /// `http://127.0.0.1:<port>` or `https://…`.
    pub(crate) fn address(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Adds exchanges to the end of the script.
    pub(crate) fn expect(&self, more: impl IntoIterator<Item = Exchange>) {
        self.play.lock().expect("not poisoned").script.extend(more);
    }

    /// Whether every exchange of the script has been played, for processes that nobody waits for.
    #[allow(dead_code, reason = "for handover.rs")]
    pub(crate) fn is_over(&self) -> bool {
        self.play.lock().expect("not poisoned").script.is_empty()
    }

    /// TCP connections taken so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        if thread::panicking() {
            let seen = self.play.lock().map(|play| play.seen.clone()).unwrap_or_default();
            eprintln!("requests that {} saw: {seen:#?}", self.address());
            return;
        }
        let play = self.play.lock().expect("not poisoned");
        let mut report = play.complaints.join("\n");
        for missing in &play.script {
            let _ = write!(report, "\nmissing: {} {}", missing.method, missing.path);
        }
        assert!(report.is_empty(), "{report}\nseen: {:#?}", play.seen);
    }
}

struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn converse(stream: impl Read + Write, play: &Mutex<Play>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream) {
        let reply = judge(&request, &mut play.lock().expect("not poisoned"));
        match reply {
            Reply::Answer { status, headers, body } => {
                let mut text = format!("HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\n");
                for (name, value) in headers {
                    let _ = write!(text, "{name}: {value}\r\n");
                }
                // A 204 has no body and no length (RFC 9110 §8.6).
                if status == 204 {
                    text.push_str("\r\n");
                } else {
                    let _ = write!(text, "content-length: {}\r\n\r\n{body}", body.len());
                }
                let out = stream.get_mut();
                if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
                    return;
                }
            }
            Reply::Hang => {
                // Ends when the client gives up and closes.
                let _ = stream.read(&mut [0]);
                return;
            }
            Reply::Close => return,
        }
    }
}

/// `None` at the end of the connection, or where TLS failed.
fn read_request(stream: &mut impl BufRead) -> Option<Request> {
    let mut line = || {
        let mut text = String::new();
        (stream.read_line(&mut text).ok()? > 0).then(|| text.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let header = line()?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':')?;
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().expect("a length"))];
    stream.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

fn judge(request: &Request, play: &mut Play) -> Reply {
    let told = format!("{} {}", request.method, request.path);
    play.seen.push(told.clone());
    let unexpected =
        Reply::Answer { status: 500, headers: Vec::new(), body: r#"{"errors":["not in the script"]}"#.into() };
    let Some(expected) = play.script.pop_front() else {
        play.complaints.push(format!("extra: {told}"));
        return unexpected;
    };
    let mut wrong = Vec::new();
    if (request.method.as_str(), request.path.as_str()) != (expected.method, expected.path.as_str()) {
        wrong.push(format!("expected {} {}", expected.method, expected.path));
    }
    for (name, value) in &expected.headers {
        let found = request.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value);
        if found != value.as_ref() {
            wrong.push(format!("header {name}: expected {value:?}, found {found:?}"));
        }
    }
    if let Some(body) = &expected.body {
        let found: Option<serde_json::Value> = serde_json::from_slice(&request.body).ok();
        if found.as_ref() != Some(body) {
            wrong.push(format!("body: expected {body}, found {found:?}"));
        }
    }
    if wrong.is_empty() {
        return expected.reply;
    }
    play.complaints.push(format!("{told}: {}", wrong.join("; ")));
    unexpected
}
