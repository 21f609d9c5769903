//! Readings and layout to the exact set of files, and that set to the data of a Secret.
//!
//! Owns: formats, decoding, the file that each key becomes. Never touches: I/O, Vault's wire types, the configuration's
//! text. Pure: the same input gives the same bytes. Every failure is told at once; messages name keys, paths and
//! sources, never a value or a part of one.

mod files;
mod format;
mod mirror;

#[cfg(test)]
mod tests;

pub use files::render;
pub use mirror::{MirrorData, mirror_data};
