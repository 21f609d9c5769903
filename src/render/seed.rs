//! The files of a set from the copy in a mirrored Secret: the reverse of [`mirror_data`](super::mirror_data).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::files::join;
use crate::model::{
    Failure, FailureClass, FileEntry, FilePath, FileSet, Mirror, Output, OutputKind, Reason, SecretBytes, Seed,
    SeedData, Settings, SourceName, WhenMissing,
};

/// Returns the files of `sources`. Leaves out optional sources whose files are not all in the seed.
///
/// # Errors
/// Class `Local` and reason `SeedUnusable` if a file of a required source is missing, or if files collide. The Secret can
/// be created or completed later.
pub fn seed_files(
    settings: &Settings,
    seed: &Seed,
    data: &SeedData,
    sources: &BTreeSet<SourceName>,
) -> Result<FileSet, Failure> {
    let directory = seed.directory.display();
    let unusable = |cause: String| {
        let message = format!("failed to use seed {directory}: {cause}");
        Failure::new(FailureClass::Local, Reason::SeedUnusable, message)
    };
    if data.is_empty() {
        let cause = "the directory is empty; check that the Secret exists and is mounted there";
        return Err(unusable(cause.to_owned()));
    }
    let copy = Copy { settings, mirror: seed.mirror.as_ref().and_then(|name| settings.mirrors.get(name)), data };
    let mut found = Vec::new();
    let mut left_out = BTreeSet::new();
    for output in settings.outputs.iter().filter(|output| !output.sources().is_disjoint(sources)) {
        match copy.files_of(output, sources) {
            Ok(files) => found.push((output, files)),
            Err(why) => {
                let is_optional = |name: &SourceName| settings.sources.get(name).is_none_or(|source| !source.required);
                let optional: Vec<_> = output.sources().into_iter().filter(is_optional).collect();
                if optional.is_empty() {
                    let name = &output.source;
                    return Err(unusable(format!("source {name} is required, but {why}")));
                }
                left_out.extend(optional);
            }
        }
    }
    found.retain(|(output, _)| output.sources().is_disjoint(&left_out));
    let parts: Vec<_> = found.into_iter().map(|(_, files)| files).collect();
    let set = join(&parts).map_err(|failure| unusable(failure.message))?;
    if set.files.is_empty() {
        return Err(unusable("it contains no published file".to_owned()));
    }
    Ok(set)
}

/// The copy, and what it is a copy of.
struct Copy<'a> {
    settings: &'a Settings,
    mirror: Option<&'a Mirror>,
    data: &'a SeedData,
}

impl Copy<'_> {
    /// The files of one output, whose sources must all be in `sources`: a set must not contain two readings of one source. `Err` says
    /// why there are none.
    fn files_of(
        &self,
        output: &Output,
        sources: &BTreeSet<SourceName>,
    ) -> Result<BTreeMap<FilePath, FileEntry>, String> {
        let entry = |bytes: &Arc<SecretBytes>| FileEntry {
            bytes: Arc::clone(bytes),
            mode: output.mode,
            sources: output.sources(),
        };
        let mut files = BTreeMap::new();
        if let Some(other) = output.sources().difference(sources).next() {
            return Err(format!("its copy was made with another reading of source {other}"));
        }
        if let Some(paths) = output.known_files() {
            let can_be_missing = matches!(&output.kind, OutputKind::Key { missing: WhenMissing::Omit, .. });
            for path in paths {
                let name = self.name_of(&path).ok_or_else(|| format!("file {path} is missing"))?;
                match self.data.get(name) {
                    Some(bytes) => _ = files.insert(path, entry(bytes)),
                    None if can_be_missing => {}
                    None => return Err(format!("key {name} for file {path} is missing")),
                }
            }
            return Ok(files);
        }
        let OutputKind::EachKey { prefix, keys, .. } = &output.kind else { return Ok(files) };
        // Which files a mirror with `keys` does not contain is unknown.
        if self.mirror.is_none_or(|mirror| mirror.keys.is_empty()) {
            for (name, bytes) in self.data {
                let is_selected = |path: &FilePath| {
                    let of_prefix = prefix.as_ref().map_or(0, |prefix| prefix.as_str().len() + 1);
                    self.is_of(path, prefix.as_ref()) && keys.can_contain(&path.as_str()[of_prefix..])
                };
                if let Some(path) = FilePath::new(name).ok().filter(is_selected) {
                    files.insert(path, entry(bytes));
                }
            }
        }
        let place = || prefix.as_ref().map_or_else(String::new, |prefix| format!(" in {prefix}"));
        if files.is_empty() { Err(format!("each of its files{} is missing", place())) } else { Ok(files) }
    }

    /// The name in the seed of the file at `path`.
    fn name_of<'b>(&'b self, path: &'b FilePath) -> Option<&'b str> {
        match self.mirror {
            Some(mirror) if !mirror.keys.is_empty() => {
                mirror.keys.iter().find(|key| key.file == *path).map(|key| key.key.as_str())
            }
            _ => Some(path.as_str()),
        }
    }

    /// Whether an output with one file per key can have written the file: the file is below the directory of the output, and
    /// no other output has its path or a deeper directory that contains it. `config` rejects a second such output for the
    /// same directory.
    fn is_of(&self, path: &FilePath, prefix: Option<&FilePath>) -> bool {
        let below =
            |prefix: &FilePath| path.as_str().strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let by_another = self.settings.outputs.iter().any(|output| match (output.known_files(), &output.kind) {
            (Some(known), _) => known.contains(path),
            (None, OutputKind::EachKey { prefix: other, .. }) => {
                let inner =
                    |other: &&FilePath| prefix.is_none_or(|prefix| other.as_str().len() > prefix.as_str().len());
                other.as_ref().filter(inner).is_some_and(below)
            }
            (None, _) => false,
        });
        !by_another && prefix.is_none_or(below)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mirror_data;
    use super::*;
    use crate::config;
    use crate::model::ObjectName;

    fn settings(document: &str) -> Settings {
        let start = "{vault: {address: 'https://v'}, auth: {role: r}, seed: {directory: /seed}, ";
        let text = format!("{start}{document}}}");
        config::load(&std::collections::HashMap::<String, String>::new(), Some(&text)).unwrap_or_else(|e| panic!("{e}"))
    }

    fn found(settings: &Settings, names: &[&str]) -> Result<Vec<String>, String> {
        let data = names.iter().map(|name| ((*name).to_owned(), Arc::new(SecretBytes::from(*name)))).collect();
        let sources = settings.sources.keys().cloned().collect();
        let seed = settings.seed.as_ref().expect("a seed");
        match seed_files(settings, seed, &data, &sources) {
            Ok(set) => Ok(set
                .files
                .iter()
                .map(|(path, entry)| {
                    let of: Vec<_> = entry.sources.iter().map(ToString::to_string).collect();
                    format!("{path}={} of {}", entry.bytes.expose_str().unwrap_or_default(), of.join(","))
                })
                .collect()),
            Err(failure) => {
                assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::SeedUnusable));
                Err(failure.message)
            }
        }
    }

    #[test]
    fn file_with_key_of_mirror_has_its_own_path_again() {
        let settings = settings(
            "sources: {web: {path: secret/web}, db: {path: secret/db}}, \
             outputs: [{source: web, key: crt, file: tls/certificate}, {source: db, format: json, file: db.json}], \
             mirrors: {copy: {keys: {tls.crt: tls/certificate, again: tls/certificate, db: db.json}}}",
        );
        let expected = ["db.json=db of db", "tls/certificate=again of web"].map(str::to_owned);
        assert_eq!(found(&settings, &["tls.crt", "again", "db", "other"]), Ok(expected.to_vec()));
        let missing = found(&settings, &["tls.crt", "again"]).expect_err("incomplete");
        assert_eq!(missing, "failed to use seed /seed: source db is required, but key db for file db.json is missing");
        // A seed is the reverse of the mirror.
        let data = ["tls.crt", "again", "db"].map(|name| (name.to_owned(), Arc::new(SecretBytes::from("same"))));
        let (seed, sources) = (settings.seed.as_ref().expect("a seed"), settings.sources.keys().cloned().collect());
        let Ok(set) = seed_files(&settings, seed, &data.clone().into(), &sources) else { panic!("usable") };
        let name = ObjectName::new("copy").expect("a name");
        let Ok(mirrored) = mirror_data(&settings.mirrors[&name], &name, &set, &BTreeSet::new(), |_| true) else {
            panic!("fine")
        };
        assert!(mirrored.data == data.into());
    }

    #[test]
    fn each_key_takes_files_that_no_other_output_writes() {
        let settings = settings(
            "sources: {app: {path: secret/app}, db: {path: secret/db}, more: {path: secret/more}}, \
             outputs: [{source: app}, {source: db, key: password, file: db-password}, {source: more, prefix: more}]",
        );
        let names = ["url", "token", "db-password", "more/a", "more/b", "..data"];
        let expected = [
            "db-password=db-password of db",
            "more/a=more/a of more",
            "more/b=more/b of more",
            "token=token of app",
            "url=url of app",
        ];
        assert_eq!(found(&settings, &names), Ok(expected.map(str::to_owned).to_vec()));
        let missing = found(&settings, &["db-password", "more/a"]).expect_err("nothing of app");
        assert!(missing.ends_with("source app is required, but each of its files is missing"), "{missing}");
        let missing = found(&settings, &["db-password", "url"]).expect_err("nothing of more");
        assert!(missing.ends_with("each of its files in more is missing"), "{missing}");
        assert!(found(&settings, &[]).expect_err("empty").contains("the directory is empty"));
    }

    #[test]
    fn selected_keys_are_required_and_optional_outputs_are_not() {
        let settings = settings(
            "sources: {app: {path: secret/app}, db: {path: secret/db}, more: {path: secret/more}}, \
             outputs: [{source: app, include: [url, token], rename: {url: address}}, {source: more, exclude: ['x-*']}, \
                       {source: db, key: user}, {source: db, key: hint, optional: true}]",
        );
        let names = ["address", "token", "user", "hint", "x-1", "y"];
        let expected =
            ["address=address of app", "hint=hint of db", "token=token of app", "user=user of db", "y=y of more"];
        assert_eq!(found(&settings, &names), Ok(expected.map(str::to_owned).to_vec()));
        assert_eq!(found(&settings, &["address", "token", "user", "y"]).map(|files| files.len()), Ok(4));
        let missing = found(&settings, &["url", "token", "user", "y"]).expect_err("the renamed key");
        assert!(missing.ends_with("source app is required, but key address for file address is missing"), "{missing}");
        let missing = found(&settings, &["address", "token", "user", "x-1"]).expect_err("nothing of more");
        assert!(missing.ends_with("each of its files is missing"), "{missing}");
    }

    #[test]
    fn incomplete_optional_source_is_left_out_as_a_whole() {
        let settings = settings(
            "sources: {app: {path: secret/app}, db: {path: secret/db, required: false}}, \
             outputs: [{source: app, key: url}, {source: db, key: user}, {source: db, key: password}]",
        );
        assert_eq!(found(&settings, &["url", "user"]), Ok(vec!["url=url of app".to_owned()]));
        assert_eq!(found(&settings, &["url", "user", "password"]).map(|files| files.len()), Ok(3));
    }

    #[test]
    fn file_of_two_sources_is_taken_with_both() {
        let document = |web: &str, app: &str| {
            settings(&format!(
                "sources: {{web: {{path: secret/web, required: {web}}}, app: {{path: secret/app, required: {app}}}}}, \
                 outputs: [{{source: app, key: url}}, {{source: web, key: crt}}, \
                           {{source: web, format: pkcs12, bundle: [crt, key], file: k.p12, \
                             password: {{source: app, key: pw}}}}]"
            ))
        };
        let required = document("true", "true");
        let expected = ["crt=crt of web", "k.p12=k.p12 of app,web", "url=url of app"].map(str::to_owned);
        assert_eq!(found(&required, &["crt", "k.p12", "url"]), Ok(expected.to_vec()));
        let missing = found(&required, &["crt", "url"]).expect_err("incomplete");
        assert!(missing.ends_with("source web is required, but key k.p12 for file k.p12 is missing"), "{missing}");
        let without_app = found(&document("true", "false"), &["crt", "url"]);
        assert_eq!(without_app, Ok(vec!["crt=crt of web".to_owned()]), "the optional source is left out as a whole");
        // Vault has answered for one source, and is away before it answers for the other one.
        let seed = required.seed.as_ref().expect("a seed");
        let data = ["crt", "k.p12", "url"].map(|name| (name.to_owned(), Arc::new(SecretBytes::from(name)))).into();
        let unread = BTreeSet::from([SourceName::new("web").expect("a name")]);
        let Err(failure) = seed_files(&required, seed, &data, &unread) else { panic!("two readings of one source") };
        assert!(failure.message.ends_with("its copy was made with another reading of source app"), "{failure}");
    }
}
