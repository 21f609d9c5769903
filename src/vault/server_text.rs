//! Text of a server, made fit for a message.

use crate::model::truncated;

/// Most characters of one text.
const MAX_CHARS: usize = 300;

/// Shortens a text to the length of a condition, on one line with single spaces. Vault indents its lists of errors
/// ("1 error occurred:\n\t* permission denied\n\n").
pub(super) fn clip(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    truncated(&words.collect::<Vec<_>>().join(" "), MAX_CHARS)
}

/// The texts clipped, in double quotes, and separated by commas; `none` if there are none.
pub(super) fn quoted_list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{:?}", clip(text))).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}

/// Removes credentials from a text of the server, which can quote what was sent. A JWT can be quoted in parts. Parts of fewer
/// than 8 bytes are common words, not credentials.
pub(super) fn redact(mut text: String, credentials: &[&str]) -> String {
    let parts = credentials.iter().flat_map(|credential| credential.split('.').chain([*credential]));
    let mut parts: Vec<&str> = parts.filter(|part| part.len() >= 8).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    for part in parts {
        text = text.replace(part, "(credential)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clip_returns_one_short_line() {
        assert_eq!(clip("1 error occurred:\n\t* permission denied\n\n"), "1 error occurred: * permission denied");
        let long = clip(&"ü".repeat(1000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (301, true));
    }

    #[test]
    fn redact_removes_credentials_and_their_parts() {
        let credentials = ["eyJhbGciOi.payloadpayload.signature1", "2a4e1914-aaaa"];
        let words = "bad token eyJhbGciOi.payloadpayload.signature1 of 2a4e1914-aaaa, signature1";
        assert_eq!(redact(words.into(), &credentials), "bad token (credential) of (credential), (credential)");
    }
}
