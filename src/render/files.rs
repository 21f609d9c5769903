//! Outputs to files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use zeroize::Zeroizing;

use super::format;
use crate::model::{
    Failure, FailureClass, FileEntry, FilePath, FileSet, Output, OutputKind, Reading, Reason, SecretBytes, SecretValue,
    Settings, SourceName,
};

/// Makes the files of all outputs. Outputs of a source that has no reading are left out: whether that may be is the
/// caller's knowledge (only an optional source may have none).
///
/// # Errors
/// All that is wrong, each with reason `RenderFailed`: `Missing` where a key is not in its secret, else `Invalid`.
pub fn render(settings: &Settings, readings: &BTreeMap<SourceName, Arc<Reading>>) -> Result<FileSet, Vec<Failure>> {
    let mut set = Collected::default();
    for output in &settings.outputs {
        if let Some(reading) = readings.get(&output.source) {
            set.add(output, reading);
        }
    }
    set.finish()
}

/// Files with the source that each came from, to name both sides of a collision.
#[derive(Default)]
struct Collected<'a> {
    files: BTreeMap<FilePath, (&'a SourceName, FileEntry)>,
    failures: Vec<Failure>,
}

impl<'a> Collected<'a> {
    fn add(&mut self, output: &'a Output, reading: &Reading) {
        match &output.kind {
            OutputKind::EachKey { prefix, base64 } => {
                for (key, value) in &reading.data {
                    let path = prefix.as_ref().map_or_else(|| key.clone(), |prefix| format!("{prefix}/{key}"));
                    match FilePath::new(&path) {
                        Ok(path) => self.value(output, path, key, value, *base64),
                        Err(error) => self.invalid(format!(
                            "failed to name a file after key {key:?} of source {}: {error}; write an output with `key` and `file` for it",
                            output.source
                        )),
                    }
                }
            }
            OutputKind::Key { key, path, base64 } => match reading.data.get(key) {
                Some(value) => self.value(output, path.clone(), key, value, *base64),
                None => self.failures.push(Failure::new(
                    FailureClass::Missing,
                    Reason::RenderFailed,
                    format!("failed to render file {path}: source {} has no key {key:?}", output.source),
                )),
            },
            OutputKind::Whole { path, format } => match format::whole(*format, &reading.data) {
                Ok(bytes) => self.insert(output, path.clone(), bytes),
                Err(error) => {
                    self.invalid(format!("failed to render file {path} from source {}: {error}", output.source));
                }
            },
        }
    }

    fn value(&mut self, output: &'a Output, path: FilePath, key: &str, value: &SecretValue, base64: bool) {
        if !base64 {
            return self.insert(output, path, value.bytes().clone());
        }
        match decode(value.bytes()) {
            Some(bytes) => self.insert(output, path, bytes),
            // Not the library's cause: it quotes a byte of the value.
            None => self.invalid(format!(
                "failed to render file {path}: key {key:?} of source {} is not base64 (standard alphabet)",
                output.source
            )),
        }
    }

    fn insert(&mut self, output: &'a Output, path: FilePath, bytes: SecretBytes) {
        let sources = BTreeSet::from([output.source.clone()]);
        let entry = FileEntry { bytes: Arc::new(bytes), mode: output.mode, sources };
        if let Some((other, _)) = self.files.get(&path) {
            let message = format!(
                "failed to render file {path}: source {other} and source {} both make it; give one output a `prefix` or a `file` of its own",
                output.source
            );
            return self.invalid(message);
        }
        self.files.insert(path, (&output.source, entry));
    }

    fn invalid(&mut self, message: String) {
        self.failures.push(Failure::new(FailureClass::Invalid, Reason::RenderFailed, message));
    }

    fn finish(mut self) -> Result<FileSet, Vec<Failure>> {
        let mut blocked = Vec::new();
        for (path, (source, _)) in &self.files {
            // Each directory above the file must not be a file itself.
            for (end, _) in path.as_str().match_indices('/') {
                let above = FilePath::new(&path.as_str()[..end]).ok();
                if let Some((file, (other, _))) = above.and_then(|above| self.files.get_key_value(&above)) {
                    blocked.push(format!(
                        "failed to render file {path} of source {source}: source {other} makes a file where its directory {file} would be"
                    ));
                }
            }
        }
        for message in blocked {
            self.invalid(message);
        }
        if self.failures.is_empty() {
            Ok(FileSet { files: self.files.into_iter().map(|(path, (_, entry))| (path, entry)).collect() })
        } else {
            Err(self.failures)
        }
    }
}

/// Standard base64, padded or not; white space (as `base64` and `kubectl` wrap lines) is no part of it.
fn decode(bytes: &SecretBytes) -> Option<SecretBytes> {
    let mut packed = Zeroizing::new(Vec::with_capacity(bytes.len()));
    packed.extend(bytes.expose().iter().filter(|byte| !byte.is_ascii_whitespace()));
    // With room for all of it, so that no half-filled buffer is left behind unzeroed when it grows.
    let mut decoded = Zeroizing::new(Vec::with_capacity(base64::decoded_len_estimate(packed.len())));
    STANDARD_PAD_INDIFFERENT.decode_vec(&packed, &mut decoded).ok()?;
    Some(SecretBytes::new(std::mem::take(&mut *decoded)))
}
