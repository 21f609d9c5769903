//! Bytes as text. The engine has values of text only, but `base64Decode` can return any bytes.
//!
//! A byte that is not part of valid UTF-8 becomes a private-use character. The same happens to the bytes of these characters
//! themselves, so the mapping is reversible.

use std::borrow::Cow;

/// The character of byte 0. The characters of all bytes are U+10FF00 to U+10FFFF, at the end of plane 16, which is for private
/// use (<https://www.unicode.org/versions/Unicode16.0.0/core-spec/chapter-23/#G19378>).
const FIRST: u32 = 0x0010_FF00;

/// `bytes` as text.
pub(super) fn to_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(is_byte) => Cow::Borrowed(text),
        _ => {
            let mut text = String::with_capacity(bytes.len() * 4);
            for chunk in bytes.utf8_chunks() {
                for c in chunk.valid().chars() {
                    if is_byte(c) {
                        text.extend(c.encode_utf8(&mut [0; 4]).bytes().map(character));
                    } else {
                        text.push(c);
                    }
                }
                text.extend(chunk.invalid().iter().copied().map(character));
            }
            Cow::Owned(text)
        }
    }
}

/// The bytes of `text`.
pub(super) fn from_text(text: &str) -> Cow<'_, [u8]> {
    if !text.chars().any(is_byte) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// The byte that `c` stands for.
pub(super) fn byte_of(c: char) -> Option<u8> {
    u32::from(c).checked_sub(FIRST).and_then(|byte| u8::try_from(byte).ok())
}

fn is_byte(c: char) -> bool {
    byte_of(c).is_some()
}

fn character(byte: u8) -> char {
    char::from_u32(FIRST + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = to_text(&bytes).into_owned();
            prop_assert_eq!(&*from_text(&text), &bytes[..]);
        }

        #[test]
        fn text_round_trips(text: String) {
            let bytes = text.clone().into_bytes();
            let converted = to_text(&bytes).into_owned();
            prop_assert_eq!(&*from_text(&converted), &bytes[..]);
        }
    }

    #[test]
    fn private_characters_in_text_keep_their_bytes() {
        let text = "a\u{10FF80}b";
        let converted = to_text(text.as_bytes());
        assert_eq!(converted.chars().count(), 6);
        assert_eq!(&*from_text(&converted), text.as_bytes());
        assert_eq!(to_text("a\u{10FEFF}".as_bytes()), "a\u{10FEFF}");
    }
}
