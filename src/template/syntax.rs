//! Parsing.

use std::collections::BTreeMap;

use gotmpl::TemplateError;
use gotmpl::parse::{ListNode, Parser};

use super::{Problem, blocks};

/// The parse trees of a template.
pub(super) struct Parsed {
    /// The text outside of definitions.
    pub(super) main: ListNode,
    /// The bodies of `define` and `block`, by name.
    pub(super) defined: BTreeMap<String, ListNode>,
}

/// Parses `text`.
pub(super) fn parse(text: &str, delimiters: (&str, &str)) -> Result<Parsed, Vec<Problem>> {
    if let Some(problem) = blocks::check_chains(text, delimiters) {
        return Err(vec![problem]);
    }
    let plain = blocks::without_comments(text, delimiters);
    let parser = Parser::new(&plain, delimiters.0, delimiters.1);
    let (main, definitions) = parser.and_then(Parser::parse).map_err(|error| vec![problem(text, &error)])?;
    let problems = blocks::check(text, delimiters);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut defined: BTreeMap<String, ListNode> = BTreeMap::new();
    for definition in definitions {
        let name = definition.name.to_string();
        match defined.get(&name) {
            Some(other) if !other.is_empty_tree() => {
                if !definition.body.is_empty_tree() {
                    let message = format!("a second definition of template {name:?}; rename one of them");
                    return Err(vec![Problem::at(text, definition.pos.offset, message)]);
                }
            }
            _ => _ = defined.insert(name, definition.body),
        }
    }
    Ok(Parsed { main, defined })
}

fn problem(text: &str, error: &TemplateError) -> Problem {
    match error {
        TemplateError::Lex { line, col, message, .. } | TemplateError::Parse { line, col, message, .. } => {
            let message = advice(text, *line, *col).unwrap_or_else(|| message.clone());
            Problem { line: (*line).max(1), column: (*col).max(1), message }
        }
        other => Problem { line: 1, column: 1, message: other.to_string() },
    }
}

/// The message for a field with a dash. Go reads a dash as the start of a number.
fn advice(text: &str, line: usize, column: usize) -> Option<String> {
    let line = text.lines().nth(line.checked_sub(1)?)?;
    let mut characters = line.chars();
    let before: String = characters.by_ref().take(column.checked_sub(1)?).collect();
    let rest: String = characters.collect();
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let rest = rest.strip_prefix('-')?;
    let (chain, field) = before.rsplit_once('.')?;
    let starts_field = !field.is_empty() && field.chars().all(is_of_name) && rest.starts_with(is_of_name);
    if !starts_field {
        return None;
    }
    let chain = chain.rsplit(|c: char| !is_of_name(c) && c != '.' && c != '$').next().unwrap_or_default();
    let end = rest.find(|c: char| !is_of_name(c) && c != '-').unwrap_or(rest.len());
    let of = if chain.is_empty() { "." } else { chain };
    let key = format!("{field}-{}", &rest[..end]);
    Some(format!("field .{key} contains a dash, which Go does not allow; write: index {of} {key:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        match parse(text, ("{{", "}}")) {
            Ok(_) => "fine".to_owned(),
            Err(problems) => problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "),
        }
    }

    #[test]
    fn dash_in_field_has_advice() {
        assert_eq!(
            message("{{ with secret \"a/b\" }}\n{{ .Data.data.a-b }}{{ end }}"),
            "line 2, column 16: field .a-b contains a dash, which Go does not allow; write: index .Data.data \"a-b\""
        );
        assert!(message("{{ .a-b }}").ends_with("write: index . \"a-b\""));
        assert!(message("{{ $x.a-b-c }}").ends_with("write: index $x \"a-b-c\""));
        assert!(message("{{ - }}").contains("line 1"));
    }

    #[test]
    fn definitions_are_unique_unless_empty() {
        assert_eq!(message("{{ define \"a\" }}x{{ end }}{{ define \"a\" }} {{ end }}"), "fine");
        assert!(message("{{ define \"a\" }}x{{ end }}{{ define \"a\" }}y{{ end }}").contains("second definition"));
    }
}
