//! Fenced blocks of Markdown pages.

/// The fenced blocks of a language, without their indent in a list, each with the text before it.
pub(crate) fn blocks<'a>(text: &'a str, language: &str) -> Vec<(&'a str, String)> {
    let mut found = Vec::new();
    let fence = format!("```{language}\n");
    for (start, _) in text.match_indices(&fence) {
        let before = &text[..start];
        let indent = before.len() - before.trim_end_matches(' ').len();
        let (block, _) = text[start + fence.len()..].split_once("```").expect("a block ends");
        let line = |line: &'a str| line.get(indent..).unwrap_or_default();
        found.push((before, block.lines().map(line).collect::<Vec<_>>().join("\n").trim_end().to_owned()));
    }
    found
}
