//! YAML, as version 2 of the Go module `gopkg.in/yaml` reads and writes it.

mod order;
mod reader;
mod scalar;
mod style;
mod text;
mod writer;

use super::super::value::{map, text as to_value};
use super::Function;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("parseYAML", |arguments| {
        arguments.exactly(1)?;
        let yaml = arguments.text(0)?;
        if yaml.is_empty() { Ok(map::<&str>([])) } else { reader::read(yaml, arguments.context) }
    }),
    ("toYAML", |arguments| {
        arguments.exactly(1)?;
        Ok(to_value(writer::write(arguments.value(0)?, arguments.context)?.trim()))
    }),
];
