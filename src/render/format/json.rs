//! A JSON object with sorted keys. Values other than strings are copied unchanged from Vault.

use std::io::{self, Write};

use super::Entry;

pub(super) fn write(entries: &[Entry<'_>], out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"{")?;
    for (index, Entry { name, text, is_json }) in entries.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        serde_json::to_writer(&mut *out, name)?;
        out.write_all(b":")?;
        if *is_json {
            out.write_all(text.as_bytes())?;
        } else {
            serde_json::to_writer(&mut *out, text)?;
        }
    }
    out.write_all(b"}\n")
}
