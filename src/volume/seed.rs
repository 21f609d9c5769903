//! The directory of a seed: the kubelet's volume of a Secret, or a directory with ordinary files.

use std::path::Path;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::at::{self, StepError, context};
use super::file;
use super::names::DATA_LINK;
use crate::model::{Failure, FailureClass, Reason, SeedData};

/// Maximum total size in bytes. One Secret has at most 1 MiB.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Maximum number of files and directories, in case the path is that of a large directory.
const MAX_ENTRIES: usize = 10_000;

/// Reads all regular files below `directory`, each under its path. In a volume of the kubelet, they all belong to one
/// state of the Secret: they are read below the directory that `..data` pointed to.
///
/// # Errors
/// `Local`/`SeedUnusable` if the directory or a file cannot be read, or if it is too large.
pub fn read_seed(directory: &Path) -> Result<SeedData, Failure> {
    let mut reader = Reader::default();
    let result = open(directory).and_then(|root| reader.read(&root, ""));
    let cause = match result {
        Ok(()) => return Ok(reader.data),
        Err(SeedError::TooLarge) => format!(
            "it has more than {} MiB or more than {MAX_ENTRIES} entries; check that it is the volume of a Secret",
            MAX_BYTES / 1024 / 1024
        ),
        Err(SeedError::Io(error)) if error.errno == Errno::ACCESS => format!(
            "{}; set defaultMode: 0440 in the volume and fsGroup in the pod, so that keyferry can read it",
            Failure::chain(&error)
        ),
        Err(SeedError::Io(error)) => format!("{}; check the volume", Failure::chain(&error)),
    };
    let message = format!("failed to read seed {}: {cause}", directory.display());
    Err(Failure::new(FailureClass::Local, Reason::SeedUnusable, message))
}

enum SeedError {
    TooLarge,
    Io(StepError),
}

impl From<StepError> for SeedError {
    fn from(error: StepError) -> Self {
        Self::Io(error)
    }
}

/// Opens the directory, or the one that `..data` in it points to.
fn open(directory: &Path) -> Result<OwnedFd, SeedError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = context("open", &directory.display().to_string(), rustix::fs::open(directory, flags, Mode::empty()))?;
    match rustix::fs::openat(&root, DATA_LINK, flags, Mode::empty()) {
        Err(Errno::NOENT) => Ok(root),
        opened => Ok(context("open", DATA_LINK, opened)?),
    }
}

#[derive(Default)]
struct Reader {
    data: SeedData,
    size: u64,
    entries: usize,
}

impl Reader {
    fn read(&mut self, directory: &OwnedFd, prefix: &str) -> Result<(), SeedError> {
        let entries = context("list", if prefix.is_empty() { "it" } else { prefix }, at::entries(directory))?;
        self.entries += entries.len();
        for entry in entries {
            let path = format!("{prefix}{}", entry.name);
            self.size += if entry.kind.is_file() { file::size(&entry.stat) } else { 0 };
            if self.size > MAX_BYTES || self.entries > MAX_ENTRIES {
                return Err(SeedError::TooLarge);
            }
            if entry.kind.is_dir() {
                self.read(&context("open", &path, at::open_directory(directory, &entry.name))?, &format!("{path}/"))?;
            } else if entry.kind.is_file() {
                let (opened, stat) = context("open", &path, file::open_regular(directory, &entry.name))?;
                let size = file::size(&stat).min(MAX_BYTES);
                let bytes = context("read", &path, file::read_exact_size(opened, size))?;
                self.data.insert(path, Arc::new(bytes));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn text(data: &SeedData) -> BTreeMap<&str, &str> {
        data.iter().map(|(name, bytes)| (name.as_str(), bytes.expose_str().unwrap_or_default())).collect()
    }

    fn failed(directory: &Path) -> String {
        let Err(failure) = read_seed(directory) else { panic!("must fail") };
        assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::SeedUnusable));
        failure.message
    }

    /// A Secret volume with `password` and, with `items`, `tls/key`.
    fn volume(root: &Path) {
        let set = root.join("..2026_11_24_16_05_37.0123456789");
        std::fs::create_dir_all(set.join("tls")).expect("mkdir");
        std::fs::write(set.join("password"), "Losungwort").expect("write");
        std::fs::write(set.join("tls/key"), "key").expect("write");
        symlink("..2026_11_24_16_05_37.0123456789", root.join("..data")).expect("symlink");
        for name in ["password", "tls"] {
            symlink(format!("..data/{name}"), root.join(name)).expect("symlink");
        }
    }

    #[test]
    fn files_of_secret_volume_are_read_once_each() {
        let root = tempfile::tempdir().expect("tempdir");
        volume(root.path());
        let data = read_seed(root.path()).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(text(&data), BTreeMap::from([("password", "Losungwort"), ("tls/key", "key")]));
    }

    #[test]
    fn ordinary_directory_is_read_without_symlinks() {
        let root = tempfile::tempdir().expect("tempdir");
        std::fs::write(root.path().join("password"), "Losungwort").expect("write");
        symlink("/etc/hostname", root.path().join("link")).expect("symlink");
        let data = read_seed(root.path()).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(text(&data), BTreeMap::from([("password", "Losungwort")]));
    }

    /// The optional Secret does not exist.
    #[test]
    fn volume_without_secret_is_empty() {
        let root = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(root.path().join("..2026_11_24_16_05_37.0123456789")).expect("mkdir");
        symlink("..2026_11_24_16_05_37.0123456789", root.path().join("..data")).expect("symlink");
        assert!(read_seed(root.path()).is_ok_and(|data| data.is_empty()));
        let missing = failed(&root.path().join("absent"));
        assert!(missing.contains("absent: failed to open") && missing.contains("No such file"), "{missing}");
    }

    #[test]
    fn unreadable_or_large_file_fails_as_a_whole() {
        let root = tempfile::tempdir().expect("tempdir");
        volume(root.path());
        let key = root.path().join("..data/tls/key");
        if rustix::process::geteuid().is_root() {
            println!("root can read every file");
        } else {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o000)).expect("chmod");
            let message = failed(root.path());
            assert!(message.contains("failed to open tls/key") && message.contains("defaultMode"), "{message}");
        }
        std::fs::remove_file(&key).expect("remove");
        std::fs::File::create(&key).expect("create").set_len(MAX_BYTES).expect("a sparse file");
        let message = failed(root.path());
        assert!(message.contains("more than 16 MiB"), "{message}");
    }
}
