//! Small files that a notification needs: header values, CA certificates, process IDs.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use zeroize::Zeroizing;

/// Maximum size in bytes. The complete CA bundle of a system has about 250 KiB.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads a regular file without blocking on a FIFO. The error is a cause for a message.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let cause = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "the file does not exist; check the path and the volume mounts".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; make the file readable by the UID or fsGroup of keyferry".to_owned()
        }
        _ => error.to_string(),
    };
    let fd = open(path, flags, Mode::empty()).map_err(|errno| cause(errno.into()))?;
    let stat = fstat(&fd).map_err(|errno| cause(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("it is not a regular file; check the path".into());
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if size > MAX_BYTES {
        return Err("it is larger than 1 MiB; check the path".into());
    }
    // Enough capacity for the whole file: a reallocation would leave a copy that is not zeroed.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or_default().max(4096) + 1));
    let limit = bytes.capacity() as u64;
    File::from(fd).take(limit).read_to_end(&mut bytes).map_err(cause)?;
    Ok(bytes)
}
