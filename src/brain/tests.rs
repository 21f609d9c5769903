//! Each transition by a table.
