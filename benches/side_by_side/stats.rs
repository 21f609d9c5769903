//! Statistics, units and tables.

use std::time::Duration;

/// Summary of samples. Without the mean, which one slow run on a shared machine would distort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub min: Duration,
    pub median: Duration,
    pub max: Duration,
}

impl Summary {
    /// `None` without samples.
    pub fn of(samples: &[Duration]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => return None,
            odd if odd % 2 == 1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2,
        };
        Some(Self { min: sorted[0], median, max: sorted[sorted.len() - 1] })
    }
}

/// Milliseconds with one decimal.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Megabytes (10^6 bytes) with one decimal.
pub fn megabytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "one digit is shown")]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.1} MB")
}

/// A Markdown table, for use in documents.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let width = |column: usize| {
        let cells = std::iter::once(&head).chain(rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    std::iter::once(&head).chain([&rule]).chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_ignores_sample_order() {
        let ms = |list: &[u64]| list.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
        let summary = Summary::of(&ms(&[9, 1, 5])).expect("three samples");
        assert_eq!([summary.min, summary.median, summary.max].to_vec(), ms(&[1, 5, 9]));
        assert_eq!(Summary::of(&ms(&[1, 2, 3, 100])).expect("four samples").median, Duration::from_micros(2500));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn table_renders_aligned_markdown() {
        let rows = [vec!["one".into(), "1.0 ms".into()], vec!["ü".into(), "2".into()]];
        let expected = "| who | time   |\n| --- | ------ |\n| one | 1.0 ms |\n| ü   | 2      |\n";
        assert_eq!(table(&["who", "time"], &rows), expected);
    }

    #[test]
    fn units_use_decimal_prefixes() {
        assert_eq!(milliseconds(Duration::from_micros(12_340)), "12.3 ms");
        assert_eq!(megabytes(9_960_000), "10.0 MB");
    }
}
