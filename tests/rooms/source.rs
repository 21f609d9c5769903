//! Reads Rust source well enough to know which paths it names: no comments, no strings, no test code.
//!
//! Not a parser. It errs on the side of finding too much; what it cannot see (paths made by macros of other crates)
//! the linter sees (`clippy.toml`).

use std::collections::BTreeMap;

/// A path as the code names it, imports and aliases followed: `crate::…` for ours, `std::…`, `tokio::…` for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPath {
    pub(crate) segments: Vec<String>,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// What one file names.
pub(crate) struct Source {
    pub(crate) paths: Vec<NamedPath>,
    /// Modules of this file that exist in tests only and live in a file of their own.
    pub(crate) test_modules: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// Reads `text`, the source of the module `module` (`["agent", "session"]`; empty for the crate's root).
pub(crate) fn read(text: &str, module: &[String]) -> Source {
    let (tokens, test_modules) = without_tests(&tokens(&quiet(text)));
    Source { paths: Scan::new(&tokens, module).run(), test_modules }
}

/// The source with comments, strings and character literals blanked; lines stay where they are.
fn quiet(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            'r' if raw_hashes(&chars, i).is_some() => {
                let hashes = raw_hashes(&chars, i).unwrap_or(0);
                i += 2 + hashes;
                while i < chars.len() && !(at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#')) {
                    i += 1;
                }
                i += 1 + hashes;
            }
            '"' => i = after_quote(&chars, i, '"'),
            // 'x' and '\n' are characters; 'a without a closing quote is a lifetime.
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => i = after_quote(&chars, i, '\''),
            other => {
                out.push(other);
                i += 1;
                continue;
            }
        }
        let blank = chars[start..i.min(chars.len())].iter().map(|c| if *c == '\n' { '\n' } else { ' ' });
        out.extend(blank);
    }
    out
}

/// The number of `#` if a raw string starts at `i` (which holds an `r`).
fn raw_hashes(chars: &[char], i: usize) -> Option<usize> {
    let before = i.checked_sub(1).map_or(' ', |b| chars[b]);
    if is_word(before) && !matches!(before, 'b' | 'c') {
        return None;
    }
    let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(i + 1 + hashes) == Some(&'"')).then_some(hashes)
}

fn after_quote(chars: &[char], start: usize, quote: char) -> usize {
    let mut i = start + 1;
    while i < chars.len() && chars[i] != quote {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn tokens(text: &str) -> Vec<Token> {
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            all.push(Token { text: rest[..length].to_owned(), line: number + 1 });
            rest = rest[length..].trim_start();
        }
    }
    all
}

/// Drops every item under `#[cfg(test)]`; names those that are modules in files of their own.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let is_mark = |i: usize| MARK.iter().enumerate().all(|(n, m)| tokens.get(i + n).is_some_and(|t| t.text == *m));
    let (mut kept, mut modules, mut i) = (Vec::new(), Vec::new(), 0);
    while i < tokens.len() {
        if !is_mark(i) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        i += MARK.len();
        let (start, mut depth) = (i, 0_usize);
        while let Some(token) = tokens.get(i) {
            i += 1;
            match token.text.as_str() {
                "{" | "(" | "[" => depth += 1,
                ")" | "]" => depth = depth.saturating_sub(1),
                "}" if depth <= 1 => break,
                "}" => depth -= 1,
                ";" if depth == 0 => break,
                _ => {}
            }
        }
        let item = &tokens[start..i];
        let name = item.windows(3).find(|w| w[0].text == "mod" && w[2].text == ";").map(|w| w[1].text.clone());
        modules.extend(name);
    }
    (kept, modules)
}

/// One walk over the tokens of a file.
struct Scan<'a> {
    tokens: &'a [Token],
    module: Vec<String>,
    /// Depth of braces at which each inline module began.
    inline: Vec<usize>,
    aliases: BTreeMap<String, Vec<String>>,
    found: Vec<NamedPath>,
}

impl<'a> Scan<'a> {
    fn new(tokens: &'a [Token], module: &[String]) -> Self {
        Self { tokens, module: module.to_vec(), inline: Vec::new(), aliases: BTreeMap::new(), found: Vec::new() }
    }

    fn text(&self, i: usize) -> &'a str {
        self.tokens.get(i).map_or("", |token| token.text.as_str())
    }

    fn is_word(&self, i: usize) -> bool {
        self.text(i).starts_with(is_word)
    }

    fn run(mut self) -> Vec<NamedPath> {
        let (mut i, mut depth) = (0, 0_usize);
        while i < self.tokens.len() {
            match self.text(i) {
                "use" => i = self.tree(i + 1, &[]),
                "mod" if self.text(i + 2) == "{" => {
                    self.module.push(self.text(i + 1).to_owned());
                    self.inline.push(depth);
                    (i, depth) = (i + 3, depth + 1);
                }
                "{" => (i, depth) = (i + 1, depth + 1),
                "}" => {
                    depth = depth.saturating_sub(1);
                    if self.inline.last() == Some(&depth) {
                        self.inline.pop();
                        self.module.pop();
                    }
                    i += 1;
                }
                _ if self.is_word(i) && (i == 0 || self.text(i - 1) != ".") => i = self.expression(i),
                _ => i += 1,
            }
        }
        self.found
    }

    /// `a::b::c` in code; a single word is no path.
    fn expression(&mut self, start: usize) -> usize {
        let mut segments = vec![self.text(start).to_owned()];
        let mut i = start + 1;
        while self.text(i) == "::" && self.is_word(i + 1) {
            segments.push(self.text(i + 1).to_owned());
            i += 2;
        }
        // `Vec::<T>::new` and `<T as Trait>::new`: the tail belongs to a type that was seen before.
        let is_tail = start >= 2 && self.text(start - 1) == "::" && self.text(start - 2) == ">";
        if segments.len() > 1 && !is_tail {
            let segments = self.resolve(&segments);
            self.found.push(NamedPath { segments, line: self.tokens[start].line });
        }
        i
    }

    /// One branch of a `use`; gives the position behind it.
    fn tree(&mut self, start: usize, prefix: &[String]) -> usize {
        let mut segments = prefix.to_vec();
        let mut i = start;
        loop {
            match self.text(i) {
                "::" => i += 1,
                "{" => {
                    i += 1;
                    while i < self.tokens.len() && self.text(i) != "}" {
                        i = if self.text(i) == "," { i + 1 } else { self.tree(i, &segments) };
                    }
                    return i + 1;
                }
                "as" => {
                    self.import(&segments, self.text(i + 1), start);
                    return i + 2;
                }
                "*" => {
                    segments.push("*".to_owned());
                    i += 1;
                }
                _ if self.is_word(i) => {
                    segments.push(self.text(i).to_owned());
                    i += 1;
                }
                _ => {
                    let name = segments.iter().rfind(|s| *s != "self").cloned().unwrap_or_default();
                    self.import(&segments, &name, start);
                    return i.max(start + 1);
                }
            }
        }
    }

    fn import(&mut self, segments: &[String], name: &str, at: usize) {
        let line = self.tokens.get(at).map_or(0, |token| token.line);
        let segments = self.resolve(segments);
        if !matches!(name, "*" | "_" | "") {
            self.aliases.insert(name.to_owned(), segments.clone());
        }
        self.found.push(NamedPath { segments, line });
    }

    /// Follows `crate`, `self`, `super` and what earlier imports named.
    fn resolve(&self, segments: &[String]) -> Vec<String> {
        let ours = |module: &[String]| [&["crate".to_owned()], module].concat();
        let Some((first, mut rest)) = segments.split_first() else { return Vec::new() };
        let mut base = match first.as_str() {
            "crate" | "keyferry" => ours(&[]),
            "self" => ours(&self.module),
            "super" => {
                let mut module = self.module.clone();
                module.pop();
                while let Some(("super", more)) = rest.split_first().map(|(s, more)| (s.as_str(), more)) {
                    module.pop();
                    rest = more;
                }
                ours(&module)
            }
            name => self.aliases.get(name).cloned().unwrap_or_else(|| vec![name.to_owned()]),
        };
        base.extend(rest.iter().filter(|s| *s != "self").cloned());
        base
    }
}
