//! The style of a scalar: plain, in quotes, or a block of lines.

/// The styles in which the writer can show a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    Literal,
}

/// What a text consists of, as far as its style depends on it.
#[allow(clippy::struct_excessive_bools, reason = "each is one condition of the original")]
pub(super) struct Analysis {
    pub(super) is_multiline: bool,
    is_plain_allowed: bool,
    is_single_quoted_allowed: bool,
    is_literal_allowed: bool,
    is_empty: bool,
}

impl Analysis {
    /// Analyzes `text`.
    pub(super) fn of(text: &[char]) -> Self {
        let (Some(first), Some(last)) = (text.first(), text.last()) else {
            return Self {
                is_multiline: false,
                is_plain_allowed: true,
                is_single_quoted_allowed: true,
                is_literal_allowed: false,
                is_empty: true,
            };
        };
        let is_blank_at = |at: usize| text.get(at).is_none_or(|c| matches!(c, ' ' | '\t'));
        let pairs = || text.windows(2).map(|pair| (pair[0], pair[1]));
        let has_indicator = text.starts_with(&['-'; 3])
            || text.starts_with(&['.'; 3])
            || matches!(
                first,
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`'
            )
            || (matches!(first, '?' | '-') && is_blank_at(1))
            || text.iter().enumerate().any(|(at, c)| *c == ':' && is_blank_at(at + 1))
            || pairs().any(|(before, c)| c == '#' && (is_break(before) || matches!(before, ' ' | '\t' | '\0')));
        let is_special = text.iter().any(|c| !is_printable(*c));
        let break_then_space = pairs().any(|(before, c)| is_break(before) && c == ' ');
        let space_then_break = pairs().any(|(before, c)| before == ' ' && is_break(c));
        let is_multiline = text.iter().any(|c| is_break(*c));
        let has_outer_space = [first, last].into_iter().any(|c| *c == ' ' || is_break(*c));
        let is_broken = space_then_break || is_special;
        Self {
            is_multiline,
            is_plain_allowed: !(has_outer_space || break_then_space || is_broken || is_multiline || has_indicator),
            is_single_quoted_allowed: !(break_then_space || is_broken),
            is_literal_allowed: !(*last == ' ' || is_broken),
            is_empty: false,
        }
    }

    /// The style for a text for which `wanted` is best.
    pub(super) fn style(&self, wanted: Style, is_simple_key: bool) -> Style {
        let mut style = if is_simple_key && self.is_multiline { Style::DoubleQuoted } else { wanted };
        if style == Style::Plain && (!self.is_plain_allowed || (self.is_empty && is_simple_key)) {
            style = Style::SingleQuoted;
        }
        if style == Style::SingleQuoted && !self.is_single_quoted_allowed {
            style = Style::DoubleQuoted;
        }
        if style == Style::Literal && (!self.is_literal_allowed || is_simple_key) {
            style = Style::DoubleQuoted;
        }
        style
    }
}

/// Whether `c` ends a line.
pub(super) fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Whether `c` needs no escape in double quotes. A character of more than 16 bits needs one.
pub(super) fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}
