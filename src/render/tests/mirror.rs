//! What a mirror takes.

use super::super::mirror_data;
use super::*;
use crate::model::{Mirror, MirrorKey, ObjectName, OnDrift, SecretType};

fn mirror(secret_type: SecretType, keys: &[(&str, &str)]) -> Mirror {
    Mirror {
        secret_type,
        keys: keys.iter().map(|(key, file)| MirrorKey { key: (*key).into(), file: path(file) }).collect(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        owner: None,
        allow_leased: false,
        on_drift: OnDrift::default(),
        adopt: false,
    }
}

fn published(files: &[(&str, &str)]) -> FileSet {
    FileSet { files: rendered(&each_key("s", None), files).files }
}

fn mirrored(mirror: &Mirror, set: &FileSet) -> Result<Vec<String>, (FailureClass, String)> {
    let name = ObjectName::new("top-secret-ks").expect("name");
    mirror_data(mirror, &name, set)
        .map(|data| data.into_keys().collect())
        .map_err(|failure| (failure.class, failure.message))
}

#[test]
fn a_mirror_takes_all_files_or_the_chosen_ones() {
    let set = published(&[("a", "1"), ("b.c", "2")]);
    assert_eq!(mirrored(&mirror(SecretType::Opaque, &[]), &set), Ok(vec!["a".into(), "b.c".into()]));
    assert_eq!(
        mirrored(&mirror(SecretType::Opaque, &[("x", "a"), ("y", "a")]), &set),
        Ok(vec!["x".into(), "y".into()])
    );
    let name = ObjectName::new("m").expect("name");
    let data = mirror_data(&mirror(SecretType::Opaque, &[("x", "a")]), &name, &set)
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert!(Arc::ptr_eq(&data["x"], &set.files[&path("a")].bytes), "the mirror shares the published bytes");
}

#[test]
fn a_mirror_refuses_what_the_api_server_would() {
    let set = published(&[("a", "1"), ("dir/b", "2"), ("username", "u")]);
    for (mirror, class, part) in [
        (mirror(SecretType::Opaque, &[]), FailureClass::Invalid, "\"dir/b\""),
        (mirror(SecretType::Opaque, &[("x", "gone")]), FailureClass::Missing, "gone"),
        (mirror(SecretType::Tls, &[("tls.crt", "a")]), FailureClass::Invalid, "tls.key"),
        (mirror(SecretType::BasicAuth, &[("a", "a")]), FailureClass::Invalid, "username, password"),
    ] {
        let (found, message) = mirrored(&mirror, &set).expect_err(part);
        assert!(found == class && message.contains(part) && message.contains("top-secret-ks"), "{message}");
    }
    assert!(mirrored(&mirror(SecretType::BasicAuth, &[("username", "username")]), &set).is_ok());
    let half = "x".repeat(1 << 19);
    assert!(mirrored(&mirror(SecretType::Opaque, &[]), &published(&[("a", &half), ("b", &half)])).is_ok());
    let (_, message) =
        mirrored(&mirror(SecretType::Opaque, &[]), &published(&[("a", &half), ("b", &half), ("c", "1")]))
            .expect_err("too large");
    assert!(message.contains("1 MiB"), "{message}");
}
