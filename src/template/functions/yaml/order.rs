//! The order of the keys of a map: numbers in text by value, and letters after other characters.

use super::super::super::unicode::{is_digit, is_letter};

/// Sorts `items`. Unlike the functions of the standard library, it accepts that [`is_less`] is not transitive.
pub(super) fn sort<T>(items: Vec<(Vec<char>, T)>) -> Vec<(Vec<char>, T)> {
    if items.len() < 2 {
        return items;
    }
    let mut left = items;
    let right = left.split_off(left.len() / 2);
    let (mut left, mut right) = (sort(left).into_iter().peekable(), sort(right).into_iter().peekable());
    let mut sorted = Vec::with_capacity(left.len() + right.len());
    loop {
        let next = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => {
                if is_less(&b.0, &a.0) {
                    right.next()
                } else {
                    left.next()
                }
            }
            (Some(_), None) => left.next(),
            _ => right.next(),
        };
        match next {
            Some(next) => sorted.push(next),
            None => return sorted,
        }
    }
}

fn is_less(a: &[char], b: &[char]) -> bool {
    let Some(at) = a.iter().zip(b).position(|(a, b)| a != b) else { return a.len() < b.len() };
    let (first, second) = (a[at], b[at]);
    match (is_letter(first), is_letter(second)) {
        (true, true) => return first < second,
        (false, false) => {}
        (_, is_letter) => return is_letter,
    }
    let mut start = 0;
    if first == '0' || second == '0' {
        let before = a[..at].iter().rev().take_while(|c| is_digit(**c)).any(|c| *c != '0');
        start = i64::from(before);
    }
    let ((number, length), (other, other_length)) = (number(start, &a[at..]), number(start, &b[at..]));
    if number != other {
        number < other
    } else if length != other_length {
        length < other_length
    } else {
        first < second
    }
}

/// The number at the start of `text`, with the digits of `start` before it, and the length of the digits.
fn number(start: i64, text: &[char]) -> (i64, usize) {
    let digits = text.iter().take_while(|c| is_digit(**c));
    digits.fold((start, 0), |(number, length), c| {
        (number.wrapping_mul(10).wrapping_add(i64::from(u32::from(*c)) - i64::from(u32::from('0'))), length + 1)
    })
}
