//! Java properties
//! (<https://docs.oracle.com/en/java/javase/21/docs/api/java.base/java/util/Properties.html#load(java.io.Reader)>).
//!
//! Only ASCII, as `Properties.store` writes it, so that readers of ISO 8859-1 (`load(InputStream)`) and of UTF-8 (Spring and
//! others) get the same text.

use std::io::{self, Write};

use super::Entry;

pub(super) fn write(entries: &[Entry<'_>], out: &mut dyn Write) -> io::Result<()> {
    for Entry { name, text, .. } in entries {
        escape(name, true, out)?;
        out.write_all(b"=")?;
        escape(text, false, out)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn escape(text: &str, is_key: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut leading = true;
    for c in text.chars() {
        match c {
            // Any space ends a key; only leading spaces of a value are dropped.
            ' ' if is_key || leading => out.write_all(br"\ ")?,
            '\t' => out.write_all(br"\t")?,
            '\n' => out.write_all(br"\n")?,
            '\r' => out.write_all(br"\r")?,
            '\x0c' => out.write_all(br"\f")?,
            '\\' | ':' | '=' | '#' | '!' => write!(out, "\\{c}")?,
            ' '..='~' => write!(out, "{c}")?,
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04X}")?;
                }
            }
        }
        leading = leading && c == ' ';
    }
    Ok(())
}
