//! Templates over several sources, and calls whose paths depend on other secrets.

use super::driver::{Driver, Kind, subject};
use super::fixtures::{MINUTE, RUN, leased, mirror, name, object, path, reading, secs, settings};
use crate::agent::{Input, Mode, Op, Outcome};
use crate::model::{
    Failure, FailureClass, MissingKey, Output, OutputKind, Reading, Reason, SecretCall, SecretFunction, SecretValue,
    Settings, Template,
};

const FILE: &str = "out";

/// Settings with these sources and one template, whose calls of `secrets` are known.
fn with_template(sources: &[&str], text: &str, lists: &[&str]) -> Settings {
    let mut settings = settings(sources);
    let calls = lists.iter().map(|path| {
        let call = SecretCall::new(SecretFunction::Secrets, &[path]).expect("a call");
        let defaults = settings.call_defaults.clone();
        let (name, _) = call.find_or_add(&mut settings.sources, &defaults);
        (call, name)
    });
    let calls = calls.collect();
    let template = Template {
        text: text.to_owned(),
        file: None,
        missing_key: MissingKey::Error,
        delimiters: ("{{".into(), "}}".into()),
        variables: std::collections::BTreeMap::new(),
        named: sources.iter().map(|source| name(source)).collect(),
        calls,
        computed: std::collections::BTreeMap::new(),
    };
    let source = template.sources().next().expect("a source").clone();
    settings.outputs = vec![Output {
        source,
        kind: OutputKind::Template { path: path(FILE), template: Box::new(template) },
        mode: None,
    }];
    settings
}

fn started(settings: Settings) -> Driver {
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(secs(3600));
    d
}

fn names(of: &[&str]) -> Reading {
    let keys = SecretValue::Json(serde_json::to_string(of).expect("JSON").into());
    Reading { data: [("keys".to_owned(), keys)].into(), ..Reading::default() }
}

#[test]
fn template_is_rendered_when_all_sources_are_read() {
    let mut d = started(with_template(&["a", "b"], "{{ .a.user }}:{{ .b.pw }} v{{ (meta \"a\").version }}", &[]));
    d.read("a", Ok(reading(3, &[("user", "u")])));
    assert_eq!(d.file(FILE), None);
    d.read("b", Ok(reading(1, &[("pw", "p")])));
    assert_eq!(d.file(FILE), Some("u:p v3"));
    d.advance(MINUTE);
    d.read("b", Ok(reading(2, &[("pw", "q")])));
    assert_eq!(d.file(FILE), Some("u:q v3"));
}

#[test]
fn reading_without_a_key_is_not_accepted_and_the_file_stays() {
    let mut d = started(with_template(&["a"], "x\n  {{ .a.user }}", &[]));
    d.read("a", Ok(reading(1, &[("user", "u")])));
    d.advance(MINUTE);
    d.read("a", Ok(reading(2, &[("usr", "u")])));
    assert_eq!(d.file(FILE), Some("x\n  u"));
    let line = d.log.iter().find(|line| line.reason == Some(Reason::RenderFailed)).expect("a log line");
    assert_eq!(
        line.message,
        "failed to render file out: template, line 2, column 6: source a has no key \"user\"; correct the key, or set the \
         output's `missingKey: default`"
    );
}

const APPS: &str = r#"{{ range secrets "secret/apps" }}{{ with secret (printf "secret/apps/%s" .) }}{{ .Data.pw }};{{ end }}{{ end }}"#;

#[test]
fn computed_paths_are_read_in_a_second_round() {
    let mut d = started(with_template(&[], APPS, &["secret/apps"]));
    d.read("secret/apps/", Ok(names(&["one", "two"])));
    assert_eq!(d.file(FILE), None);
    d.read("secret/apps/one", Ok(reading(1, &[("pw", "1")])));
    assert_eq!(d.file(FILE), None, "not before all secrets are read");
    d.read("secret/apps/two", Ok(reading(1, &[("pw", "2")])));
    assert_eq!(d.file(FILE), Some("1;2;"));
    assert_eq!(d.started[&Kind::Read], 3, "each is read once");

    // A secret changes, one is added, and one is removed.
    d.advance(MINUTE);
    d.read("secret/apps/one", Ok(reading(2, &[("pw", "1b")])));
    assert_eq!(d.file(FILE), Some("1b;2;"));
    d.read("secret/apps/", Ok(names(&["one", "three"])));
    assert_eq!(d.file(FILE), Some("1b;2;"), "the file stays until the new secret is read");
    d.read("secret/apps/three", Ok(reading(1, &[("pw", "3")])));
    assert_eq!(d.file(FILE), Some("1b;3;"));
    assert!(!d.agent.settings().sources.contains_key(&name("secret/apps/two")), "it is not read any more");
    assert!(d.agent.settings().sources.contains_key(&name("secret/apps/three")));
}

#[test]
fn refresh_lists_the_names_again() {
    let mut d = started(with_template(&[], APPS, &["secret/apps"]));
    d.read("secret/apps/", Ok(names(&["one"])));
    d.read("secret/apps/one", Ok(reading(1, &[("pw", "1")])));
    d.refresh();
    d.read("secret/apps/", Ok(names(&["one", "two"])));
    d.read("secret/apps/two", Ok(reading(1, &[("pw", "2")])));
    assert_eq!(d.file(FILE), Some("1;2;"));
}

#[test]
fn computed_secret_that_is_missing_keeps_the_file() {
    let mut d = started(with_template(&[], APPS, &["secret/apps"]));
    d.read("secret/apps/", Ok(names(&["one"])));
    d.read("secret/apps/one", Ok(reading(1, &[("pw", "1")])));
    d.advance(MINUTE);
    d.read("secret/apps/", Ok(names(&["gone", "one"])));
    d.read("secret/apps/gone", Err(Failure::new(FailureClass::Missing, Reason::SecretNotFound, "no secret")));
    assert_eq!(d.file(FILE), Some("1;"));
    assert!(d.log.iter().any(|line| line.reason == Some(Reason::SecretNotFound)));
    // The name disappears, so the missing secret is not needed.
    d.advance(MINUTE);
    d.read("secret/apps/", Ok(names(&["one"])));
    assert!(!d.agent.settings().sources.contains_key(&name("secret/apps/gone")));
}

/// A walk found this: each of the new secrets that arrived counted as a round.
#[test]
fn many_new_secrets_are_one_round() {
    let mut d = started(with_template(&[], APPS, &["secret/apps"]));
    let all: Vec<String> = (0..20).map(|number| format!("n{number:02}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    d.read("secret/apps/", Ok(names(&all)));
    for (index, name) in all.iter().enumerate() {
        assert_eq!(d.file(FILE), None);
        d.read(&format!("secret/apps/{name}"), Ok(reading(1, &[("pw", &index.to_string())])));
    }
    assert!(d.file(FILE).is_some_and(|text| text.starts_with("0;1;2;") && text.ends_with("19;")));
    assert!(!d.log.iter().any(|line| line.reason == Some(Reason::RenderFailed)));
}

/// The last good file stays if a reload changes a template and the new one has no content.
#[test]
fn file_of_a_changed_template_stays_until_the_new_one_has_content() {
    let mut d = started(with_template(&["a"], "{{ .a.user }}", &[]));
    d.read("a", Ok(reading(1, &[("user", "u")])));
    assert_eq!(d.file(FILE), Some("u"));
    d.config(with_template(&["a"], "{{ .a.usr }}", &[]));
    assert_eq!(d.file(FILE), Some("u"), "the new template fails");
    d.config(with_template(&["a", "b"], "{{ .a.user }}{{ .b.pw }}", &[]));
    assert_eq!(d.file(FILE), Some("u"), "the new source has not been read");
    d.read("b", Ok(reading(1, &[("pw", "p")])));
    assert_eq!(d.file(FILE), Some("up"));
    d.config(with_template(&["a"], "{{ .a.user }}!", &[]));
    assert_eq!(d.file(FILE), Some("u!"));
    let mut other = with_template(&["a"], "{{ .a.usr }}", &[]);
    if let OutputKind::Template { path: file, .. } = &mut other.outputs[0].kind {
        *file = path("another");
    }
    d.config(other);
    assert_eq!((d.file(FILE), d.file("another")), (None, None), "no output writes the old file");
}

#[test]
fn rounds_are_limited() {
    let text = r#"{{ $x := .a.next }}{{ range loop 9 }}{{ with secret (printf "kv/%s" $x) }}{{ $x = .Data.next }}{{ end }}{{ end }}{{ $x }}"#;
    let mut d = started(with_template(&["a"], text, &[]));
    d.read("a", Ok(reading(1, &[("next", "1")])));
    for (source, next) in [("kv/1", "2"), ("kv/2", "3"), ("kv/3", "4")] {
        d.read(source, Ok(reading(1, &[("next", next)])));
    }
    let line = d.log.iter().find(|line| line.reason == Some(Reason::RenderFailed)).expect("a log line");
    assert!(line.message.contains("more than 3 rounds"), "{}", line.message);
    assert_eq!(d.file(FILE), None);
}

#[test]
fn reload_of_the_same_template_keeps_its_secrets() {
    let configured = with_template(&[], APPS, &["secret/apps"]);
    let mut d = started(configured.clone());
    d.read("secret/apps/", Ok(names(&["one"])));
    d.read("secret/apps/one", Ok(reading(1, &[("pw", "1")])));
    let reads = d.started[&Kind::Read];
    d.config(configured.clone());
    assert!(!d.log.iter().any(|line| line.message.contains("new configuration")), "nothing has changed");
    let mut changed = configured;
    changed.concurrency += 1;
    d.config(changed);
    assert_eq!(d.file(FILE), Some("1;"));
    assert_eq!(d.started[&Kind::Read], reads);
    assert!(d.agent.settings().sources.contains_key(&name("secret/apps/one")));
}

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
