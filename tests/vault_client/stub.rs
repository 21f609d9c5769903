//! A scripted server on loopback. It checks order, method, path, headers and body of every request, and fails the test on missing
//! and extra requests. It implements HTTP/1.1 with keep-alive on its own threads, independent of the code under test.
//!
//! The check runs when the stub is dropped.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// The stub's reply to a request.
#[derive(Clone)]
enum Reply {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// Reads the request and never answers.
    Hang,
    /// Closes the connection without a response.
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
    /// Number of requests that are answered together.
    together: usize,
}

/// Expects a `GET` of `path` (with the query); responds with 200 `{}` unless the test sets another reply.
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
        Self { method, path: path.into(), headers: Vec::new(), body: None, reply, together: 1 }
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

    /// Responds with this status and body.
    #[allow(clippy::needless_pass_by_value, reason = "reads better in a script")]
    pub(crate) fn answer(mut self, status: u16, body: impl ToString) -> Self {
        self.reply = Reply::Answer { status, headers: Vec::new(), body: body.to_string() };
        self
    }

    /// Adds a header to the response. Call it after `answer`.
    pub(crate) fn answer_header(mut self, name: &str, value: &str) -> Self {
        if let Reply::Answer { headers, .. } = &mut self.reply {
            headers.push((name.into(), value.into()));
        }
        self
    }

    /// Responds when this number of such requests wait for their response, or when the script has no further request.
    pub(crate) fn together(mut self, count: usize) -> Self {
        self.together = count;
        self
    }

    /// Never responds.
    pub(crate) fn hang(mut self) -> Self {
        self.reply = Reply::Hang;
        self
    }

    /// Closes the connection without a response.
    pub(crate) fn close(mut self) -> Self {
        self.reply = Reply::Close;
        self
    }
}

#[derive(Default)]
struct State {
    script: VecDeque<Exchange>,
    /// Whether the requests can come in another order than in the script.
    in_any_order: bool,
    errors: Vec<String>,
    seen: Vec<String>,
    /// Requests without a response, and their maximum.
    in_flight: usize,
    most_in_flight: usize,
    /// Requests that wait for others, and the number of times that such requests were released.
    waiting: usize,
    releases: u64,
}

/// The running stub.
pub(crate) struct Stub {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<Shared>,
    connections: Arc<AtomicUsize>,
}

/// The state, and a signal for requests that wait for others.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }
}

impl Stub {
    /// Starts a server for `script` on a free port, without TLS.
    pub(crate) fn start(script: impl IntoIterator<Item = Exchange>) -> Self {
        Self::serve(script, None)
    }

    /// As `start`, for requests in any order.
    pub(crate) fn start_in_any_order(script: impl IntoIterator<Item = Exchange>) -> Self {
        let stub = Self::start(script);
        stub.state.lock().in_any_order = true;
        stub
    }

    /// Starts a server for `script` on a free port, with TLS.
    pub(crate) fn start_tls(script: impl IntoIterator<Item = Exchange>, tls: rustls::ServerConfig) -> Self {
        Self::serve(script, Some(Arc::new(tls)))
    }

    fn serve(script: impl IntoIterator<Item = Exchange>, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let state = Arc::new(Shared::default());
        state.lock().script.extend(script);
        let connections = Arc::new(AtomicUsize::new(0));
        let stub = Self {
            address,
            scheme: if tls.is_some() { "https" } else { "http" },
            state: Arc::clone(&state),
            connections: Arc::clone(&connections),
        };
        // The threads hold only a port and end with the test process.
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (state, tls) = (Arc::clone(&state), tls.clone());
                thread::spawn(move || match tls {
                    None => serve_connection(socket, &state),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).expect("a good server configuration");
                        serve_connection(rustls::StreamOwned::new(session, socket), &state);
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
        self.state.lock().script.extend(more);
    }

    /// Whether every exchange of the script is done, for tests of background processes.
    #[allow(dead_code, reason = "for checkpoint.rs")]
    pub(crate) fn is_complete(&self) -> bool {
        self.state.lock().script.is_empty()
    }

    /// Maximum number of concurrent requests so far.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.state.lock().most_in_flight
    }

    /// Number of TCP connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        if thread::panicking() {
            let seen = self.state.state.lock().map(|state| state.seen.clone()).unwrap_or_default();
            eprintln!("requests that {} saw: {seen:#?}", self.address());
            return;
        }
        let state = self.state.lock();
        let mut report = state.errors.join("\n");
        for missing in &state.script {
            let _ = write!(report, "\nmissing: {} {}", missing.method, missing.path);
        }
        assert!(report.is_empty(), "{report}\nseen: {:#?}", state.seen);
    }
}

struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn serve_connection(stream: impl Read + Write, state: &Shared) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream) {
        let reply = receive(&request, state);
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
                // Returns when the client closes the connection.
                let _ = stream.read(&mut [0]);
                return;
            }
            Reply::Close => return,
        }
    }
}

/// Waits until the request can be answered.
fn receive(request: &Request, shared: &Shared) -> Reply {
    let mut state = shared.lock();
    state.in_flight += 1;
    state.most_in_flight = state.most_in_flight.max(state.in_flight);
    let (reply, together) = check(request, &mut state);
    state.waiting += 1;
    if state.waiting >= together || state.script.is_empty() {
        state.waiting = 0;
        state.releases += 1;
        shared.released.notify_all();
    } else {
        let before = state.releases;
        let patience = Duration::from_secs(10);
        let waits = |state: &mut State| state.releases == before;
        let (now, result) = shared.released.wait_timeout_while(state, patience, waits).expect("not poisoned");
        state = now;
        if result.timed_out() {
            state.errors.push(format!("{}: no {together} requests at a time", request.path));
        }
    }
    state.in_flight -= 1;
    reply
}

/// `None` at the end of the connection, or if TLS failed.
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

/// Returns the reply, and the number of requests that are answered together.
fn check(request: &Request, state: &mut State) -> (Reply, usize) {
    let summary = format!("{} {}", request.method, request.path);
    state.seen.push(summary.clone());
    let unexpected =
        Reply::Answer { status: 500, headers: Vec::new(), body: r#"{"errors":["not in the script"]}"#.into() };
    let matches = |exchange: &Exchange| {
        (exchange.method, exchange.path.as_str()) == (request.method.as_str(), request.path.as_str())
    };
    let next = state.script.iter().position(|exchange| state.in_any_order && matches(exchange)).unwrap_or_default();
    let Some(expected) = state.script.remove(next) else {
        state.errors.push(format!("extra: {summary}"));
        return (unexpected, 1);
    };
    let mut wrong = Vec::new();
    if !matches(&expected) {
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
        return (expected.reply, expected.together);
    }
    state.errors.push(format!("{summary}: {}", wrong.join("; ")));
    (unexpected, 1)
}
