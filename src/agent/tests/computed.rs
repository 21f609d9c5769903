//! Sources of template calls that depend on other secrets: rounds, reloads, mirrors, leases, and restarts.

use super::driver::{Driver, Kind, subject};
use super::fixtures::{MINUTE, leased, mirror, name, object, path, reading, secs};
use super::templates::{APPS, FILE, names, started, with_template};
use crate::agent::{Input, Mode, Op, Outcome};
use crate::model::{Failure, FailureClass, Reading, Reason};

const TWO: &str = r#"{{ with secret (print "kv/" .a.next) }}{{ .Data.pw }}{{ end }}"#;

/// The message of the first failure to render.
fn render_failure(d: &Driver) -> Option<&str> {
    d.log.iter().find(|line| line.reason == Some(Reason::RenderFailed)).map(|line| line.message.as_str())
}

#[test]
fn other_sources_are_no_rounds_of_a_template() {
    let mut settings = with_template(&["a"], TWO, &[]);
    for other in ["b", "c", "d", "e"] {
        settings.sources.insert(name(other), super::fixtures::source(other));
        settings.outputs.push(super::fixtures::each_key(other));
    }
    let mut d = started(settings);
    d.read("a", Ok(reading(1, &[("next", "x")])));
    for other in ["b", "c", "d", "e"] {
        d.read(other, Ok(reading(1, &[("pw", "1")])));
    }
    assert_eq!(render_failure(&d), None);
    d.read("kv/x", Ok(reading(1, &[("pw", "1")])));
    assert_eq!(d.file(FILE), Some("1"));
}

#[test]
fn secret_that_is_missing_for_long_is_no_round() {
    let mut d = started(with_template(&["a"], TWO, &[]));
    d.read("a", Ok(reading(1, &[("next", "x")])));
    for n in 0..300 {
        let gone = || Failure::new(FailureClass::Missing, Reason::SecretNotFound, "no secret");
        while let Some(source) = d.open.iter().filter_map(|(_, op)| subject(op)).find(|source| source.starts_with("kv"))
        {
            let source = source.to_owned();
            d.read(&source, Err(gone()));
        }
        if d.is_reading("a") {
            // The path changes often, too.
            let next = format!("x{n}");
            d.read("a", Ok(reading(n + 2, &[("next", if n < 150 { &next } else { "x" })])));
        }
        d.advance(secs(2));
    }
    assert_eq!(render_failure(&d), None);
    d.advance(MINUTE);
    d.read("kv/x", Ok(reading(1, &[("pw", "1")])));
    assert_eq!(d.file(FILE), Some("1"));
}

#[test]
fn calls_of_another_waiting_reading_are_kept() {
    let text = r#"{{ with secret (print "kv/" .a.next) }}{{ .Data.pw }}{{ end }}{{ with secret (print "kv/" .b.next) }}{{ .Data.pw }}{{ end }}"#;
    let mut d = started(with_template(&["a", "b"], text, &[]));
    d.read("a", Ok(reading(1, &[("next", "x")])));
    d.read("b", Ok(reading(1, &[("next", "x")])));
    d.read("kv/x", Ok(reading(1, &[("pw", "1")])));
    assert_eq!(d.file(FILE), Some("11"));
    d.advance(MINUTE);
    d.read("a", Ok(reading(2, &[("next", "y")])));
    d.read("b", Ok(reading(2, &[("next", "z")])));
    let reads = d.started[&Kind::Read];
    d.read("kv/y", Ok(reading(1, &[("pw", "2")])));
    assert_eq!(d.file(FILE), Some("21"));
    d.read("kv/z", Ok(reading(1, &[("pw", "3")])));
    assert_eq!(d.file(FILE), Some("23"));
    assert_eq!(d.started[&Kind::Read], reads, "no secret is read twice");
}

#[test]
fn manifest_names_only_sources_that_the_next_process_knows() {
    let mut d = started(with_template(&[], APPS, &["secret/apps"]));
    d.read("secret/apps/", Ok(names(&["one", "two"])));
    d.read("secret/apps/one", Ok(reading(1, &[("pw", "1")])));
    d.read("secret/apps/two", Ok(reading(1, &[("pw", "2")])));
    d.advance(MINUTE);
    d.read("secret/apps/", Ok(names(&["one"])));
    assert_eq!(d.file(FILE), Some("1;"));
    let set = d.set.clone().expect("a set");
    let known = set.manifest.files[&path(FILE)].iter().all(|source| set.manifest.sources.contains_key(source));
    assert!(known, "{:?} of {:?}", set.manifest.files, set.manifest.sources.keys());
}

#[test]
fn refresh_reads_lists_and_leaves_a_waiting_credential_alone() {
    let mut d = started(with_template(&[], APPS, &["secret/apps"]));
    d.read("secret/apps/", Ok(names(&["one"])));
    d.read("secret/apps/one", Ok(reading(1, &[("pw", "1")])));
    d.advance(secs(5));
    d.refresh();
    assert!(d.is_reading("secret/apps/") && d.is_reading("secret/apps/one"));

    let mut d = started(with_template(&["a"], TWO, &[]));
    let with_lease = |id: &str| {
        let validity = leased(id, secs(3600)).validity;
        Reading { validity, ..reading(1, &[("next", "x")]) }
    };
    d.read("a", Ok(with_lease("one")));
    d.advance(secs(5));
    d.refresh();
    assert!(d.is_reading("kv/x") && !d.is_reading("a"), "another read would issue another lease");
}

#[test]
fn lease_of_a_waiting_reading_begins_with_its_read() {
    let mut d = started(with_template(&["a"], TWO, &[]));
    let validity = leased("one", secs(60)).validity;
    d.read("a", Ok(Reading { validity, ..reading(1, &[("next", "x")]) }));
    d.advance(secs(29));
    d.read("kv/x", Ok(reading(1, &[("pw", "1")])));
    assert_eq!(d.file(FILE), Some("1"));
    d.advance(secs(22));
    assert!(d.is_open(Kind::RenewLease), "9 s before the lease expires");
}

#[test]
fn changed_template_keeps_its_file_and_its_secrets() {
    let configured = with_template(&[], APPS, &["secret/apps"]);
    let mut d = started(configured.clone());
    d.read("secret/apps/", Ok(names(&["one"])));
    d.read("secret/apps/one", Ok(reading(1, &[("pw", "1")])));
    // Another text with the same calls.
    d.config(with_template(&[], &format!("# {APPS}"), &["secret/apps"]));
    assert_eq!(d.file(FILE), Some("# 1;"));
    // Other calls.
    d.config(with_template(&[], &APPS.replace("secret/apps/%s", "other/%s"), &["secret/apps"]));
    assert_eq!(d.file(FILE), Some("# 1;"), "until the new secrets are read");
    d.read("other/one", Ok(reading(1, &[("pw", "2")])));
    assert_eq!(d.file(FILE), Some("2;"));
    assert!(!d.agent.settings().sources.contains_key(&name("secret/apps/one")));
    d.config(configured);
    d.read("secret/apps/one", Ok(reading(1, &[("pw", "3")])));
    assert_eq!(d.file(FILE), Some("3;"));
}

#[test]
fn other_server_is_used_although_it_has_not_the_computed_secrets() {
    let mut d = started(with_template(&[], APPS, &["secret/apps"]));
    d.read("secret/apps/", Ok(names(&["one"])));
    d.read("secret/apps/one", Ok(reading(1, &[("pw", "1")])));
    let mut moved = with_template(&[], APPS, &["secret/apps"]);
    moved.server.address = "https://other:8200".into();
    d.config(moved);
    d.login_ok(secs(3600));
    d.read("secret/apps/", Ok(names(&["two"])));
    assert_eq!(d.file(FILE), Some("1;"));
    for _ in 0..10 {
        if d.is_reading("secret/apps/") {
            d.read("secret/apps/", Ok(names(&["two"])));
        }
        if d.is_reading("secret/apps/one") {
            d.read("secret/apps/one", Err(Failure::new(FailureClass::Missing, Reason::SecretNotFound, "no secret")));
        }
        if d.is_reading("secret/apps/two") {
            d.read("secret/apps/two", Ok(reading(1, &[("pw", "2")])));
        }
        d.advance(secs(1));
    }
    assert_eq!(d.agent.settings().server.address, "https://other:8200");
    assert_eq!(d.file(FILE), Some("2;"));
    assert!(!d.agent.settings().sources.contains_key(&name("secret/apps/one")));
}

#[test]
fn mirror_of_a_template_knows_its_computed_secrets() {
    let mut settings = with_template(&[], APPS, &["secret/apps"]);
    settings.mirrors.insert(object("all"), mirror(&[]));
    let mut d = started(settings);
    d.hold(Kind::Mirror);
    d.read("secret/apps/", Ok(names(&["one"])));
    d.read("secret/apps/one", Ok(reading(1, &[("pw", "1")])));
    let requested = |d: &Driver| {
        let content = d.open.iter().find_map(|(_, op)| match op {
            Op::Mirror { content, .. } => Some(content.clone()),
            _ => None,
        });
        content.expect("a mirror")
    };
    let content = requested(&d);
    assert_eq!(content.data.len(), 1);
    // Replicas recognize their configuration by it, whatever the template calls for now.
    assert_eq!(content.versions.keys().collect::<Vec<_>>(), [&name("secret/apps/")]);

    d.release(Kind::Mirror);
    d.advance(MINUTE);
    d.hold(Kind::Mirror);
    let validity = leased("lease", secs(3600)).validity;
    d.read("secret/apps/one", Ok(Reading { validity, ..reading(2, &[("pw", "2")]) }));
    assert!(requested(&d).data.is_empty(), "a leased credential is not mirrored");
}

#[test]
fn leases_of_computed_secrets_are_restored() {
    let text = r#"{{ with secret (printf "database/creds/%s" .a.role) }}{{ .Data.password }}{{ end }}"#;
    let made = with_template(&["a"], text, &[]);
    let saving = Mode::Run { checkpoint: true, app_container: false };
    let mut d = Driver::with(made.clone(), saving, None);
    d.login_ok(secs(3600));
    d.read("a", Ok(reading(1, &[("role", "app")])));
    d.read("database/creds/app", Ok(leased("l1", secs(600))));
    assert_eq!(d.file(FILE), Some("l1"));
    let checkpoint = d.checkpoint.clone().expect("a checkpoint");
    assert_eq!(checkpoint.calls.len(), 1);

    let mut d = Driver::with(made, saving, None);
    let (ticket, _) = d.take(Kind::LogIn, None);
    d.input(Input::Completed(ticket, Outcome::Restored(Ok(Box::new(checkpoint)))));
    d.read("a", Ok(reading(1, &[("role", "app")])));
    assert_eq!(d.file(FILE), Some("l1"));
    assert_eq!(d.started[&Kind::Read], 1, "no other credential is issued");
    // The role changes, so the restored lease is not needed any more.
    d.advance(MINUTE);
    d.read("a", Ok(reading(2, &[("role", "other")])));
    d.read("database/creds/other", Ok(leased("l2", secs(600))));
    assert!(!d.agent.settings().sources.contains_key(&name("database/creds/app")));
}
