//! `KEY='value'` lines of an env file, which the kubelet reads for `fileKeyRef`. It takes the text between the quotes as it is, and
//! has no escape (`ParseEnv` in `pkg/kubelet/util/env` of Kubernetes 1.37). A line that it cannot parse breaks every key after it,
//! and its message names neither the line nor the key, so that everything is checked here.

use std::io::{self, Write};

use super::{Entry, FormatError};
use crate::model::is_env_file_key;

/// Most bytes of a line without its end: the kubelet reads lines with a buffer of 64 KiB (`bufio.MaxScanTokenSize`), which also
/// holds the newline.
const MAX_LINE: usize = 64 * 1024 - 1;

/// Checks that the kubelet reads exactly `text` for `name`. `key` is the key of the secret.
pub(super) fn check(name: &str, key: &str, text: &str) -> Result<(), FormatError> {
    let key = || key.to_owned();
    if !is_env_file_key(name) {
        return Err(FormatError::NotAnEnvFileKey(name.to_owned()));
    }
    if text.is_empty() {
        return Err(FormatError::EmptyInEnvFile(key()));
    }
    if text.contains('\'') {
        return Err(FormatError::QuoteInEnvFile(key()));
    }
    if text.contains('\0') {
        return Err(FormatError::Nul(key()));
    }
    // The reader drops it.
    if text.contains("\r\n") {
        return Err(FormatError::CarriageReturnInEnvFile(key()));
    }
    let (mut start, mut lines) = (name.len() + "='".len(), text.split('\n').peekable());
    while let Some(line) = lines.next() {
        let end = if lines.peek().is_none() { "'".len() } else { 0 };
        if start + line.len() + end > MAX_LINE {
            return Err(FormatError::LongLineInEnvFile(key()));
        }
        start = 0;
    }
    Ok(())
}

pub(super) fn write(entries: &[Entry<'_>], out: &mut dyn Write) -> io::Result<()> {
    entries.iter().try_for_each(|Entry { name, text, .. }| writeln!(out, "{name}='{text}'"))
}
