use super::*;
use crate::config;

const DOCUMENT: &str = "
vault: {address: 'https://vault:8200'}
auth: {role: webapp}
sources: {db: {path: database/creds/webapp, engine: other}, app: {path: secret/webapp}}
";

fn settings(changed: &str, into: &str) -> Settings {
    let empty: std::collections::HashMap<String, String> = std::collections::HashMap::new();
    config::load(&empty, Some(&DOCUMENT.replace(changed, into))).unwrap_or_else(|error| panic!("{error}"))
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn checkpoint() -> Checkpoint {
    let lease = Lease { id: LeaseId("database/creds/webapp/x".into()), duration: minutes(60), renewable: true };
    let name = |name| SourceName::new(name).expect("a name");
    let value = |text: &str| SecretValue::Text(text.into());
    let data = BTreeMap::from([
        ("password".to_owned(), value("a \"quoted\"\nline")),
        ("port".to_owned(), SecretValue::Json("1.50".into())),
    ]);
    let reading = |version, validity| Arc::new(Reading { data: data.clone(), version, validity, warnings: Vec::new() });
    let db = reading(Version::default(), Validity::Lease(lease));
    let app = reading(Version { number: Some(7), created: Some(now()) }, Validity::Unlimited);
    Checkpoint {
        token: VaultToken::new("hvs.planted"),
        first_ttl: Some(minutes(20)),
        left: Some(minutes(15)),
        renewable: true,
        sources: BTreeMap::from([
            (name("db"), SavedSource { reading: db, lease_left: Some(minutes(50)) }),
            (name("app"), SavedSource { reading: app, lease_left: None }),
        ]),
    }
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

fn saved() -> SecretBytes {
    encode(&checkpoint(), &settings("", ""), now()).unwrap_or_else(|why| panic!("{why}"))
}

fn restored(at: Timestamp) -> Checkpoint {
    decode(&saved(), &settings("", ""), at).unwrap_or_else(|why| panic!("{why}"))
}

fn refused(bytes: &SecretBytes, settings: &Settings, later: Duration) -> String {
    let at = now() + SignedDuration::try_from(later).expect("a time");
    decode(bytes, settings, at).err().expect("refused")
}

#[test]
fn decode_restores_checkpoint_with_remaining_ttls() {
    let restored = restored(now() + SignedDuration::from_mins(5));
    let before = checkpoint();
    assert!(restored.token.expose() == b"hvs.planted");
    assert_eq!((restored.left, restored.first_ttl), (Some(minutes(10)), before.first_ttl));
    for (name, source) in &before.sources {
        let after = &restored.sources[name];
        assert_eq!(after.lease_left, source.lease_left.map(|left| left - minutes(5)), "{name}");
        assert_eq!(after.reading.validity, source.reading.validity, "{name}");
        assert_eq!(after.reading.version, source.reading.version, "{name}");
        assert!(after.reading.data == source.reading.data, "{name}");
    }
}

#[test]
fn clock_set_back_extends_no_ttl() {
    let restored = restored(now() - SignedDuration::from_hours(24));
    assert_eq!(restored.left, Some(minutes(20)));
    let leases: Vec<_> = restored.sources.values().filter_map(|source| source.lease_left).collect();
    assert_eq!(leases, [minutes(60)]);
}

#[test]
fn decode_rejects_unusable_checkpoint_without_quoting_secrets() {
    let same = settings("", "");
    assert!(refused(&saved(), &same, minutes(15)).contains("expired"));
    for (changed, into) in [("https://vault:8200", "https://other:8200"), ("role: webapp", "role: other")] {
        assert!(refused(&saved(), &settings(changed, into), minutes(0)).contains("another Vault server"), "{into}");
    }
    let text = String::from_utf8(saved().expose().to_vec()).expect("text");
    let planted = STANDARD.encode("hvs.planted");
    let table = [
        (
            "\"version\":2",
            "\"version\":1",
            "expected format version 2, found 1; run both containers from the same image",
        ),
        ("\"renewable\":true", "\"renewable\":\"hvs.planted\"", "line 1"),
        ("\"renewable\":true", "\"renewable\":true,\"more\":1", "line 1"),
        (planted.as_str(), "hvs.planted", "line 1"),
        (&format!("\"{planted}\""), &format!("\"{planted}"), "line 1"),
    ];
    for (changed, into, why) in table {
        assert!(text.contains(changed), "{changed}");
        let message = refused(&text.replacen(changed, into, 1).into(), &same, minutes(0));
        assert!(message.contains(why) && !message.contains("hvs"), "{into}: {message}");
    }
}

#[test]
fn decode_omits_source_with_changed_path() {
    let restored = decode(&saved(), &settings("secret/webapp", "secret/moved"), now());
    let restored = restored.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(restored.sources.keys().map(SourceName::as_str).collect::<Vec<_>>(), ["db"]);
}
