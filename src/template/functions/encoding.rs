//! Encodings and digests.

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use gotmpl::Value;
use md5::{Digest as _, Md5};
use ring::digest::{SHA256, digest};
use ring::hmac;

use super::super::bytes::{from_text, to_text};
use super::super::value::text;
use super::{Arguments, Function};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("base64Decode", |arguments| decode(arguments, &STANDARD)),
    ("base64Encode", |arguments| encode(arguments, &STANDARD)),
    ("base64URLDecode", |arguments| decode(arguments, &URL_SAFE)),
    ("base64URLEncode", |arguments| encode(arguments, &URL_SAFE)),
    ("hmacSHA256Hex", |arguments| {
        arguments.exactly(2)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &from_text(arguments.text(1)?));
        Ok(text(&hex(hmac::sign(&key, &from_text(arguments.text(0)?)).as_ref())))
    }),
    ("md5sum", |arguments| {
        arguments.exactly(1)?;
        Ok(text(&hex(&Md5::digest(from_text(arguments.text(0)?)))))
    }),
    ("sha256Hex", |arguments| {
        arguments.exactly(1)?;
        Ok(text(&hex(digest(&SHA256, &from_text(arguments.text(0)?)).as_ref())))
    }),
];

/// Line breaks are ignored, as in Go.
fn decode(arguments: &Arguments<'_>, engine: &GeneralPurpose) -> Result<Value, String> {
    arguments.exactly(1)?;
    let packed: String = arguments.text(0)?.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    // The error of the library quotes a byte of the value, so it is dropped.
    let bytes = engine.decode(packed).map_err(|_| "the text is not base64".to_owned())?;
    Ok(text(&to_text(&bytes)))
}

fn encode(arguments: &Arguments<'_>, engine: &GeneralPurpose) -> Result<Value, String> {
    arguments.exactly(1)?;
    Ok(text(&engine.encode(from_text(arguments.text(0)?))))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
