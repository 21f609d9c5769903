//! Files: publishes a set of files atomically, adopts the set of an earlier process, removes the remains of a crash,
//! and watches other files for changes.
//!
//! This module depends on `model` only. It makes one attempt per operation and classifies the failure; the last
//! published set stays in place. It accesses everything in the output directory through one directory descriptor, so
//! that replacing the path cannot redirect a write.

mod adopt;
mod at;
mod compare;
mod directory;
mod file;
mod lock;
mod manifest;
mod marker;
mod names;
mod private_file;
mod publish;
mod seed;
mod small_file;
mod space;
mod sweep;
mod unusable;
mod watch;
mod write;

pub use marker::write_marker;
pub use names::{DATA_LINK, MANIFEST_FILE, STATE_FILE};
pub use private_file::{read_private_file, remove_private_file, write_private_file};
pub use publish::{Published, Publisher};
pub use seed::read_seed;
pub use small_file::{read_small_file, remove_small_file, replace_small_file};
pub use watch::{Watch, WatchError};
