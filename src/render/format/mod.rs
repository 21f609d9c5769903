//! Formats of files with several keys of a secret.

mod dotenv;
mod env_file;
mod flat;
mod json;
mod nested;
mod pem;
mod pkcs12;
mod properties;
mod toml;
mod yaml;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use thiserror::Error;

use super::document::document;
use super::selection::Selected;
use super::text::quoted;
pub(super) use nested::{check_document, write_document};
pub(super) use pem::bundle;
pub(super) use pkcs12::{content, file as pkcs12_file};

use crate::model::{FileFormat, SecretBytes, SecretValue, SourceName};

/// The selected keys and values of a secret by their name in the file, in the order of the file.
type Data<'a> = BTreeMap<Cow<'a, str>, Selected<'a>>;

const OWN_OUTPUT: &str = "leave the key out with `exclude`, and write it with its own output";

/// The reason why a format cannot represent a secret. Names the key, never the value.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum FormatError {
    #[error(
        "key {} is not a valid name of a shell variable (letters, digits and '_', no digit at the start); give it one with \
         `rename`, or leave it out with `exclude`",
        quoted(.0)
    )]
    NotAVariable(String),
    #[error(
        "key {} cannot be in an env file of Kubernetes (printable ASCII characters without '=', no '#' at the start, no space at \
         either end); give it another name with `rename`, or leave it out with `exclude`",
        quoted(.0)
    )]
    NotAnEnvFileKey(String),
    #[error("the value of key {} contains a NUL byte, which a variable cannot contain; {}", quoted(.0), OWN_OUTPUT)]
    Nul(String),
    #[error(
        "the value of key {} is empty, and Kubernetes treats an empty value in an env file as a missing key; set a value, or \
         leave the key out with `exclude` and set `optional: true` in the `fileKeyRef`",
        quoted(.0)
    )]
    EmptyInEnvFile(String),
    #[error(
        "the value of key {} contains a single quote, for which an env file of Kubernetes has no escape; change the value, or {}",
        quoted(.0),
        OWN_OUTPUT
    )]
    QuoteInEnvFile(String),
    #[error(
        "the value of key {} contains a carriage return before a newline, which Kubernetes removes from an env file; change the \
         value, or {}",
        quoted(.0),
        OWN_OUTPUT
    )]
    CarriageReturnInEnvFile(String),
    #[error(
        "the value of key {} contains a line that is too long for an env file of Kubernetes (64 KiB with the name of the key); {}",
        quoted(.0),
        OWN_OUTPUT
    )]
    LongLineInEnvFile(String),
    #[error(
        "the value of key {} contains a whole number of more than 64 bits, which TOML cannot contain; store it as text, or use \
         another `format`",
        quoted(.0)
    )]
    LargeInteger(String),
    #[error(
        "the value of key {} contains null in a list, which TOML cannot contain; change the value, or use another `format`",
        quoted(.0)
    )]
    NullInList(String),
    #[error("the value of key {} has more than 64 levels of mappings and lists; {}", quoted(.0), OWN_OUTPUT)]
    TooDeep(String),
    #[error(
        "key {} and key {}{} both have a value with the name {} in the file; change one of the names with `rename`",
        quoted(.key),
        quoted(.other),
        .of.as_ref().map(|source| format!(" of source {source}")).unwrap_or_default(),
        quoted(.name)
    )]
    SameName { key: String, other: String, of: Option<String>, name: String },
    #[error("the value of key {} is not UTF-8; {}", quoted(.0), OWN_OUTPUT)]
    NotUtf8(String),
    #[error("the value of key {} is not PEM; remove the key from `bundle`", quoted(.0))]
    NotPem(String),
    #[error("the value of key {} contains a certificate that cannot be parsed", quoted(.0))]
    NotACertificate(String),
    #[error(
        "the value of key {} contains a private key that is not unencrypted PKCS#8; convert it with `openssl pkcs8 -topk8 \
         -nocrypt`",
        quoted(.0)
    )]
    NotPkcs8(String),
    #[error(
        "the value of key {} contains something other than certificates and a private key; remove the key from `bundle`",
        quoted(.0)
    )]
    NotForPkcs12(String),
    #[error(
        "the value of key {} contains a second private key; list the keys of one certificate in `bundle`",
        quoted(.0)
    )]
    SecondPrivateKey(String),
    #[error("the private key of key {} belongs to none of the certificates; write a matching pair", quoted(.0))]
    KeyMismatch(String),
    #[error("the keys contain no certificate; add the key of the certificate to `bundle`")]
    NoCertificate,
}

/// Renders all of `data`, the selected keys of `source`, in one format.
pub(super) fn whole(format: FileFormat, source: &SourceName, data: &Data<'_>) -> Result<SecretBytes, FormatError> {
    match format {
        FileFormat::Dotenv => dotenv::check(data)?,
        FileFormat::Toml => {
            let nested = document(source, data.clone(), &[])?;
            return write_document(format, &nested).map_err(|(_, error)| error);
        }
        FileFormat::EnvFile | FileFormat::Json | FileFormat::Properties | FileFormat::Yaml => {}
    }
    let has_null = matches!(format, FileFormat::Json | FileFormat::Yaml);
    let texts = data
        .iter()
        .filter(|(_, Selected { value, .. })| has_null || !value.is_null())
        .map(|(name, Selected { key, value })| {
            let text = value.bytes().expose_str().ok_or_else(|| FormatError::NotUtf8((*key).to_owned()))?;
            if format == FileFormat::EnvFile {
                env_file::check(name, key, text)?;
            }
            Ok(Entry { name, text, is_json: matches!(value, SecretValue::Json(_)) })
        })
        .collect::<Result<Vec<_>, FormatError>>()?;
    Ok(exactly(|out| match format {
        FileFormat::Dotenv => dotenv::write(&texts, out),
        FileFormat::EnvFile => env_file::write(&texts, out),
        FileFormat::Json => json::write(&texts, out),
        FileFormat::Properties => properties::write(&texts, out),
        // Returned above.
        FileFormat::Toml => Ok(()),
        FileFormat::Yaml => yaml::write(&texts, out),
    }))
}

/// One key with its value, for a file.
struct Entry<'a> {
    name: &'a str,
    text: &'a str,
    /// Whether the text is JSON instead of a string.
    is_json: bool,
}

/// Writes each item with `write`, and `separator` between them.
fn separated<T>(
    items: impl IntoIterator<Item = T>,
    separator: &[u8],
    out: &mut dyn Write,
    write: impl Fn(T, &mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.write_all(separator)?;
        }
        write(item, out)?;
    }
    Ok(())
}

/// The output of `write` in a buffer of its exact size.
fn exactly(write: impl Fn(&mut dyn Write) -> io::Result<()>) -> SecretBytes {
    let written = SecretBytes::written(|buffer| write(buffer));
    // Writing the counted bytes into the buffer cannot fail, and the formats return no other errors.
    debug_assert!(written.is_ok(), "both passes write the same");
    written.unwrap_or_default()
}
