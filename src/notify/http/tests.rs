//! Requests to scripted servers that behave like well-known applications.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use super::*;

/// Reads one request and responds with `status`. Returns the head of the request and its body.
fn respond(stream: &mut (impl Read + Write), status: &str) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or_default() {
                break;
            }
        }
        let count = stream.read(&mut buffer).expect("readable");
        assert!(count > 0, "the request ends too early: {text}");
        request.extend_from_slice(&buffer[..count]);
    }
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").expect("written");
    String::from_utf8(request).expect("text")
}

/// A server for one request. Returns its port.
fn serve(status: &'static str) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let port = listener.local_addr().expect("an address").port();
    (port, std::thread::spawn(move || respond(&mut listener.accept().expect("a connection").0, status)))
}

fn target(url: String) -> HttpTarget {
    HttpTarget {
        url,
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        unix_socket: None,
        method: "POST".into(),
        headers: BTreeMap::new(),
        body: None,
        expect: BTreeSet::new(),
        timeout: Duration::from_secs(10),
        ca_file: None,
        server_name: None,
    }
}

/// Sends the request as the runtime does.
fn send(target: HttpTarget) -> Result<(), Failure> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let prepared = prepare(target)?;
    runtime.block_on(prepared.send())
}

/// <https://prometheus.io/docs/prometheus/latest/management_api/#reload>
#[test]
fn prometheus_is_reloaded() {
    let (port, server) = serve("200 OK");
    send(target(format!("http://127.0.0.1:{port}/-/reload"))).expect("reloaded");
    let request = server.join().expect("a request");
    assert!(request.starts_with("POST /-/reload HTTP/1.1\r\n"), "{request}");

    // An invalid configuration.
    let (port, server) = serve("500 Internal Server Error");
    let failure = send(target(format!("http://127.0.0.1:{port}/-/reload"))).expect_err("refused");
    assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::NotifyFailed));
    let expected =
        format!("failed to send POST http://127.0.0.1:{port}/-/reload: the application responded with status 500");
    assert_eq!(failure.message, expected);
    server.join().expect("a request");
}

/// <https://docs.spring.io/spring-cloud-commons/reference/spring-cloud-commons/application-context-services.html#endpoints>
#[test]
fn spring_is_refreshed_with_the_content_of_a_header_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("authorization");
    std::fs::write(&file, "Bearer planted\n").expect("written");
    let (port, server) = serve("200 OK");
    let headers = BTreeMap::from([
        ("authorization".into(), HeaderSource::File(file)),
        ("content-type".into(), HeaderSource::Value("application/json".into())),
    ]);
    let url = format!("http://localhost:{port}/actuator/refresh?token=planted");
    send(HttpTarget { headers: headers.clone(), ..target(url.clone()) }).expect("refreshed");
    let request = server.join().expect("a request");
    for line in [
        "POST /actuator/refresh?token=planted HTTP/1.1",
        "authorization: Bearer planted",
        "content-type: application/json",
    ] {
        assert!(request.contains(line), "{line}: {request}");
    }

    let (port, server) = serve("401 Unauthorized");
    let url = format!("http://localhost:{port}/actuator/refresh?token=planted");
    let failure = send(HttpTarget { headers, ..target(url) }).expect_err("denied");
    assert_eq!(failure.class, FailureClass::Denied);
    assert!(!failure.message.contains("planted"), "{failure}");
    server.join().expect("a request");
}

/// <https://unit.nginx.org/controlapi/>
#[test]
fn nginx_unit_is_configured_over_its_unix_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("control.unit.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    let server = std::thread::spawn(move || respond(&mut listener.accept().expect("a connection").0, "200 OK"));
    let wanted = HttpTarget {
        unix_socket: Some(socket.clone()),
        method: "PUT".into(),
        body: Some("\"bundle\"".into()),
        ..target("http://localhost/config/listeners/*:443/tls/certificate".into())
    };
    send(wanted.clone()).expect("configured");
    let request = server.join().expect("a request");
    assert!(request.starts_with("PUT /config/listeners/*:443/tls/certificate HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n\"bundle\""), "{request}");

    std::fs::remove_file(&socket).expect("removed");
    let failure = send(wanted).expect_err("no socket");
    assert_eq!(failure.class, FailureClass::Unreachable);
    assert!(failure.message.contains(&format!("at socket {}", socket.display())), "{failure}");
}

/// <https://www.envoyproxy.io/docs/envoy/latest/operations/admin>
#[test]
fn envoy_drains_its_listeners() {
    let (port, server) = serve("200 OK");
    send(target(format!("http://127.0.0.1:{port}/drain_listeners?graceful"))).expect("drained");
    assert!(server.join().expect("a request").starts_with("POST /drain_listeners?graceful HTTP/1.1\r\n"));
}

#[test]
fn redirect_is_not_followed_and_expected_codes_are_success() {
    let (port, server) = serve("307 Temporary Redirect\r\nlocation: http://10.0.0.1/");
    let failure = send(target(format!("http://127.0.0.1:{port}/"))).expect_err("not followed");
    assert!(failure.message.ends_with("status 307"), "{failure}");
    server.join().expect("a request");

    let (port, server) = serve("409 Conflict");
    let expect = BTreeSet::from([200, 409]);
    send(HttpTarget { expect, method: "GET".into(), ..target(format!("http://127.0.0.1:{port}/")) }).expect("expected");
    assert!(server.join().expect("a request").starts_with("GET / "));
}

#[test]
fn retry_after_of_the_application_is_kept() {
    let (port, server) = serve("503 Service Unavailable\r\nretry-after: 7");
    let failure = send(target(format!("http://127.0.0.1:{port}/"))).expect_err("unavailable");
    assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
    server.join().expect("a request");
}

#[test]
fn application_that_does_not_listen_or_answer_is_unreachable() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let url = format!("http://127.0.0.1:{}/", listener.local_addr().expect("an address").port());
    let failure = send(HttpTarget { timeout: Duration::from_millis(50), ..target(url.clone()) }).expect_err("silent");
    assert_eq!(failure.class, FailureClass::Unreachable);
    assert!(failure.message.ends_with("no response within 0.05s"), "{failure}");
    drop(listener);
    let failure = send(target(url)).expect_err("refused");
    assert_eq!((failure.class, failure.reason), (FailureClass::Unreachable, Reason::NotifyFailed));
}

#[test]
fn unreadable_file_is_named() {
    let headers = BTreeMap::from([("authorization".into(), HeaderSource::File("/absent/file".into()))]);
    let failure = send(HttpTarget { headers, ..target("http://127.0.0.1:1/".into()) }).expect_err("no file");
    assert_eq!(failure.class, FailureClass::Local);
    assert!(failure.message.contains("failed to read the header file /absent/file"), "{failure}");
}

/// A TLS server for one connection with a certificate for this name. Returns its port and CA certificate.
fn serve_tls(name: &str) -> (u16, String, JoinHandle<Option<String>>) {
    rustls::crypto::ring::default_provider().install_default().ok();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a valid certificate");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let server = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().expect("a connection");
        let mut connection = rustls::ServerConnection::new(config.into()).expect("a connection");
        connection.complete_io(&mut tcp).ok()?;
        Some(respond(&mut rustls::Stream::new(&mut connection, &mut tcp), "200 OK"))
    });
    (port, cert.pem(), server)
}

#[test]
fn certificate_of_the_application_is_verified_with_the_given_ca_and_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let ca = directory.path().join("ca.crt");
    let (port, pem, server) = serve_tls("webapp.shop.svc");
    std::fs::write(&ca, pem).expect("written");
    let url = |port| format!("https://localhost:{port}/reload");
    let wanted =
        HttpTarget { ca_file: Some(ca.clone()), server_name: Some("webapp.shop.svc".into()), ..target(url(port)) };
    send(wanted).expect("reloaded");
    assert!(server.join().expect("no panic").is_some());

    // Another name, and another CA.
    let (port, pem, server) = serve_tls("webapp.shop.svc");
    std::fs::write(&ca, &pem).expect("written");
    let failure = send(HttpTarget { ca_file: Some(ca.clone()), ..target(url(port)) }).expect_err("another name");
    assert_eq!(failure.class, FailureClass::Unreachable);
    assert_eq!(server.join().expect("no panic"), None);
    let (port, _, server) = serve_tls("localhost");
    let failure = send(HttpTarget { ca_file: Some(ca), ..target(url(port)) }).expect_err("another CA");
    assert_eq!(failure.class, FailureClass::Unreachable);
    assert_eq!(server.join().expect("no panic"), None);
}
