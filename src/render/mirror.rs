//! The data of a mirrored Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{
    Failure, FailureClass, FileEntry, FileSet, Mirror, MirrorKey, ObjectName, Reason, SecretBytes, SourceName,
};

/// Maximum total size of all values in bytes (`MaxSecretSize`,
/// <https://kubernetes.io/docs/concepts/configuration/secret/#restriction-data-size>).
const MAX_SECRET_SIZE: usize = 1 << 20;

/// Data of a mirrored Secret.
#[derive(Clone, Default)]
pub struct MirrorData {
    /// Values by key. Shares the bytes of the published files.
    pub data: BTreeMap<String, Arc<SecretBytes>>,
    /// The sources of the chosen files, and of optional files that are absent. The mirror depends on no other source.
    pub sources: BTreeSet<SourceName>,
}

/// Selects and validates the data of the Secret `name`, by the rules of the API server.
///
/// `leased` contains the sources whose readings have a lease. Their credentials stop working when this pod terminates, so they
/// are skipped unless `allowLeased` is set. The token file is always skipped. `has_read` returns whether a source has been
/// read: a key with an optional file is left out only then, so that an outage of Vault removes no key from the Secret.
///
/// # Errors
/// Reason `RenderFailed`. Class `Missing` if the set does not contain the file of a configured key, because its source is
/// optional and missing. Class `Invalid` if a configured key is the token file or from a leased source, if the API server does
/// not accept a key or the size, or if a key is missing that the type requires.
pub fn mirror_data(
    mirror: &Mirror,
    name: &ObjectName,
    set: &FileSet,
    leased: &BTreeSet<SourceName>,
    has_read: impl Fn(&SourceName) -> bool,
) -> Result<MirrorData, Failure> {
    let fail = |class, cause: String| {
        Failure::new(class, Reason::RenderFailed, format!("failed to mirror to Secret {name}: {cause}"))
    };
    let lease_of = |file: &FileEntry| {
        let source = file.sources.iter().find(|source| leased.contains(*source));
        source.filter(|_| !mirror.allow_leased).cloned()
    };
    let is_token = |file: &FileEntry| file.sources.iter().any(SourceName::is_token_file);
    let mut chosen = MirrorData::default();
    let choose = |chosen: &mut MirrorData, key: &str, file: &FileEntry| {
        chosen.data.insert(key.to_owned(), Arc::clone(&file.bytes));
        chosen.sources.extend(file.sources.iter().cloned());
    };
    if mirror.keys.is_empty() {
        for (path, file) in set.files.iter().filter(|(_, file)| lease_of(file).is_none() && !is_token(file)) {
            choose(&mut chosen, path.as_str(), file);
        }
    }
    for MirrorKey { key, file: path, optional } in &mirror.keys {
        let Some(file) = set.files.get(path) else {
            if let Some(source) = optional.as_ref().filter(|source| has_read(source)) {
                // Its version determines that the key is absent.
                chosen.sources.insert(source.clone());
                continue;
            }
            let cause = format!(
                "file {path} for key {key:?} is not published; check the source of the file, or remove the key"
            );
            return Err(fail(FailureClass::Missing, cause));
        };
        if is_token(file) {
            let cause =
                format!("file {path} for key {key:?} is a Vault token, which is never mirrored; remove the key");
            return Err(fail(FailureClass::Invalid, cause));
        }
        if let Some(source) = lease_of(file) {
            let cause = format!(
                "file {path} for key {key:?} is from source {source}, which has a lease and stops working when this pod \
                 terminates; set mirrors.{name}.allowLeased: true to mirror it anyway"
            );
            return Err(fail(FailureClass::Invalid, cause));
        }
        choose(&mut chosen, key, file);
    }
    let MirrorData { data, .. } = &chosen;
    for key in data.keys() {
        MirrorKey::check(key).map_err(|error| {
            let cause = format!("{key:?} is not a valid key: {error}; choose keys with `mirrors.{name}.keys`");
            fail(FailureClass::Invalid, cause)
        })?;
    }
    if let Some(missing) = mirror.secret_type.missing_key(|key| data.contains_key(key)) {
        let kind = mirror.secret_type.as_str();
        return Err(fail(
            FailureClass::Invalid,
            format!("type {kind} requires {missing}; add them to `mirrors.{name}.keys`"),
        ));
    }
    if data.values().map(|bytes| bytes.len()).sum::<usize>() > MAX_SECRET_SIZE {
        let cause = "a Secret holds at most 1 MiB; choose fewer keys".to_owned();
        return Err(fail(FailureClass::Invalid, cause));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FilePath, OnDrift, SecretType};

    fn mirror_key(key: &str, file: &str, optional: Option<&str>) -> MirrorKey {
        MirrorKey { key: key.into(), file: path(file), optional: optional.map(source) }
    }

    fn mirror(secret_type: SecretType, keys: &[(&str, &str)]) -> Mirror {
        Mirror {
            secret_type,
            keys: keys.iter().map(|(key, file)| mirror_key(key, file, None)).collect(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner: None,
            allow_leased: false,
            on_drift: OnDrift::default(),
            adopt: false,
        }
    }

    fn path(text: &str) -> FilePath {
        FilePath::new(text).expect(text)
    }

    fn source(text: &str) -> SourceName {
        SourceName::new(text).expect(text)
    }

    /// Files, each with its content and its source.
    fn published(files: &[(&str, &str, &str)]) -> FileSet {
        let entry = |content: &str, from: &str| FileEntry {
            bytes: Arc::new(SecretBytes::from(content)),
            mode: None,
            sources: [source(from)].into(),
        };
        FileSet { files: files.iter().map(|(file, content, from)| (path(file), entry(content, from))).collect() }
    }

    fn of(mirror: &Mirror, set: &FileSet, leased: &[&str]) -> Result<(Vec<String>, Vec<String>), Failure> {
        let leased = leased.iter().map(|name| source(name)).collect();
        let data = mirror_data(mirror, &ObjectName::new("top-secret-ks").expect("a name"), set, &leased, |name| {
            name.as_str() != "unread"
        })?;
        Ok((data.data.into_keys().collect(), data.sources.iter().map(ToString::to_string).collect()))
    }

    fn chosen(keys: &[&str], sources: &[&str]) -> (Vec<String>, Vec<String>) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        (owned(keys), owned(sources))
    }

    /// Fault 11: a source that gives nothing to a mirror held it up.
    #[test]
    fn mirror_selects_all_or_configured_files_with_their_sources() {
        let set = published(&[("a", "1", "one"), ("b.c", "2", "two")]);
        assert_eq!(of(&mirror(SecretType::Opaque, &[]), &set, &[]), Ok(chosen(&["a", "b.c"], &["one", "two"])));
        let twice = mirror(SecretType::Opaque, &[("x", "a"), ("y", "a")]);
        assert_eq!(of(&twice, &set, &["two"]), Ok(chosen(&["x", "y"], &["one"])));
        let name = ObjectName::new("m").expect("a name");
        let Ok(data) = mirror_data(&twice, &name, &set, &BTreeSet::new(), |_| true) else { panic!("it is fine") };
        assert!(Arc::ptr_eq(&data.data["x"], &set.files[&path("a")].bytes), "the mirror shares the published bytes");
    }

    /// Fault 28: an explicit key of such a file was called "not published".
    #[test]
    fn leased_files_are_skipped_unless_allowed() {
        let mut set = published(&[("db", "1", "db"), ("url", "2", "app"), ("both", "3", "app")]);
        set.files.get_mut(&path("both")).expect("a file").sources.insert(source("db"));
        let mut all = mirror(SecretType::Opaque, &[]);
        assert_eq!(of(&all, &set, &["db"]), Ok(chosen(&["url"], &["app"])));
        all.allow_leased = true;
        assert_eq!(of(&all, &set, &["db"]), Ok(chosen(&["both", "db", "url"], &["app", "db"])));

        let mut explicit = mirror(SecretType::Opaque, &[("k", "db")]);
        let failure = of(&explicit, &set, &["db"]).expect_err("leased");
        let expected = "failed to mirror to Secret top-secret-ks: file db for key \"k\" is from source db, which has a \
                        lease and stops working when this pod terminates; set mirrors.top-secret-ks.allowLeased: true to \
                        mirror it anyway";
        assert_eq!((failure.class, failure.message.as_str()), (FailureClass::Invalid, expected));
        explicit.allow_leased = true;
        assert_eq!(of(&explicit, &set, &["db"]), Ok(chosen(&["k"], &["db"])));
    }

    #[test]
    fn optional_file_is_left_out_only_after_its_source_was_read() {
        let set = published(&[("a", "1", "one")]);
        let mut mirror = mirror(SecretType::Opaque, &[("x", "a")]);
        mirror.keys.push(mirror_key("y", "b", Some("two")));
        assert_eq!(of(&mirror, &set, &[]), Ok(chosen(&["x"], &["one", "two"])));
        let both = published(&[("a", "1", "one"), ("b", "2", "two")]);
        assert_eq!(of(&mirror, &both, &[]), Ok(chosen(&["x", "y"], &["one", "two"])));
        mirror.keys[1].optional = Some(source("unread"));
        let failure = of(&mirror, &set, &[]).expect_err("the source has not been read");
        assert!(failure.class == FailureClass::Missing && failure.message.contains("is not published"), "{failure}");
    }

    #[test]
    fn mirror_rejects_data_that_api_server_rejects() {
        let set = published(&[("a", "1", "s"), ("dir/b", "2", "s"), ("username", "u", "s")]);
        for (mirror, class, part) in [
            (mirror(SecretType::Opaque, &[]), FailureClass::Invalid, "\"dir/b\""),
            (mirror(SecretType::Opaque, &[("x", "gone")]), FailureClass::Missing, "file gone for key \"x\""),
            (mirror(SecretType::Tls, &[("tls.crt", "a")]), FailureClass::Invalid, "tls.key"),
            (mirror(SecretType::BasicAuth, &[("a", "a")]), FailureClass::Invalid, "username, password"),
        ] {
            let failure = of(&mirror, &set, &[]).expect_err(part);
            assert!(failure.class == class && failure.message.contains(part), "{failure}");
            assert!(failure.message.contains("top-secret-ks"), "{failure}");
        }
        assert!(of(&mirror(SecretType::BasicAuth, &[("username", "username")]), &set, &[]).is_ok());
        let half = "x".repeat(1 << 19);
        let (a, b) = (("a", half.as_str(), "s"), ("b", half.as_str(), "s"));
        assert!(of(&mirror(SecretType::Opaque, &[]), &published(&[a, b]), &[]).is_ok());
        let large = of(&mirror(SecretType::Opaque, &[]), &published(&[a, b, ("c", "1", "s")]), &[]);
        let failure = large.expect_err("too large");
        assert!(failure.message.contains("1 MiB"), "{failure}");
    }
}
