//! Decimal arithmetic of floating-point numbers, so that 0.1 + 0.2 is 0.3, as with the Go module
//! `github.com/shopspring/decimal`.

use gotmpl::Value;

/// Digits after the point of a quotient.
const QUOTIENT_DIGITS: i32 = 16;

/// `digits` × 10^`exponent`.
#[derive(Clone, Copy)]
struct Decimal {
    digits: i128,
    exponent: i32,
}

/// The first operand and all others, with the operator between them.
pub(super) fn calculate(mut operands: impl Iterator<Item = f64>, operator: char) -> Result<Value, String> {
    let mut result = Decimal::of(operands.next().unwrap_or_default())?;
    for operand in operands {
        let operand = Decimal::of(operand)?;
        let next = match operator {
            '+' => result.plus(operand, 1),
            '-' => result.plus(operand, -1),
            '*' => result.times(operand),
            _ if operand.digits == 0 => return Err("division by zero".to_owned()),
            _ => result.divided(operand),
        };
        result = next.ok_or_else(|| "the numbers have too many digits".to_owned())?;
    }
    let result = format!("{}e{}", result.digits, result.exponent);
    Ok(Value::Float(result.parse().unwrap_or_default()))
}

impl Decimal {
    /// The shortest decimal number that gives `number`.
    fn of(number: f64) -> Result<Self, String> {
        if !number.is_finite() {
            return Err("infinity and NaN are not allowed".to_owned());
        }
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}").parse().unwrap_or_default();
        let exponent = exponent.parse::<i32>().unwrap_or_default();
        Ok(Self { digits, exponent: exponent - i32::try_from(fraction.len()).unwrap_or_default() })
    }

    /// The digits for a smaller exponent.
    fn digits_at(self, exponent: i32) -> Option<i128> {
        if self.digits == 0 {
            return Some(0);
        }
        self.digits.checked_mul(10_i128.checked_pow(u32::try_from(self.exponent - exponent).ok()?)?)
    }

    fn plus(self, other: Self, sign: i128) -> Option<Self> {
        let exponent = match (self.digits, other.digits) {
            (0, _) => other.exponent,
            (_, 0) => self.exponent,
            _ => self.exponent.min(other.exponent),
        };
        let digits = self.digits_at(exponent)?.checked_add(other.digits_at(exponent)?.checked_mul(sign)?)?;
        Some(Self { digits, exponent })
    }

    fn times(self, other: Self) -> Option<Self> {
        Some(Self { digits: self.digits.checked_mul(other.digits)?, exponent: self.exponent + other.exponent })
    }

    /// Rounds half away from zero.
    fn divided(self, other: Self) -> Option<Self> {
        let shift = self.exponent - other.exponent + QUOTIENT_DIGITS;
        let power = 10_i128.checked_pow(shift.unsigned_abs())?;
        let (dividend, divisor) = if shift >= 0 {
            (self.digits.checked_mul(power)?, other.digits)
        } else {
            (self.digits, other.digits.checked_mul(power)?)
        };
        let (quotient, remainder) = (dividend / divisor, dividend % divisor);
        let rounds = remainder.unsigned_abs().checked_mul(2)? >= divisor.unsigned_abs();
        let away = if (dividend < 0) == (divisor < 0) { 1 } else { -1 };
        Some(Self { digits: quotient + if rounds { away } else { 0 }, exponent: -QUOTIENT_DIGITS })
    }
}
