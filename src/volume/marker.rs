//! Marker files, whose change shows an application that another set of files is published.

use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::at::{StepError, context};
use super::file::{self, Attributes};
use super::unusable::remedy;
use crate::model::{Failure, FailureClass, Reason};

/// Readable for everyone, because the content is no secret. Not synced, because it has no use after a crash of the machine.
const ATTRIBUTES: Attributes = Attributes { mode: Mode::from_raw_mode(0o444), group: None, sync: false };

/// Writes `generation` and a newline to the file at `path`, in one rename. Creates its directory, but none above it.
///
/// # Errors
/// `Local`/`WriteFailed` if a step failed. The previous file stays in place.
pub fn write_marker(path: &Path, generation: u64) -> Result<(), Failure> {
    let shown = path.display().to_string();
    let write = || -> Result<(), StepError> {
        let parts = path.parent().zip(path.file_name().and_then(|name| name.to_str()));
        let (parent, name) = context("parse the path", &shown, parts.ok_or(Errno::INVAL))?;
        match rustix::fs::mkdirat(CWD, parent, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(StepError::new("create directory", &parent.display().to_string(), errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(parent, flags, Mode::empty());
        let directory = context("open directory", &parent.display().to_string(), opened)?;
        file::replace_file(directory, name, format!("{generation}\n").as_bytes(), ATTRIBUTES)
    };
    write().map_err(|error| {
        let message = format!("failed to write marker file {shown}: {}{}", Failure::chain(&error), remedy(error.errno));
        Failure::new(FailureClass::Local, Reason::WriteFailed, message)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn marker_is_readable_and_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify/generation");
        write_marker(&path, 1).expect("written");
        write_marker(&path, 2).expect("replaced");
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "2\n");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o444);
        let files = std::fs::read_dir(directory.path().join("notify")).expect("listed").count();
        assert_eq!(files, 1, "no temporary file");
        let failure = write_marker(&directory.path().join("a/b/generation"), 1).expect_err("no parent");
        assert!(failure.reason == Reason::WriteFailed && failure.message.contains("create directory"), "{failure}");
    }
}
