//! Text for messages.

/// The first `max_chars` characters of `text`, with `…` at the end if there were more.
#[must_use]
pub fn truncated(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_counts_characters_and_marks_the_cut() {
        assert_eq!(truncated(&"ü".repeat(100), 100), "ü".repeat(100));
        assert_eq!(truncated(&"ü".repeat(101), 100), format!("{}…", "ü".repeat(100)));
    }
}
