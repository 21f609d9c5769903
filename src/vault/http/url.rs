//! Addresses and request URLs.

use reqwest::Url;

use super::error::HttpError;

/// Parses an origin such as `https://vault:8200`.
pub(super) fn parse(address: &str) -> Result<Url, HttpError> {
    Url::parse(address)
        .ok()
        .filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| HttpError::Address(address.to_owned()))
}

/// `scheme://host:port`, for messages and as a key.
pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// `origin` + `path` + `query`, percent-encoded.
pub(super) fn join(origin: &Url, path: &str, query: &[(String, String)]) -> Result<Url, HttpError> {
    // The URL library would resolve these segments, and the request would use another path than the configured one.
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(HttpError::Path(path.to_owned()));
    }
    let mut url = origin.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path.split('/'));
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_encodes_segments_and_rejects_dot_segments() {
        let base = parse("https://vault:8200").expect("an address");
        let url = |path, query: &[(&str, &str)]| {
            let query: Vec<_> = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            join(&base, path, &query).map(|url| url.to_string())
        };
        assert_eq!(
            url("v1/secret/data/a b/ü?#%", &[("version", "3"), ("a", "b&c=d")]).expect("a path"),
            "https://vault:8200/v1/secret/data/a%20b/%C3%BC%3F%23%25?version=3&a=b%26c%3Dd"
        );
        for bad in ["v1/secret/../sys/mounts", "./x", "a/.."] {
            assert!(url(bad, &[]).is_err(), "{bad}");
        }
    }
}
