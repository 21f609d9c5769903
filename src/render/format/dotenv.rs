//! `KEY='value'` lines. A POSIX shell changes nothing within single quotes
//! (<https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_02_02>), so only the single quote is
//! escaped, as `'\''`.

use std::io::{self, Write};

use super::{Data, Entry, FormatError};

/// Checks that shell variables can have the keys as names and the values as content.
pub(super) fn check(data: &Data) -> Result<(), FormatError> {
    for (key, value) in data {
        let name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if key.is_empty() || key.as_bytes()[0].is_ascii_digit() || !key.bytes().all(name) {
            return Err(FormatError::NotAVariable(key.clone()));
        }
        if value.bytes().expose().contains(&0) {
            return Err(FormatError::Nul(key.clone()));
        }
    }
    Ok(())
}

pub(super) fn write(entries: &[Entry<'_>], out: &mut dyn Write) -> io::Result<()> {
    for Entry { key, text, .. } in entries {
        write!(out, "{key}='")?;
        for (index, part) in text.split('\'').enumerate() {
            if index > 0 {
                out.write_all(br"'\''")?;
            }
            out.write_all(part.as_bytes())?;
        }
        out.write_all(b"'\n")?;
    }
    Ok(())
}
