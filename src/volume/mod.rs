//! Files: make a set of them visible as a whole, adopt what an earlier process left, sweep what a crash left, and report
//! when other files change.
//!
//! Knows `model` only. Tries each thing once; a failure comes back classified and the last good set stays in place.
//! Everything below the output directory is reached through a directory descriptor opened once, so that a path that is
//! swapped under us leads nowhere else.

mod adopt;
mod at;
mod compare;
mod directory;
mod file;
mod lock;
mod manifest;
mod names;
mod private_file;
mod publish;
mod unusable;
mod small_file;
mod space;
mod sweep;
mod watch;
mod write;

pub use names::{DATA_LINK, MANIFEST_FILE, STATE_FILE};
pub use private_file::{write_private_file, take_private_file};
pub use publish::{Published, Publisher};
pub use small_file::{read_small_file, remove_small_file, replace_small_file};
pub use watch::{Watch, WatchError};
