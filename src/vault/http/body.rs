//! The body of a response, in a buffer that is wiped on drop and also wherever it has to grow.

use reqwest::Response;
use zeroize::Zeroizing;

/// Largest body. Vault itself stores at most 1 MiB in an entry (`max_entry_size` of Raft storage, 512 KiB with Consul) and a
/// Kubernetes Secret holds 1 MiB; four times that leaves room for JSON's escapes, and keeps the agent small.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// First size of the buffer for a body without a stated length.
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

/// Appends without `Vec`'s own growing, which frees the old buffer as it is.
fn append(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    if body.capacity() - body.len() < chunk.len() {
        let room = (body.len() + chunk.len()).max(body.capacity() * 2);
        let mut larger = Zeroizing::new(Vec::with_capacity(room));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(chunk);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_body_keeps_its_bytes() {
        let mut body = Zeroizing::new(Vec::with_capacity(2));
        for chunk in [&b"ab"[..], b"cdefg", b"", b"h"] {
            append(&mut body, chunk);
        }
        assert_eq!(&**body, b"abcdefgh");
    }
}
