use super::*;
use crate::config;

const DOCUMENT: &str = "
vault: {address: 'https://vault:8200'}
auth: {role: webapp}
sources: {db: {path: database/creds/webapp, engine: other}, app: {path: secret/webapp}}
tokenFile: {policies: [webapp]}
";

fn settings(changed: &str, into: &str) -> Settings {
    let empty: std::collections::HashMap<String, String> = std::collections::HashMap::new();
    config::load(&empty, Some(&DOCUMENT.replace(changed, into))).unwrap_or_else(|error| panic!("{error}"))
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn checkpoint() -> Checkpoint {
    let lease = Lease { id: LeaseId::Id("database/creds/webapp/x".into()), duration: minutes(60), renewable: true };
    let name = |name| SourceName::new(name).expect("a name");
    let value = |text: &str| SecretValue::Text(text.into());
    let data = BTreeMap::from([
        ("password".to_owned(), value("a \"quoted\"\nline")),
        ("port".to_owned(), SecretValue::Json("1.50".into())),
    ]);
    let reading = |version, validity| {
        Arc::new(Reading { data: data.clone(), version, validity, warnings: Vec::new(), ..Reading::default() })
    };
    let db = reading(Version::default(), Validity::Lease(lease));
    let seventh = Version { number: Some(7), created: Some(now()), previous: Some(6), ..Version::default() };
    let app = reading(seventh, Validity::Expires(minutes(30)));
    let token = SavedToken {
        token: VaultToken::new("hvs.planted"),
        first_ttl: Some(minutes(20)),
        left: Some(minutes(15)),
        renewable: true,
    };
    Checkpoint {
        made: now(),
        token: Some(token),
        sources: BTreeMap::from([
            (name("db"), SavedSource { reading: db, left: minutes(50) }),
            (name("app"), SavedSource { reading: app, left: minutes(20) }),
        ]),
        calls: Calls::new(),
    }
}

fn secret_id() -> SavedSecret {
    SavedSecret {
        files: vec!["/role".into(), "/secret".into()],
        digest: vec![1, 255],
        secret: "a-planted-secret-id".into(),
    }
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

fn saved() -> SecretBytes {
    encode(&checkpoint(), &[secret_id()], &settings("", "")).unwrap_or_else(|why| panic!("{why}"))
}

fn decoded(bytes: &SecretBytes, settings: &Settings, at: Timestamp) -> Decoded {
    decode(bytes, settings, at).unwrap_or_else(|why| panic!("{why}"))
}

fn restored(at: Timestamp) -> Checkpoint {
    decoded(&saved(), &settings("", ""), at).checkpoint.unwrap_or_else(|why| panic!("{why}"))
}

fn refused(bytes: &SecretBytes, settings: &Settings) -> String {
    decode(bytes, settings, now()).err().expect("refused")
}

#[test]
fn decode_restores_checkpoint_with_remaining_ttls() {
    let restored = restored(now() + SignedDuration::from_mins(5));
    let before = checkpoint();
    let (token, saved) = (restored.token.expect("a token"), before.token.expect("a token"));
    assert!(token.token.expose() == b"hvs.planted");
    assert_eq!((token.left, token.first_ttl, token.renewable), (saved.left, saved.first_ttl, saved.renewable));
    for (name, source) in &before.sources {
        let after = &restored.sources[name];
        assert_eq!(after.left, source.left - minutes(5), "{name}");
        assert_eq!(after.reading.validity, source.reading.validity, "{name}");
        assert_eq!(after.reading.version, source.reading.version, "{name}");
        assert!(after.reading.data == source.reading.data, "{name}");
    }
}

#[test]
fn certificate_is_restored_with_its_times() {
    let times = CertificateTimes {
        not_before: now() - SignedDuration::from_hours(1),
        not_after: now() + SignedDuration::from_hours(2),
        ca_not_after: now() + SignedDuration::from_hours(9),
    };
    let mut before = checkpoint();
    let app = before.sources.get_mut(&SourceName::new("app").expect("a name")).expect("a source");
    app.reading = Arc::new(Reading { validity: Validity::Certificate(times), ..(*app.reading).clone() });
    app.left = minutes(120);
    let bytes = encode(&before, &[], &settings("", "")).unwrap_or_else(|why| panic!("{why}"));
    let later = now() + SignedDuration::from_mins(30);
    let restored = decoded(&bytes, &settings("", ""), later).checkpoint.unwrap_or_else(|why| panic!("{why}"));
    let app = &restored.sources[&SourceName::new("app").expect("a name")];
    assert_eq!((&app.reading.validity, app.left), (&Validity::Certificate(times), minutes(90)));
}

#[test]
fn child_token_is_saved_once_and_restored() {
    let lease = Lease { id: LeaseId::Token(VaultToken::new("hvs.child")), duration: minutes(60), renewable: true };
    let data = BTreeMap::from([(CHILD_TOKEN_KEY.to_owned(), SecretValue::Text("hvs.child".into()))]);
    let (version, validity) = (Version::default(), Validity::Lease(lease));
    let child = SavedSource {
        reading: Arc::new(Reading { data, version, validity, warnings: Vec::new(), ..Reading::default() }),
        left: minutes(50),
    };
    let mut before = checkpoint();
    before.sources.insert(SourceName::token_file(), child);
    let bytes = encode(&before, &[], &settings("", "")).unwrap_or_else(|why| panic!("{why}"));
    let text = String::from_utf8(bytes.expose().to_vec()).expect("text");
    assert!(!text.contains("hvs.") && text.matches(&STANDARD.encode("hvs.child")).count() == 1);
    let after = decoded(&bytes, &settings("", ""), now()).checkpoint.unwrap_or_else(|why| panic!("{why}"));
    let (before, after) = (&before.sources[&SourceName::token_file()], &after.sources[&SourceName::token_file()]);
    assert_eq!((&after.reading.validity, after.left), (&before.reading.validity, before.left));
    let lost = text.replace("\"token\":{\"text\"", "\"other\":{\"text\"");
    let why = decoded(&lost.into(), &settings("", ""), now()).checkpoint.err().expect("refused");
    assert_eq!(why, "a child token is missing");
}

#[test]
fn expired_credential_is_omitted() {
    let later = restored(now() + SignedDuration::from_mins(20));
    assert_eq!(later.sources.keys().map(SourceName::as_str).collect::<Vec<_>>(), ["db"]);
}

#[test]
fn secret_ids_are_restored_whatever_the_login() {
    for settings in [settings("", ""), settings("role: webapp", "role: other")] {
        let found = decoded(&saved(), &settings, now()).one_time;
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].files, &found[0].digest), (&secret_id().files, &secret_id().digest));
        assert!(found[0].secret == secret_id().secret);
    }
}

#[test]
fn clock_set_back_extends_no_ttl() {
    let restored = restored(now() - SignedDuration::from_hours(24));
    let left: Vec<_> = restored.sources.values().map(|source| source.left).collect();
    assert_eq!(left, [minutes(30), minutes(60)]);
}

#[test]
fn decode_rejects_unusable_checkpoint_without_quoting_secrets() {
    let same = settings("", "");
    for (changed, into) in [("https://vault:8200", "https://other:8200"), ("role: webapp", "role: other")] {
        let why = decoded(&saved(), &settings(changed, into), now()).checkpoint.err().expect("refused");
        assert!(why.contains("another Vault server"), "{into}");
    }
    let text = String::from_utf8(saved().expose().to_vec()).expect("text");
    let planted = STANDARD.encode("hvs.planted");
    let table = [
        (
            "\"version\":6",
            "\"version\":4",
            "expected format version 6, found 4; run both containers from the same image",
        ),
        ("\"renewable\":true", "\"renewable\":\"hvs.planted\"", "line 1"),
        ("\"renewable\":true", "\"renewable\":true,\"more\":1", "line 1"),
        (planted.as_str(), "hvs.planted", "line 1"),
        (&format!("\"{planted}\""), &format!("\"{planted}"), "line 1"),
    ];
    for (changed, into, why) in table {
        assert!(text.contains(changed), "{changed}");
        let message = refused(&text.replacen(changed, into, 1).into(), &same);
        assert!(message.contains(why) && !message.contains("hvs"), "{into}: {message}");
    }
}

#[test]
fn decode_omits_source_with_changed_path() {
    let moved = decoded(&saved(), &settings("secret/webapp", "secret/moved"), now());
    let restored = moved.checkpoint.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(restored.sources.keys().map(SourceName::as_str).collect::<Vec<_>>(), ["db"]);
}

#[test]
fn source_of_a_call_is_restored_with_the_call() {
    let call = SecretCall::new(SecretFunction::PkiCert, &["pki/issue/webapp", "common_name=app"]).expect("a call");
    let mut with_call = settings("", "");
    let (name, _) = call.find_or_add(&mut with_call.sources, &with_call.call_defaults);
    let mut before = checkpoint();
    let saved = before.sources.values().next().expect("a source").clone();
    before.sources.insert(name.clone(), saved);
    let file = FilePath::new("app.pem").expect("a path");
    before.calls = Calls::from([(file, BTreeSet::from([call]))]);
    let bytes = encode(&before, &[], &with_call).unwrap_or_else(|why| panic!("{why}"));
    let after = decoded(&bytes, &settings("", ""), now()).checkpoint.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(after.calls, before.calls);
    assert_eq!(after.sources[&name].left, before.sources[&name].left);
}
