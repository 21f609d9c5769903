//! The file with the pod's annotations that a downward API volume provides
//! (`fieldRef: {fieldPath: metadata.annotations}`).

use std::collections::BTreeMap;

use thiserror::Error;

/// The text is not in the format of the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line} is not key=\"value\"; the file must be that of `fieldRef: {{fieldPath: metadata.annotations}}`")]
pub struct AnnotationsError {
    line: usize,
}

/// Parses annotations. Each line is `key="value"`, and the value is escaped by Go's `%q`, so it has no line break
/// (`FormatMap` in Kubernetes' `pkg/fieldpath/fieldpath.go`).
///
/// # Errors
/// The number of the first line that has another format.
pub fn parse_annotations(text: &str) -> Result<BTreeMap<String, String>, AnnotationsError> {
    let lines = text.split('\n').enumerate().filter(|(_, line)| !line.is_empty());
    let parsed = lines.map(|(index, line)| {
        let error = AnnotationsError { line: index + 1 };
        let (key, quoted) = line.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| error.clone())?;
        Ok((key.to_owned(), unquote(quoted).ok_or(error)?))
    });
    parsed.collect()
}

/// The text of a Go string literal in double quotes. `None` if it is not one.
fn unquote(quoted: &str) -> Option<String> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(character) = rest.next() {
        match character {
            '"' => return None,
            '\\' => match rest.next()? {
                'a' => bytes.push(0x07),
                'b' => bytes.push(0x08),
                'f' => bytes.push(0x0c),
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                't' => bytes.push(b'\t'),
                'v' => bytes.push(0x0b),
                '\\' => bytes.push(b'\\'),
                '"' => bytes.push(b'"'),
                // One byte. Bytes that are not UTF-8 are written this way too.
                'x' => bytes.push(u8::try_from(number(&mut rest, 2)?).ok()?),
                'u' => push(&mut bytes, char::from_u32(number(&mut rest, 4)?)?),
                'U' => push(&mut bytes, char::from_u32(number(&mut rest, 8)?)?),
                _ => return None,
            },
            plain => push(&mut bytes, plain),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn push(bytes: &mut Vec<u8>, character: char) {
    bytes.extend(character.encode_utf8(&mut [0; 4]).bytes());
}

/// A number of exactly this many hexadecimal digits.
fn number(rest: &mut std::str::Chars<'_>, digits: usize) -> Option<u32> {
    (0..digits).try_fold(0, |number: u32, _| Some((number << 4) | rest.next()?.to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse_annotations(text).unwrap_or_else(|error| panic!("{text}: {error}")).into_iter().collect()
    }

    #[test]
    fn file_of_kubelet_is_parsed() {
        // As on a real node: sorted, without a line break at the end, a value with JSON.
        let text = concat!(
            "keyferry.dev/refresh=\"2026-11-29 07:00\"\n",
            "kubectl.kubernetes.io/last-applied-configuration=\"{\\\"a\\\":\\\"b=c\\\"}\\n\"\n",
            "kubernetes.io/config.seen=\"2026-11-29T07:00:00.123456789Z\"",
        );
        let expected = [
            ("keyferry.dev/refresh", "2026-11-29 07:00"),
            ("kubectl.kubernetes.io/last-applied-configuration", "{\"a\":\"b=c\"}\n"),
            ("kubernetes.io/config.seen", "2026-11-29T07:00:00.123456789Z"),
        ];
        assert_eq!(parsed(text), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(parsed("").is_empty(), "a pod without annotations");
    }

    #[test]
    fn each_escape_of_go_is_decoded() {
        for (quoted, expected) in [
            (r#""""#, ""),
            (r#""\a\b\f\n\r\t\v\\\"""#, "\u{7}\u{8}\u{c}\n\r\t\u{b}\\\""),
            (r#""\x00\x7f""#, "\0\u{7f}"),
            (r#""\u200b\u2028\U000e0001""#, "\u{200b}\u{2028}\u{e0001}"),
            (r#""Schlüssel 鍵""#, "Schlüssel 鍵"),
            (r#""\xff""#, "\u{fffd}"),
        ] {
            assert_eq!(unquote(quoted).as_deref(), Some(expected), "{quoted}");
        }
    }

    #[test]
    fn other_formats_are_rejected_with_their_line() {
        for text in [
            "raw value",
            "a=b",
            "a=\"",
            "=\"b\"",
            "a=\"b\"c",
            "a=\"b\\\"",
            r#"a="\q""#,
            r#"a="\x1""#,
            r#"a="\ud800""#,
            r#"a="\x+1""#,
            "a=\"b\"c\"",
        ] {
            let error = parse_annotations(&format!("k=\"v\"\n{text}")).expect_err(text);
            assert!(error.to_string().starts_with("line 2 is not key=\"value\""), "{text}: {error}");
        }
    }

    proptest! {
        /// `strconv.Quote` escapes less, but nothing else, than the escapes that are generated here.
        #[test]
        fn escaped_text_round_trips(value in "\\PC*|[\\x00-\\x7f]*") {
            let escape = |c: char| match c {
                '"' | '\\' => format!("\\{c}"),
                c if (c as u32) < 0x80 && c.is_control() => format!("\\x{:02x}", c as u32),
                c if c.is_control() => format!("\\u{:04x}", c as u32),
                c => c.to_string(),
            };
            let quoted: String = value.chars().map(escape).collect();
            prop_assert_eq!(parsed(&format!("k=\"{quoted}\"")), vec![("k".to_owned(), value)]);
        }
    }
}
