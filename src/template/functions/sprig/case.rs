//! Forms of names such as `snake_case`: ports of the Go module `github.com/huandu/xstrings`.

use std::sync::LazyLock;

use regex::Regex;

use super::super::super::unicode::is_letter;
use super::super::Function;
use super::super::text::each;
use super::text::changed;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("sprig_camelcase", |arguments| changed(arguments, pascal)),
    ("sprig_kebabcase", |arguments| changed(arguments, |text| lower(text, '-'))),
    ("sprig_snakecase", |arguments| changed(arguments, |text| lower(text, '_'))),
];

fn is_connector(c: char) -> bool {
    matches!(c, '-' | '_') || c.is_whitespace()
}

fn is_punctuation(c: char) -> bool {
    static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\p{P}$").expect("the expression is constant"));
    PUNCTUATION.is_match(c.encode_utf8(&mut [0; 4]))
}

fn changed_one(c: char, is_upper: bool) -> char {
    let one = c.to_string();
    let changed = if is_upper { each(&one, char::to_uppercase) } else { each(&one, char::to_lowercase) };
    changed.chars().next().unwrap_or(c)
}

/// `SomeWords` from `some_words`. Connectors at both ends and repeated ones stay.
fn pascal(text: &str) -> String {
    let start = text.find(|c| !is_connector(c)).unwrap_or(text.len());
    let (before, rest) = text.split_at(start);
    let mut characters = rest.chars();
    let mut result = before.to_owned();
    let Some(first) = characters.next() else {
        // As in Go, the last connector appears twice.
        result.extend(before.chars().last());
        return result;
    };
    let mut is_first_upper = first.is_uppercase();
    let mut current = changed_one(first, true);
    for next in characters {
        let previous = std::mem::replace(&mut current, next);
        if is_connector(next) && is_connector(previous) {
            result.push(previous);
            continue;
        }
        if is_connector(previous) {
            is_first_upper = next.is_uppercase();
            current = changed_one(next, true);
            continue;
        }
        if is_first_upper {
            if next.is_uppercase() {
                current = changed_one(next, false);
            } else {
                is_first_upper = false;
            }
        }
        result.push(previous);
    }
    result.push(current);
    result
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    End,
    Number,
    Upper,
    Letters,
    Connector,
    Punctuation,
    Other,
}

/// The kind and the characters of the first word, which it removes.
fn next_word<'a>(rest: &mut &'a [char]) -> (Kind, &'a [char]) {
    let is_lower_letter = |c: char| is_letter(c) && !c.is_uppercase();
    let count = |test: &dyn Fn(char) -> bool| rest.iter().take_while(|c| test(**c)).count();
    let Some(&first) = rest.first() else { return (Kind::End, &[]) };
    let (kind, length) = if is_connector(first) {
        (Kind::Connector, count(&is_connector))
    } else if is_punctuation(first) {
        (Kind::Punctuation, count(&is_punctuation))
    } else if first.is_uppercase() {
        let upper = count(&char::is_uppercase);
        let has_letter_next = rest.get(upper).is_some_and(|c| is_letter(*c));
        let length = match upper {
            1 if has_letter_next => 1 + rest[1..].iter().take_while(|c| is_lower_letter(**c)).count(),
            // The last one of `HTTPStatus` starts the next word.
            _ if has_letter_next => upper - 1,
            _ => upper,
        };
        (Kind::Upper, length)
    } else if is_letter(first) {
        (Kind::Letters, count(&is_lower_letter))
    } else if first.is_numeric() {
        (Kind::Number, count(&char::is_numeric))
    } else {
        let is_other = |c: char| !(is_connector(c) || is_letter(c) || c.is_numeric() || is_punctuation(c));
        (Kind::Other, count(&is_other))
    };
    let (word, after) = rest.split_at(length);
    *rest = after;
    (kind, word)
}

/// `some_words` from `SomeWords`. A number belongs to the word before it if letters follow that are not in lower case.
fn lower(text: &str, connector: char) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut rest = &characters[..];
    let mut out = String::new();
    let is_word = |kind: Kind| !matches!(kind, Kind::End | Kind::Punctuation | Kind::Connector);
    let push = |out: &mut String, (kind, word): (Kind, &[char])| match kind {
        Kind::Upper | Kind::Letters => out.extend(word.iter().map(|c| changed_one(*c, false))),
        Kind::Connector => out.extend(word.iter().map(|_| connector)),
        _ => out.extend(word),
    };
    let mut word = next_word(&mut rest);
    while !rest.is_empty() {
        if word.0 != Kind::Connector {
            push(&mut out, word);
        }
        let previous = word;
        word = next_word(&mut rest);
        match previous.0 {
            Kind::Number => {
                while matches!(word.0, Kind::Letters | Kind::Number) {
                    push(&mut out, word);
                    word = next_word(&mut rest);
                }
                if is_word(word.0) {
                    out.push(connector);
                }
            }
            Kind::Connector => push(&mut out, previous),
            Kind::Punctuation => {}
            _ if word.0 != Kind::Number => {
                if !matches!(word.0, Kind::Connector | Kind::Punctuation) {
                    out.push(connector);
                }
            }
            _ if rest.is_empty() => {}
            _ => {
                let number = word;
                word = next_word(&mut rest);
                if word.0 != Kind::Letters {
                    push(&mut out, number);
                    if !matches!(word.0, Kind::Connector | Kind::Punctuation) {
                        out.push(connector);
                    }
                    continue;
                }
                out.push(connector);
                push(&mut out, number);
                while matches!(word.0, Kind::Letters | Kind::Number) {
                    push(&mut out, word);
                    word = next_word(&mut rest);
                }
                if is_word(word.0) {
                    out.push(connector);
                }
            }
        }
    }
    push(&mut out, word);
    out
}
