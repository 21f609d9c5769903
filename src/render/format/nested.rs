//! A document in one format.

use std::io::{self, Write};

use super::super::document::{Mapping, Node, Origin, Value};
use super::flat::{Naming, flat};
use super::{Entry, FormatError, dotenv, env_file, exactly, properties, separated, toml, yaml};
use crate::model::{FileFormat, SecretBytes};

/// Checks that the format can represent the document.
pub(in super::super) fn check_document<'a>(
    format: FileFormat,
    document: &Mapping<'a>,
) -> Result<(), (Origin<'a>, FormatError)> {
    match format {
        FileFormat::Json | FileFormat::Yaml => Ok(()),
        FileFormat::Toml => toml::check(document),
        FileFormat::Properties => flat(document, Naming::Properties).map(|_| ()),
        FileFormat::Dotenv | FileFormat::EnvFile => {
            let values = flat(document, Naming::Variables)?;
            values.iter().try_for_each(|(name, value)| {
                let key = value.origin.key;
                let checked = match format {
                    FileFormat::EnvFile => env_file::check(name, key, value.text),
                    _ => dotenv::check_one(name, key, value.text.as_bytes()),
                };
                checked.map_err(|error| (value.origin, error))
            })
        }
    }
}

/// The file with the document. The error names what the document has that the format cannot represent.
pub(in super::super) fn write_document<'a>(
    format: FileFormat,
    document: &Mapping<'a>,
) -> Result<SecretBytes, (Origin<'a>, FormatError)> {
    check_document(format, document)?;
    let naming = match format {
        FileFormat::Json => return Ok(exactly(|out| json(document, out).and_then(|()| out.write_all(b"\n")))),
        FileFormat::Toml => return Ok(exactly(|out| toml::write(document, out))),
        FileFormat::Yaml => return Ok(exactly(|out| yaml::write_nested(document, out))),
        FileFormat::Properties => Naming::Properties,
        FileFormat::Dotenv | FileFormat::EnvFile => Naming::Variables,
    };
    let values = flat(document, naming)?;
    let entries = values.iter().map(|(name, value)| Entry { name, text: value.text, is_json: false });
    let entries: Vec<_> = entries.collect();
    Ok(exactly(|out| match format {
        FileFormat::Dotenv => dotenv::write(&entries, out),
        FileFormat::EnvFile => env_file::write(&entries, out),
        _ => properties::write(&entries, out),
    }))
}

/// A JSON object without white space.
fn json(mapping: &Mapping<'_>, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"{")?;
    separated(mapping, b",", out, |(name, node), out| {
        serde_json::to_writer(&mut *out, name)?;
        out.write_all(b":")?;
        json_value(node, out)
    })?;
    out.write_all(b"}")
}

fn json_value(node: &Node<'_>, out: &mut dyn Write) -> io::Result<()> {
    match &node.value {
        Value::Text(text) => Ok(serde_json::to_writer(out, text.as_str())?),
        Value::Literal(text) => out.write_all(text.as_bytes()),
        Value::Mapping(mapping) => json(mapping, out),
        Value::List(items) => {
            out.write_all(b"[")?;
            separated(items, b",", out, json_value)?;
            out.write_all(b"]")
        }
    }
}
