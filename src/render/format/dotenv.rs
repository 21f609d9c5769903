//! `KEY='value'` lines. A POSIX shell changes nothing within single quotes
//! (<https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_02_02>), so only the single quote is
//! escaped, as `'\''`.

use std::io::{self, Write};

use super::{Data, Entry, FormatError, Selected};
use crate::model::is_variable_name;

/// Checks that shell variables can have the keys as names and the values as content.
pub(super) fn check(data: &Data<'_>) -> Result<(), FormatError> {
    data.iter().try_for_each(|(name, Selected { key, value })| check_one(name, key, value.bytes().expose()))
}

/// As [`check`], for the value of one key.
pub(super) fn check_one(name: &str, key: &str, value: &[u8]) -> Result<(), FormatError> {
    if !is_variable_name(name) {
        return Err(FormatError::NotAVariable(name.to_owned()));
    }
    if value.contains(&0) {
        return Err(FormatError::Nul(key.to_owned()));
    }
    Ok(())
}

pub(super) fn write(entries: &[Entry<'_>], out: &mut dyn Write) -> io::Result<()> {
    for Entry { name, text, .. } in entries {
        write!(out, "{name}='")?;
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
