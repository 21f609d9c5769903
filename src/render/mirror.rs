//! The published set to the data of a Secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Failure, FailureClass, FileSet, Mirror, MirrorKey, ObjectName, Reason, SecretBytes};

/// Most bytes of all values together (`MaxSecretSize`,
/// <https://kubernetes.io/docs/concepts/configuration/secret/#restriction-data-size>).
const MAX_SECRET_SIZE: usize = 1 << 20;

/// Chooses and checks what goes into the Secret `name`, so that the API server has nothing to refuse.
///
/// # Errors
/// `Missing` where a file of an explicit key is not in the set (its source is optional and absent); `Invalid` for a key
/// or a size that the API server would not take, or a key missing that the type needs. Reason `RenderFailed`.
pub fn mirror_data(
    mirror: &Mirror,
    name: &ObjectName,
    set: &FileSet,
) -> Result<BTreeMap<String, Arc<SecretBytes>>, Failure> {
    let fail = |class, cause: String| {
        Failure::new(class, Reason::RenderFailed, format!("failed to make data of Secret {name}: {cause}"))
    };
    let mut data = BTreeMap::new();
    if mirror.keys.is_empty() {
        for (path, file) in &set.files {
            data.insert(path.as_str().to_owned(), Arc::clone(&file.bytes));
        }
    }
    for MirrorKey { key, file } in &mirror.keys {
        let Some(entry) = set.files.get(file) else {
            return Err(fail(FailureClass::Missing, format!("no file {file} for its key {key:?} is published")));
        };
        data.insert(key.clone(), Arc::clone(&entry.bytes));
    }
    for key in data.keys() {
        MirrorKey::check(key).map_err(|error| {
            fail(
                FailureClass::Invalid,
                format!("{key:?} cannot be a key: {error}; choose keys with `mirrors.{name}.keys`"),
            )
        })?;
    }
    if let Some(missing) = mirror.secret_type.missing_key(|key| data.contains_key(key)) {
        let kind = mirror.secret_type.as_str();
        return Err(fail(FailureClass::Invalid, format!("type {kind} needs {missing}")));
    }
    if data.values().map(|bytes| bytes.len()).sum::<usize>() > MAX_SECRET_SIZE {
        let cause = "a Secret holds at most 1 MiB; choose fewer keys".to_owned();
        return Err(fail(FailureClass::Invalid, cause));
    }
    Ok(data)
}
