//! Checks that every block of a template has its `end`. The parser of gotmpl 0.6.1 accepts a template that ends within a block,
//! and ignores everything after an `end` or `else` without a block.

use std::borrow::Cow;

use super::Problem;

/// Maximum number of `else if` and `else with` around one place. The parser and the execution need stack for each, and the
/// parser of gotmpl 0.6.1 limits only blocks within blocks.
const MAX_CHAIN: usize = 200;

/// The problem with chains of `else if` in `text` that are too long to be parsed.
pub(super) fn check_chains(text: &str, (left, right): (&str, &str)) -> Option<Problem> {
    let mut open: Vec<usize> = Vec::new();
    let mut total = 0;
    for (offset, action) in actions(text, left, right) {
        let mut words = action.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        match (words.next(), words.next()) {
            (Some("if" | "range" | "with" | "define" | "block"), _) => open.push(0),
            (Some("end"), _) => total -= open.pop().unwrap_or_default(),
            (Some("else"), Some("if" | "with")) => {
                total += 1;
                if let Some(count) = open.last_mut() {
                    *count += 1;
                }
                if total > MAX_CHAIN {
                    let message = format!("more than {MAX_CHAIN} `else if` in a chain; use a map with `index`");
                    return Some(Problem::at(text, offset, message));
                }
            }
            _ => {}
        }
    }
    None
}

/// The problems with the blocks of `text`.
pub(super) fn check(text: &str, (left, right): (&str, &str)) -> Vec<Problem> {
    let mut open: Vec<(&str, usize)> = Vec::new();
    let mut problems = Vec::new();
    for (offset, action) in actions(text, left, right) {
        let word = action.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let problem = match word {
            "define" if !open.is_empty() => {
                open.push((word, offset));
                Some("`define` inside a block; move it out of the block")
            }
            "if" | "range" | "with" | "define" | "block" => {
                open.push((word, offset));
                continue;
            }
            "end" => open.pop().is_none().then_some("`end` without a block; remove it, or add the start of the block"),
            "else" if !matches!(open.last(), Some(("if" | "range" | "with", _))) => {
                Some("`else` without `if`, `range`, or `with`; remove it, or add the start of the block")
            }
            "break" | "continue" if !open.iter().any(|(word, _)| *word == "range") => {
                Some("`break` and `continue` are allowed only in `range`; remove it")
            }
            _ => None,
        };
        problems.extend(problem.map(|message| Problem::at(text, offset, message)));
    }
    let unclosed = open.into_iter().map(|(word, offset)| {
        Problem::at(text, offset, format!("`{word}` without an `end`; add {left} end {right} after its content"))
    });
    problems.extend(unclosed);
    problems
}

/// `text` with an empty action in the place of each comment, of the same length. gotmpl 0.6.1 also trims the text after a
/// comment whose left delimiter only has a trim marker.
pub(super) fn without_comments<'t>(text: &'t str, (left, right): (&str, &str)) -> Cow<'t, str> {
    let mut changed = Cow::Borrowed(text);
    let mut at = 0;
    while let Some(start) = text.get(at..).and_then(|rest| rest.find(left)).map(|found| at + found + left.len()) {
        let rest = &text[start..];
        let trimmed = rest.strip_prefix('-').filter(|rest| rest.starts_with(char::is_whitespace)).map(str::trim_start);
        let content = trimmed.unwrap_or(rest);
        let offset = text.len() - content.len();
        let comment = content.strip_prefix("/*").and_then(|comment| comment.find("*/")).map(|length| length + 4);
        let Some(length) = comment else {
            at = length_of(rest, right).map_or(text.len(), |length| start + length);
            continue;
        };
        let mut action = "\"\"".to_owned();
        action.push_str(&" ".repeat(length - action.len()));
        changed.to_mut().replace_range(offset..offset + length, &action);
        at = offset + length;
    }
    changed
}

/// The content of each action that is not a comment, without white space and trim markers before it, and its offset.
fn actions<'a>(text: &'a str, left: &'a str, right: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + text.get(at..)?.find(left)? + left.len();
            let mut content = text.get(start..)?;
            if let Some(trimmed) = content.strip_prefix('-').filter(|rest| rest.starts_with(char::is_whitespace)) {
                content = trimmed;
            }
            content = content.trim_start();
            let offset = text.len() - content.len();
            if let Some(comment) = content.strip_prefix("/*") {
                at = offset + 2 + comment.find("*/")?;
                continue;
            }
            let length = length_of(content, right)?;
            at = offset + length + right.len();
            return Some((offset, &content[..length]));
        }
    })
}

/// The length of an action up to its right delimiter, which is not in a string. `None` if there is none.
fn length_of(content: &str, right: &str) -> Option<usize> {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, c) in content.char_indices() {
        match quote {
            None if content[at..].starts_with(right) => return Some(at),
            None if matches!(c, '"' | '`' | '\'') => quote = Some(c),
            Some(_) if is_escaped => is_escaped = false,
            Some('"' | '\'') if c == '\\' => is_escaped = true,
            Some(open) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<(usize, usize)> {
        check(text, ("{{", "}}")).iter().map(|problem| (problem.line, problem.column)).collect()
    }

    #[test]
    fn comments_become_empty_actions_of_the_same_length() {
        for (text, expected) in [
            ("a {{- /* é\n{{ x }} */}} b", "a {{- \"\"              }} b"),
            ("{{/**/ -}}", "{{\"\"   -}}"),
            ("{{ \"{{/* */}}\" }}{{ x }}", "{{ \"{{/* */}}\" }}{{ x }}"),
            ("{{/* open", "{{/* open"),
        ] {
            let changed = without_comments(text, ("{{", "}}"));
            assert_eq!((&*changed, changed.len()), (expected, text.len()));
        }
    }

    #[test]
    fn blocks_have_ends() {
        for good in [
            "",
            "{{ if .a }}x{{ else if .b }}y{{ else }}z{{ end }}",
            "{{- range .a -}}{{ if . }}{{ break }}{{ end }}{{- end -}}",
            "{{/* {{ if }} */}}{{- /* end */ -}}",
            "{{ define \"a\" }}{{ end }}{{ block \"b\" . }}{{ end }}{{ with .x }}{{ else with .y }}{{ end }}",
            "{{ print \"}} {{ if\" `}}{{ end` '\"' }}",
            "{{ .end }}{{ $if }}{{ endless }}",
        ] {
            assert_eq!(problems(good), [], "{good}");
        }
        for (bad, at) in [
            ("a\n{{ if .a }}", (2, 4)),
            ("{{ end }}", (1, 4)),
            ("{{ if .a }}{{ end }}\n\n{{- end }}", (3, 5)),
            ("{{ else }}", (1, 4)),
            ("{{ define \"a\" }}{{ else }}{{ end }}", (1, 20)),
            ("{{ if .a }}{{ break }}{{ end }}", (1, 15)),
        ] {
            assert_eq!(problems(bad), [at], "{bad}");
        }
    }
}
