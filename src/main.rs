//! Placeholder while the core is rebuilt.
fn main() {}
