//! A JSON object with sorted keys. Values other than strings are copied unchanged from Vault.

use std::io::{self, Write};

use super::{Entry, separated};

pub(super) fn write(entries: &[Entry<'_>], out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"{")?;
    separated(entries, b",", out, |Entry { name, text, is_json }, out| {
        serde_json::to_writer(&mut *out, name)?;
        out.write_all(b":")?;
        if *is_json { out.write_all(text.as_bytes()) } else { Ok(serde_json::to_writer(out, text)?) }
    })?;
    out.write_all(b"}\n")
}
