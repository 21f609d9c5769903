//! Reading of a response body into a buffer that is zeroed on drop and on reallocation.

use reqwest::Response;
use zeroize::Zeroizing;

/// Maximum size of a body. Vault stores at most 1 MiB in an entry (`max_entry_size` of Raft storage; 512 KiB with Consul), and
/// a Kubernetes Secret is limited to 1 MiB. Four times that allows for JSON escapes and bounds the memory of the agent.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Initial buffer size for a body without `Content-Length`.
const FIRST_BUFFER: usize = 16 * 1024;

/// Reads the whole body; `None` if it is larger than [`MAX_BYTES`].
pub(super) async fn read(response: &mut Response) -> Result<Option<Zeroizing<Vec<u8>>>, reqwest::Error> {
    let length = response.content_length().and_then(|length| usize::try_from(length).ok());
    let mut body = Zeroizing::new(Vec::with_capacity(length.unwrap_or(FIRST_BUFFER).min(MAX_BYTES)));
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Ok(None);
        }
        append(&mut body, &chunk);
    }
    Ok(Some(body))
}

/// Appends without `Vec`'s own reallocation, which frees the previous buffer without zeroing it.
fn append(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    if body.capacity() - body.len() < chunk.len() {
        let capacity = (body.len() + chunk.len()).max(body.capacity() * 2);
        let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(chunk);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn append_keeps_bytes_across_reallocation() {
        let mut body = Zeroizing::new(Vec::with_capacity(2));
        for chunk in [&b"ab"[..], b"cdefg", b"", b"h"] {
            append(&mut body, chunk);
        }
        assert_eq!(&**body, b"abcdefgh");
    }
}
