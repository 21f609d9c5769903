//! Output of the demo: numbered steps, observations, and a mark for each passed check.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Prints to stdout. Uses color only on a terminal and if `NO_COLOR` is not set (<https://no-color.org>).
pub(super) struct Screen {
    color: bool,
    started: Instant,
    step: Option<(String, Instant)>,
    past: Vec<(String, Duration)>,
}

#[derive(Clone, Copy)]
enum Paint {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Cyan = 36,
}

impl Screen {
    pub(super) fn new() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = std::io::stdout().is_terminal() && !no_color;
        Self { color, started: Instant::now(), step: None, past: Vec::new() }
    }

    fn paint(&self, paint: Paint, text: &str) -> String {
        if self.color { format!("\x1b[{}m{text}\x1b[0m", paint as u8) } else { text.to_owned() }
    }

    /// Starts the next step.
    pub(super) fn step(&mut self, title: &str) {
        self.end_step();
        let number = self.past.len() + 1;
        println!("\n{} {}", self.paint(Paint::Cyan, &format!("{number:>2}.")), self.paint(Paint::Bold, title));
        self.step = Some((title.to_owned(), Instant::now()));
    }

    fn end_step(&mut self) {
        if let Some((title, since)) = self.step.take() {
            self.past.push((title, since.elapsed()));
        }
    }

    /// Prints an explanation.
    pub(super) fn explain(&self, text: &str) {
        println!("    {}", self.paint(Paint::Dim, text));
    }

    /// Prints an observation, unchanged.
    #[allow(clippy::unused_self, reason = "same form as the other methods")]
    pub(super) fn show(&self, text: &str) {
        for line in text.lines() {
            println!("      {line}");
        }
    }

    /// Prints a passed check.
    pub(super) fn pass(&self, fact: &str) {
        println!("    {} {fact}", self.paint(Paint::Green, "✓"));
    }

    /// Prints a failed check and its cause.
    pub(super) fn fail(&self, why: &str) {
        println!("    {} {why}", self.paint(Paint::Red, "✗"));
    }

    /// Prints a table with aligned columns; the last column is not padded.
    pub(super) fn table(&self, heads: &[&str], rows: &[Vec<String>]) {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([heads[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let line = |cells: &[String]| {
            let mut text = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(text, "{cell:<width$}  ");
            }
            text.trim_end().to_owned()
        };
        let heads: Vec<String> = heads.iter().map(ToString::to_string).collect();
        println!("      {}", self.paint(Paint::Dim, &line(&heads)));
        for row in rows {
            println!("      {}", line(row));
        }
    }

    /// Prints the duration of each step and of the demo.
    pub(super) fn summary(&mut self) {
        self.end_step();
        println!("\n{}", self.paint(Paint::Bold, "All checks passed."));
        let rows: Vec<Vec<String>> =
            self.past.iter().map(|(title, took)| vec![seconds(*took), title.clone()]).collect();
        self.table(&["TIME", "STEP"], &rows);
        println!("      {} total\n", self.paint(Paint::Bold, &seconds(self.started.elapsed())));
    }
}

/// `0.42 s`
pub(super) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
