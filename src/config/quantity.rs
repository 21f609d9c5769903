//! Durations, sizes, and file modes as users write them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use crate::model::Mode;

/// Text or an integer, as parsed from YAML.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    Number(i64),
    Text(String),
}

impl From<&Scalar> for Value {
    fn from(scalar: &Scalar) -> Self {
        match scalar {
            Scalar::Number(number) => (*number).into(),
            Scalar::Text(text) => text.as_str().into(),
        }
    }
}

/// A duration as in Vault: `30s`, `1h30m`, or a number of seconds.
#[derive(Clone, Deserialize)]
pub(super) struct RawDuration(pub(super) Scalar);

/// A size: bytes, or a Kubernetes quantity such as `1Mi`.
#[derive(Clone, Deserialize)]
pub(super) struct RawSize(pub(super) Scalar);

/// Expected format of a duration, for messages.
pub(super) const DURATION_FORM: &str = "must be a duration like \"30s\", \"5m\", or \"1h30m\", or a number of seconds";

/// Expected format of a size, for messages.
pub(super) const SIZE_FORM: &str = "must be a number of bytes, or a size like \"512Ki\" or \"1Mi\"";

/// Units of a duration in milliseconds, the largest first. Vault has `d` too.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of a size in bytes (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>).
const SIZES: [(&str, u64); 6] =
    [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1000), ("M", 1_000_000), ("G", 1_000_000_000)];

/// Parses a duration.
pub(super) fn duration(scalar: &Scalar) -> Option<Duration> {
    match scalar {
        Scalar::Number(seconds) => u64::try_from(*seconds).ok().and_then(seconds_below_limit),
        Scalar::Text(text) => match text.parse() {
            Ok(seconds) => seconds_below_limit(seconds),
            Err(_) => duration_text(text),
        },
    }
}

/// Limits a duration to 1000 years, so that arithmetic on deadlines does not overflow.
fn seconds_below_limit(seconds: u64) -> Option<Duration> {
    (seconds <= 1000 * 365 * 86_400).then(|| Duration::from_secs(seconds))
}

fn duration_text(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, next) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        millis = millis.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = next;
    }
    seconds_below_limit(millis.div_ceil(1000))?;
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

/// Formats a duration so that [`duration`] parses it back.
pub(super) fn duration_as_text(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in UNITS.iter().skip(1) {
        if left >= *factor {
            let _ = write!(text, "{}{unit}", left / factor);
            left %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Parses a size; the result is in bytes.
pub(super) fn size(scalar: &Scalar) -> Option<u64> {
    match scalar {
        Scalar::Number(bytes) => u64::try_from(*bytes).ok(),
        Scalar::Text(text) => {
            let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
            let factor = match unit {
                "" => 1,
                _ => SIZES.iter().find(|(name, _)| *name == unit)?.1,
            };
            number.parse::<u64>().ok()?.checked_mul(factor)
        }
    }
}

/// Parses permission bits, always as octal. The error is the expected format.
pub(super) fn mode(text: &str) -> Result<Mode, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8)
        .map_err(|_| "must be octal, like \"0440\"".to_owned())
        .and_then(|bits| Mode::new(bits).map_err(|error| error.to_string()))
}

impl JsonSchema for RawDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer"], "pattern": "^([0-9]+|([0-9]+(d|h|m|s|ms))+)$", "minimum": 0})
    }
}

impl JsonSchema for RawSize {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer"], "pattern": "^[0-9]+(Ki|Mi|Gi|k|M|G)?$", "minimum": 0})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Scalar {
        Scalar::Text(text.into())
    }

    #[test]
    fn durations_are_parsed_like_in_vault() {
        for (written, seconds) in
            [("30s", 30), ("5m", 300), ("1h30m", 5400), ("744h", 2_678_400), ("2d", 172_800), ("90", 90), ("0", 0)]
        {
            assert_eq!(duration(&text(written)), Some(Duration::from_secs(seconds)), "{written}");
        }
        assert_eq!(duration(&text("500ms")), Some(Duration::from_millis(500)));
        assert_eq!(duration(&Scalar::Number(60)), Some(Duration::from_mins(1)));
        for wrong in ["", "s", "5 m", "1.5h", "-5s", "5x", "1h30", "99999999999999999999s", "9999999d"] {
            assert_eq!(duration(&text(wrong)), None, "{wrong}");
        }
        assert_eq!(duration(&Scalar::Number(-1)), None);
    }

    #[test]
    fn formatted_duration_is_parsed_back() {
        for millis in [0, 1, 500, 1000, 60_000, 300_000, 5_400_000, 90_061_001] {
            let duration = Duration::from_millis(millis);
            assert_eq!(super::duration(&text(&duration_as_text(duration))), Some(duration));
        }
        assert_eq!(duration_as_text(Duration::from_mins(90)), "1h30m");
    }

    #[test]
    fn sizes_are_bytes_or_kubernetes_quantities() {
        assert_eq!(size(&text("1Mi")), Some(1_048_576));
        assert_eq!(size(&text("512")), Some(512));
        assert_eq!(size(&Scalar::Number(7)), Some(7));
        for wrong in ["", "Mi", "1mi", "-1", "1.5Mi", "99999999999999999999"] {
            assert_eq!(size(&text(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn modes_are_parsed_as_octal() {
        for written in ["0440", "440", "0o440"] {
            assert_eq!(mode(written).map(Mode::bits), Ok(0o440), "{written}");
        }
        for wrong in ["", "rw-r--r--", "0888", "1777", "0040"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }
}
