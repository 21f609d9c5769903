//! A complete response with any status.

use std::time::Duration;

use http::header::{DATE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use zeroize::Zeroizing;

/// Limit for `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(365 * 24);

/// A complete response. The body is zeroed on drop.
pub(in crate::vault) struct Response {
    pub(in crate::vault) status: StatusCode,
    /// `Retry-After`, counted from the response.
    pub(in crate::vault) retry_after: Option<Duration>,
    /// `Date`: the time on the server's clock.
    pub(in crate::vault) date: Option<Timestamp>,
    pub(in crate::vault) body: Zeroizing<Vec<u8>>,
    pub(super) location: Option<String>,
}

impl Response {
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, body: Zeroizing<Vec<u8>>) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let date = text(DATE).and_then(parse_date);
        Self {
            status,
            retry_after: text(RETRY_AFTER).and_then(|text| retry_after(text, date)),
            date,
            body,
            location: text(LOCATION).map(str::to_owned),
        }
    }

    /// Whether a TLS port received this plain-text request. The texts are those of Go's server and of nginx.
    pub(super) fn is_from_tls_port(&self) -> bool {
        let says = |words: &str| self.body.windows(words.len()).any(|window| window == words.as_bytes());
        self.status == StatusCode::BAD_REQUEST
            && (says("Client sent an HTTP request to an HTTPS server")
                || says("The plain HTTP request was sent to HTTPS port"))
    }

    #[cfg(test)]
    pub(in crate::vault) fn for_test(status: u16, body: &str) -> Self {
        let status = StatusCode::from_u16(status).expect("a status");
        Self::new(status, &HeaderMap::new(), Zeroizing::new(body.as_bytes().to_vec()))
    }
}

fn parse_date(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text).ok()
}

/// `Retry-After` in seconds or as an HTTP date (RFC 9110 §10.2.3). A date is compared with the `Date` of the response, so the
/// local clock does not matter.
fn retry_after(text: &str, date: Option<Timestamp>) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    // A date in the past means no delay.
    let wait = Duration::try_from(parse_date(text)?.duration_since(date?)).unwrap_or_default();
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_parses_seconds_and_dates_up_to_a_year() {
        let date = parse_date("Sun, 06 Nov 1994 08:49:37 GMT");
        let wait = |text| retry_after(text, date);
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_mins(1)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("18446744073709551615"), Some(MAX_RETRY_AFTER));
        assert_eq!(wait("soon"), None);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", None), None);
    }
}
