//! A loopback proxy that forwards HTTP/1.1 unchanged and records each request's method and path.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::Result;

/// A running proxy. It runs until the process exits.
pub struct Proxy {
    pub address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts a proxy in front of `server`, `http://host:port`.
    pub fn start(server: &str) -> Result<Self> {
        let target = server.strip_prefix("http://").ok_or("the counting proxy supports plain HTTP only")?;
        let target: SocketAddr = target.trim_end_matches('/').parse()?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = format!("http://{}", listener.local_addr()?);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for client in listener.incoming().filter_map(std::result::Result::ok) {
                let log = Arc::clone(&log);
                thread::spawn(move || pass(&client, target, &log));
            }
        });
        Ok(Self { address, seen })
    }

    /// Requests since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn pass(client: &TcpStream, target: SocketAddr, log: &Mutex<Vec<String>>) -> Option<()> {
    let server = TcpStream::connect(target).ok()?;
    let (mut answers, mut back) = (server.try_clone().ok()?, client.try_clone().ok()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut requests = BufReader::new(client.try_clone().ok()?);
    while let Some(request) = next_request(&mut requests, &mut &server) {
        log.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }
    server.shutdown(Shutdown::Both).ok()
}

/// Forwards one request; returns its method and path without the query.
fn next_request(from: &mut impl BufRead, to: &mut impl Write) -> Option<String> {
    let (mut first, mut length) = (String::new(), 0_u64);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        to.write_all(line.as_bytes()).ok()?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
        if first.is_empty() {
            first = line;
        } else if line.trim_end().is_empty() {
            break;
        }
    }
    std::io::copy(&mut from.take(length), to).ok()?;
    let mut words = first.split_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?.split('?').next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_splits_and_forwards_requests_of_one_connection() {
        let wire = "POST /v1/login HTTP/1.1\r\nContent-Length: 7\r\n\r\nGET /x\nGET /v1/secret?a=b HTTP/1.1\r\n\r\n";
        let (mut from, mut to) = (wire.as_bytes(), Vec::new());
        assert_eq!(next_request(&mut from, &mut to).as_deref(), Some("POST /v1/login"));
        assert_eq!(next_request(&mut from, &mut to).as_deref(), Some("GET /v1/secret"));
        assert_eq!(next_request(&mut from, &mut to), None);
        assert_eq!(String::from_utf8(to).expect("text"), wire);
    }
}
