//! Templates over several sources, and calls whose paths depend on other secrets.

use super::driver::{Driver, Kind};
use super::fixtures::{MINUTE, RUN, name, path, reading, secs, settings};
use crate::model::{
    Failure, FailureClass, MissingKey, Output, OutputKind, Reading, Reason, SecretCall, SecretFunction, SecretValue,
    Settings, Template,
};

pub(super) const FILE: &str = "out";

/// Settings with these sources and one template, whose calls of `secrets` are known.
pub(super) fn with_template(sources: &[&str], text: &str, lists: &[&str]) -> Settings {
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

pub(super) fn started(settings: Settings) -> Driver {
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(secs(3600));
    d
}

pub(super) fn names(of: &[&str]) -> Reading {
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

pub(super) const APPS: &str = r#"{{ range secrets "secret/apps" }}{{ with secret (printf "secret/apps/%s" .) }}{{ .Data.pw }};{{ end }}{{ end }}"#;

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
