//! Encodings, digests, and JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gotmpl::Value;
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest};

use super::super::super::bytes::{from_text, to_text};
use super::super::super::value::text;
use super::super::encoding::hex;
use super::super::json::{self, Style};
use super::super::{Arguments, Function};

const COMPACT: Style = Style { escapes_html: true, is_pretty: false };
const PRETTY: Style = Style { escapes_html: true, is_pretty: true };
const RAW: Style = Style { escapes_html: false, is_pretty: false };

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("sprig_adler32sum", |arguments| {
        arguments.exactly(1)?;
        Ok(text(&adler32(&from_text(arguments.text(0)?)).to_string()))
    }),
    ("sprig_b32dec", |arguments| {
        arguments.exactly(1)?;
        from_base32(arguments.text(0)?).map(|bytes| text(&to_text(&bytes))).ok_or_else(|| not("base32"))
    }),
    ("sprig_b32enc", |arguments| {
        arguments.exactly(1)?;
        Ok(text(&base32(&from_text(arguments.text(0)?))))
    }),
    ("sprig_b64dec", |arguments| {
        arguments.exactly(1)?;
        let packed: String = arguments.text(0)?.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        STANDARD.decode(packed).map(|bytes| text(&to_text(&bytes))).map_err(|_| not("base64"))
    }),
    ("sprig_b64enc", |arguments| {
        arguments.exactly(1)?;
        Ok(text(&STANDARD.encode(from_text(arguments.text(0)?))))
    }),
    ("sprig_fromJson", |arguments| {
        arguments.exactly(1)?;
        Ok(json::parsed(arguments.text(0)?).unwrap_or(Value::Nil))
    }),
    ("sprig_mustFromJson", |arguments| {
        arguments.exactly(1)?;
        json::parsed(arguments.text(0)?).ok_or_else(|| not("JSON"))
    }),
    ("sprig_mustToJson", |arguments| written(arguments, COMPACT)),
    ("sprig_mustToPrettyJson", |arguments| written(arguments, PRETTY)),
    ("sprig_mustToRawJson", |arguments| written(arguments, RAW)),
    ("sprig_sha1sum", |arguments| hashed(arguments, &SHA1_FOR_LEGACY_USE_ONLY)),
    ("sprig_sha256sum", |arguments| hashed(arguments, &SHA256)),
    ("sprig_sha512sum", |arguments| hashed(arguments, &SHA512)),
    ("sprig_toJson", |arguments| written(arguments, COMPACT).or_else(|_| Ok(text("")))),
    ("sprig_toPrettyJson", |arguments| written(arguments, PRETTY).or_else(|_| Ok(text("")))),
    ("sprig_toRawJson", |arguments| written(arguments, RAW)),
];

/// The message for text that cannot be decoded. Go returns the message of the error as the text.
fn not(encoding: &str) -> String {
    format!("the text is not {encoding}")
}

fn written(arguments: &Arguments<'_>, style: Style) -> Result<Value, String> {
    arguments.exactly(1)?;
    let mut written = String::new();
    json::value(&mut written, arguments.value(0)?, style, 0, arguments)?;
    Ok(text(&written))
}

fn hashed(arguments: &Arguments<'_>, algorithm: &'static Algorithm) -> Result<Value, String> {
    arguments.exactly(1)?;
    Ok(text(&hex(digest(algorithm, &from_text(arguments.text(0)?)).as_ref())))
}

/// <https://www.rfc-editor.org/rfc/rfc1950#section-9>.
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let step = |(a, b): (u32, u32), byte: &u8| {
        let a = (a + u32::from(*byte)) % MODULUS;
        (a, (b + a) % MODULUS)
    };
    let (a, b) = bytes.iter().fold((1, 0), step);
    b << 16 | a
}

/// <https://www.rfc-editor.org/rfc/rfc4648#section-6>.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32(bytes: &[u8]) -> String {
    let mut encoded = String::new();
    for chunk in bytes.chunks(5) {
        let bits = (0..5).fold(0_u64, |bits, index| bits << 8 | u64::from(chunk.get(index).copied().unwrap_or(0)));
        let used = (chunk.len() * 8).div_ceil(5);
        for index in 0..8 {
            let digit = usize::try_from(bits >> (35 - 5 * index) & 31).unwrap_or_default();
            encoded.push(if index < used { char::from(BASE32[digit]) } else { '=' });
        }
    }
    encoded
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    let packed: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    if !packed.len().is_multiple_of(8) {
        return None;
    }
    let mut bytes = Vec::new();
    let count = packed.len() / 8;
    for (index, chunk) in packed.chunks(8).enumerate() {
        let digits = chunk.iter().take_while(|byte| **byte != b'=').count();
        let is_padding = chunk[digits..].iter().all(|byte| *byte == b'=');
        let length = match digits {
            8 => 5,
            7 => 4,
            5 => 3,
            4 => 2,
            2 => 1,
            _ => return None,
        };
        if !is_padding || (digits < 8 && index + 1 < count) {
            return None;
        }
        let mut bits = 0_u64;
        for at in 0..8 {
            let digit = match chunk.get(at).filter(|_| at < digits) {
                Some(byte) => BASE32.iter().position(|of| of == byte)?,
                None => 0,
            };
            bits = bits << 5 | u64::try_from(digit).ok()?;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[3..3 + length]);
    }
    Some(bytes)
}
