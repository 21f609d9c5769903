//! Rendering of files from readings or from a seed, and of the data of mirrored Secrets from the published files.
//!
//! Owns: formats, decoding, the mapping from keys to files, the sources of each file. Never touches: I/O, Vault's wire types,
//! the text of the configuration. Pure: equal input gives equal bytes. Messages name keys, paths and sources, never a value or
//! a part of one.

mod document;
mod field;
mod files;
mod format;
mod listing;
mod merge;
mod mirror;
mod pkcs12;
mod seed;
mod selection;
mod template;
mod text;

#[cfg(test)]
mod tests;

pub use files::{Rendered, join, render_output};
pub use listing::{ListedFile, listing, needed_calls};
pub use mirror::{MirrorData, mirror_data};
pub use seed::seed_files;
