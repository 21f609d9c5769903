//! Readings and layout to files, output by output, and the published set to the data of a Secret.
//!
//! Owns: formats, decoding, the file that each key becomes, which sources a file is made from. Never touches: I/O, Vault's
//! wire types, the configuration's text. Pure: the same input gives the same bytes. Messages name keys, paths and sources,
//! never a value or a part of one.

mod files;
mod format;
mod mirror;
mod text;

#[cfg(test)]
mod tests;

pub use files::{Rendered, join, render_output, sources_of};
pub use mirror::{MirrorData, mirror_data};
