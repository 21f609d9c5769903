//! `notify`: the notifications and their errors.

use std::net::IpAddr;
use std::time::Duration;

use super::diagnostics::with;
use super::{environment, loaded, rejected};
use crate::config::checkpoint_file;
use crate::model::{
    FilePath, HeaderSource, HttpTarget, Notification, NotificationName, NotificationTarget, ProcessSelector, SignalName,
};

fn notification(notify: &str) -> Notification {
    let settings = loaded(&[], Some(&with(&format!("notify: {{n: {notify}}}"))));
    settings.notify[&NotificationName::new("n").expect("a name")].clone()
}

fn http(http: &str) -> HttpTarget {
    match notification(&format!("{{http: {http}}}")).target {
        NotificationTarget::Http(target) => *target,
        _ => panic!("not an HTTP request"),
    }
}

#[test]
fn signal_is_hup_by_default_and_selects_by_name_or_pid_file() {
    let signal = |text: &str| match notification(&format!("{{signal: {text}}}")).target {
        NotificationTarget::Signal { process, signal } => (process, signal),
        _ => panic!("not a signal"),
    };
    assert_eq!(signal("{process: nginx}"), (ProcessSelector::Name("nginx".into()), SignalName::Hup));
    let file = ProcessSelector::PidFile("/run/app/app.pid".into());
    assert_eq!(signal("{pidFile: /run/app/app.pid, name: USR1}"), (file, SignalName::Usr1));
}

#[test]
fn request_has_defaults_and_all_settings() {
    let target = http("{url: 'http://127.0.0.1:9090/-/reload'}");
    assert_eq!(target.method, "POST");
    assert_eq!(target.addresses, ["127.0.0.1".parse::<IpAddr>().expect("an address")]);
    assert!(target.expects(200) && target.expects(204) && !target.expects(302) && target.headers.is_empty());
    assert_eq!(target.timeout, Duration::from_secs(10));

    let target = http(
        "{url: 'https://localhost:8443/reload?all=true', method: PUT, headers: {Content-Type: application/json}, \
         headerFiles: {Authorization: /etc/sensitive/auth}, body: '{}', expect: [202, 409], timeout: 1m, \
         caFile: /etc/ca.crt, serverName: webapp.shop.svc}",
    );
    assert_eq!(target.addresses.len(), 2, "both loopback addresses");
    assert!(target.expects(202) && target.expects(409) && !target.expects(200));
    assert!(
        matches!(&target.headers["content-type"], HeaderSource::Value(value) if value.expose() == b"application/json")
    );
    assert!(matches!(&target.headers["authorization"], HeaderSource::File(file) if file.ends_with("auth")));
    assert_eq!((target.server_name.as_deref(), target.method.as_str()), (Some("webapp.shop.svc"), "PUT"));

    let target = http("{url: 'http://localhost/config', unixSocket: /run/control.unit.sock}");
    assert_eq!(target.unix_socket.as_deref(), Some(std::path::Path::new("/run/control.unit.sock")));
    assert_eq!(http("{url: 'http://[::1]:80/'}").addresses, ["::1".parse::<IpAddr>().expect("an address")]);
}

#[test]
fn restart_is_paced_by_default_and_others_are_not() {
    let restart = notification("{restart: containers, files: ['webapp/*']}");
    assert!(restart.is_restart());
    assert_eq!((restart.min_interval.as_secs(), restart.jitter.as_secs(), restart.debounce.as_secs()), (300, 30, 1));
    let marker = notification("{file: /run/keyferry/notify/generation, atStart: true}");
    assert!(marker.at_start && !marker.is_restart());
    assert_eq!((marker.min_interval, marker.jitter), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn patterns_select_files() {
    let file = |text: &str| FilePath::new(text).expect(text);
    let some = notification("{file: /run/g, files: ['tls/*', 'a?']}");
    assert!(some.selects(&file("tls/key")) && some.selects(&file("ab")));
    assert!(!some.selects(&file("a")) && !some.selects(&file("tls/a/b")));
    assert!(notification("{file: /run/g}").selects(&file("any/file")));
}

#[test]
fn each_error_of_a_notification_has_its_path_and_its_action() {
    let outputs = "outputs: [{source: db, key: password, file: pw}]\n";
    for (notify, path, part) in [
        ("{x: {}}", "notify.x", "must contain one of `signal`, `http`, `file`, or `restart`"),
        ("{x: {file: /run/g, restart: containers}}", "notify.x", "must contain only one of"),
        ("{X: {file: /run/g}}", "notify.X", "lower-case"),
        ("{x: {signal: {}}}", "notify.x.signal", "must contain one of `process` and `pidFile`"),
        ("{x: {signal: {process: a, pidFile: /p}}}", "notify.x.signal", "must contain only one of"),
        ("{x: {signal: {process: /bin/a}}}", "notify.x.signal.process", "without its directory"),
        ("{x: {signal: {process: a, name: SIGHUP}}}", "notify.x.signal.name", "must be one of HUP"),
        ("{x: {signal: {pidFile: app.pid}}}", "notify.x.signal.pidFile", "absolute path"),
        ("{x: {http: {}}}", "notify.x.http.url", "is missing"),
        ("{x: {http: {url: 'http://10.0.0.1/'}}}", "notify.x.http.url", "loopback"),
        ("{x: {http: {url: 'http://webapp.shop.svc/'}}}", "notify.x.http.url", "loopback"),
        ("{x: {http: {url: 'http://0.0.0.0/'}}}", "notify.x.http.url", "loopback"),
        ("{x: {http: {url: 'ftp://localhost/'}}}", "notify.x.http.url", "http or https"),
        ("{x: {http: {url: '/reload'}}}", "notify.x.http.url", "http or https"),
        ("{x: {http: {url: 'http://a:b@localhost/'}}}", "notify.x.http.url", "headerFiles"),
        ("{x: {http: {url: 'https://localhost/'}}}", "notify.x.http.caFile", "is missing"),
        ("{x: {http: {url: 'http://localhost/', caFile: /ca}}}", "notify.x.http.caFile", "without an `https` URL"),
        ("{x: {http: {url: 'http://localhost/', timeout: 6m}}}", "notify.x.http.timeout", "at most 5m"),
        ("{x: {http: {url: 'http://localhost/', headers: {Host: a}}}}", "notify.x.http.headers.Host", "itself"),
        (
            "{x: {http: {url: 'http://localhost/', headers: {'a b': a}}}}",
            "notify.x.http.headers.a b",
            "name of a header",
        ),
        (
            "{x: {http: {url: 'http://localhost/', headers: {A: b}, headerFiles: {a: /b}}}}",
            "notify.x.http.headerFiles.a",
            "twice",
        ),
        ("{x: {http: {url: 'http://localhost/', expect: [700]}}}", "notify.x.http.expect[0]", "at most 599"),
        ("{x: {file: g}}", "notify.x.file", "absolute path"),
        ("{x: {file: /etc/sensitive/g}}", "notify.x.file", "outside `directory.path`"),
        ("{a: {file: /run/g}, x: {file: /run/g}}", "notify.x.file", "notification a writes it too"),
        ("{x: {restart: pod}}", "notify.x.restart", "must be one of containers"),
        ("{x: {restart: containers, atStart: true}}", "notify.x.atStart", "must not be true"),
        ("{x: {restart: containers, minInterval: 5s}}", "notify.x.minInterval", "at least 10s"),
        ("{a: {restart: containers}, x: {restart: containers}}", "notify.x.restart", "notification a"),
        ("{x: {file: /run/g, debounce: 2d}}", "notify.x.debounce", "at most 1d"),
        ("{x: {file: /run/g, files: [pv]}}", "notify.x.files[0]", "did you mean `pw`?"),
        ("{x: {file: /run/g, files: ['{a,b}']}}", "notify.x.files[0]", "several patterns"),
        ("{x: {file: /run/g, after: [m]}}", "notify.x.after[0]", "must be a notification in `notify`"),
        ("{x: {file: /run/g, after: [x]}}", "notify.x.after", "cycle"),
        ("{m: {file: /run/f, after: [x]}, x: {file: /run/g, after: [m]}}", "notify.m.after", "cycle (m, x)"),
    ] {
        let error = rejected(&[], Some(&with(&format!("{outputs}notify: {notify}\n"))));
        let found = error.diagnostics.iter().find(|diagnostic| diagnostic.path == path);
        let message = found.map(|diagnostic| diagnostic.message.as_str()).unwrap_or_default();
        assert!(message.contains(part), "{notify}: expected {path}: {part}, found {error}");
    }
}

#[test]
fn error_shows_no_header_and_no_url() {
    for notify in [
        "{x: {http: {url: 'http://10.0.0.1/?token=horse'}}}",
        "{x: {http: {url: 'http://localhost/', headers: {Authorization: \"horse\\n\"}}}}",
    ] {
        let error = rejected(&[], Some(&with(&format!("notify: {notify}\n")))).to_string();
        assert!(!error.contains("horse"), "{error}");
    }
}

#[test]
fn restart_of_all_containers_requires_a_checkpoint() {
    let settings = loaded(&[], Some(&with("notify: {restart: {restart: containers}}")));
    let without = checkpoint_file(&environment(&[]), None, &settings);
    let message = without.expect_err("rejected");
    assert!(message.starts_with("notify.restart.restart: requires a checkpoint"), "{message}");
    let file = checkpoint_file(&environment(&[("KEYFERRY_CHECKPOINT", "/run/keyferry/checkpoint")]), None, &settings);
    assert!(file.is_ok_and(|file| file.is_some()));
}

#[test]
fn server_name_is_no_address() {
    for address in ["10.0.0.1", "167772161", "0x0a000001", "10.1.", "[fd00::1]"] {
        let http = format!("{{url: 'https://localhost/', caFile: /etc/ca.crt, serverName: '{address}'}}");
        let error = rejected(&[], Some(&with(&format!("notify: {{n: {{http: {http}}}}}"))));
        assert!(error.to_string().contains("notify.n.http.serverName: must be a DNS name"), "{error}");
    }
}
