//! PEM files with the blocks of several keys.

use super::{FormatError, exactly};
use crate::model::SecretBytes;

pub(super) const BEGIN: &str = "-----BEGIN ";
pub(super) const END: &str = "-----END ";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// The blocks of all values in their order, with one newline after each. A certificate that several values contain is written
/// once. Text outside blocks, such as explanations of `openssl x509 -text`, is left out.
pub(in crate::render) fn bundle(values: &[(&str, &SecretBytes)]) -> Result<SecretBytes, FormatError> {
    let mut all: Vec<&str> = Vec::new();
    for (key, value) in values {
        let text = value.expose_str().ok_or_else(|| FormatError::NotUtf8((*key).to_owned()))?;
        let blocks = blocks(text).ok_or_else(|| FormatError::NotPem((*key).to_owned()))?;
        for block in blocks {
            let again = block.starts_with(CERTIFICATE) && all.iter().any(|other| same_lines(other, block));
            if !again {
                all.push(block);
            }
        }
    }
    Ok(exactly(|out| {
        for line in all.iter().flat_map(|block| lines(block)) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }))
}

/// The blocks in a text, from `-----BEGIN` to the end of the line with `-----END`. `None` if the text has something else than
/// complete blocks and no block.
pub(super) fn blocks(text: &str) -> Option<Vec<&str>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let block = &rest[start..];
        let end = block.find(END)?;
        let length = end + block[end..].find('\n').unwrap_or(block.len() - end);
        found.push(&block[..length]);
        rest = &block[length..];
    }
    (!found.is_empty() || text.trim().is_empty()).then_some(found)
}

fn lines(block: &str) -> impl Iterator<Item = &str> {
    block.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn same_lines(one: &str, other: &str) -> bool {
    lines(one).eq(lines(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const B: &str = "-----BEGIN CERTIFICATE-----\nBBBB\nBB==\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nS0VZ\n-----END PRIVATE KEY-----\n";

    fn bundled(values: &[&str]) -> Result<String, FormatError> {
        let bytes: Vec<_> = values.iter().map(|text| SecretBytes::from(*text)).collect();
        let keyed: Vec<_> = bytes.iter().map(|bytes| ("k", bytes)).collect();
        bundle(&keyed).map(|bytes| bytes.expose_str().expect("text").to_owned())
    }

    #[test]
    fn blocks_have_one_newline_and_certificates_appear_once() {
        let joined = |parts: &[&str]| Ok(parts.concat());
        assert_eq!(bundled(&[KEY, A, B]), joined(&[KEY, A, B]), "in the given order");
        assert_eq!(bundled(&[A, &[B, A].concat(), B, KEY]), joined(&[A, B, KEY]));
        assert_eq!(bundled(&[A.trim_end(), B.trim_end()]), joined(&[A, B]), "without a newline at the end");
        let windows = A.replace('\n', "\r\n");
        assert_eq!(
            bundled(&[&windows, &format!("\n\n{A}\n\n"), B]),
            joined(&[A, B]),
            "other line ends and empty lines"
        );
        assert_eq!(bundled(&[&format!("Subject: CN=a\n{A}trailer\n{B}")]), joined(&[A, B]), "explanations");
        assert_eq!(bundled(&[A, "", KEY]), joined(&[A, KEY]), "a certificate without intermediates");
        assert_eq!(bundled(&[KEY, KEY]), joined(&[KEY, KEY]), "only certificates are left out");
        for bad in ["text", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            assert_eq!(bundled(&[A, bad]), Err(FormatError::NotPem("k".to_owned())), "{bad}");
        }
    }
}
