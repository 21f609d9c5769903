//! `notify`: the notifications and their errors.

use std::net::IpAddr;
use std::time::Duration;

use super::diagnostics::with;
use super::{loaded, rejected};
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
    assert!(matches!(&target.headers["content-type"], HeaderSource::Value(value) if value.expose() == b"application/json"));
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
        ("{n: {}}", "notify.n", "must contain one of `signal`, `http`, `file`, or `restart`"),
        ("{n: {file: /run/g, restart: containers}}", "notify.n", "must contain only one of"),
        ("{N: {file: /run/g}}", "notify.N", "lower-case"),
        ("{n: {signal: {}}}", "notify.n.signal", "must contain one of `process` and `pidFile`"),
        ("{n: {signal: {process: a, pidFile: /p}}}", "notify.n.signal", "must contain only one of"),
        ("{n: {signal: {process: /bin/a}}}", "notify.n.signal.process", "without its directory"),
        ("{n: {signal: {process: a, name: SIGHUP}}}", "notify.n.signal.name", "must be one of HUP"),
        ("{n: {signal: {pidFile: app.pid}}}", "notify.n.signal.pidFile", "absolute path"),
        ("{n: {http: {}}}", "notify.n.http.url", "is missing"),
        ("{n: {http: {url: 'http://10.0.0.1/'}}}", "notify.n.http.url", "loopback"),
        ("{n: {http: {url: 'http://webapp.shop.svc/'}}}", "notify.n.http.url", "loopback"),
        ("{n: {http: {url: 'http://0.0.0.0/'}}}", "notify.n.http.url", "loopback"),
        ("{n: {http: {url: 'ftp://localhost/'}}}", "notify.n.http.url", "http or https"),
        ("{n: {http: {url: '/reload'}}}", "notify.n.http.url", "http or https"),
        ("{n: {http: {url: 'http://a:b@localhost/'}}}", "notify.n.http.url", "headerFiles"),
        ("{n: {http: {url: 'https://localhost/'}}}", "notify.n.http.caFile", "is missing"),
        ("{n: {http: {url: 'http://localhost/', caFile: /ca}}}", "notify.n.http.caFile", "without an `https` URL"),
        ("{n: {http: {url: 'http://localhost/', timeout: 6m}}}", "notify.n.http.timeout", "at most 5m"),
        ("{n: {http: {url: 'http://localhost/', headers: {Host: a}}}}", "notify.n.http.headers.Host", "itself"),
        ("{n: {http: {url: 'http://localhost/', headers: {'a b': a}}}}", "notify.n.http.headers.a b", "name of a header"),
        (
            "{n: {http: {url: 'http://localhost/', headers: {A: b}, headerFiles: {a: /b}}}}",
            "notify.n.http.headerFiles.a",
            "twice",
        ),
        ("{n: {http: {url: 'http://localhost/', expect: [700]}}}", "notify.n.http.expect[0]", "at most 599"),
        ("{n: {file: g}}", "notify.n.file", "absolute path"),
        ("{n: {file: /etc/sensitive/g}}", "notify.n.file", "outside `directory.path`"),
        ("{a: {file: /run/g}, n: {file: /run/g}}", "notify.n.file", "notification a writes it too"),
        ("{n: {restart: pod}}", "notify.n.restart", "must be one of containers"),
        ("{n: {restart: containers, atStart: true}}", "notify.n.atStart", "must not be true"),
        ("{n: {restart: containers, minInterval: 5s}}", "notify.n.minInterval", "at least 10s"),
        ("{a: {restart: containers}, n: {restart: containers}}", "notify.n.restart", "notification a"),
        ("{n: {file: /run/g, debounce: 2d}}", "notify.n.debounce", "at most 1d"),
        ("{n: {file: /run/g, files: [pv]}}", "notify.n.files[0]", "did you mean `pw`?"),
        ("{n: {file: /run/g, files: ['{a,b}']}}", "notify.n.files[0]", "several patterns"),
        ("{n: {file: /run/g, after: [m]}}", "notify.n.after[0]", "must be a notification in `notify`"),
        ("{n: {file: /run/g, after: [n]}}", "notify.n.after", "cycle"),
        ("{m: {file: /run/f, after: [n]}, n: {file: /run/g, after: [m]}}", "notify.m.after", "cycle (m, n)"),
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
        "{n: {http: {url: 'http://10.0.0.1/?token=horse'}}}",
        "{n: {http: {url: 'http://localhost/', headers: {Authorization: \"horse\\n\"}}}}",
    ] {
        let error = rejected(&[], Some(&with(&format!("notify: {notify}\n")))).to_string();
        assert!(!error.contains("horse"), "{error}");
    }
}
