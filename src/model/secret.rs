//! The type for secret bytes.

use std::io;

use zeroize::Zeroizing;

/// Bytes that must never be printed, logged or stored outside their destination.
///
/// The type has no `Debug`, `Display` or `Serialize`, so code that logs or serializes it does not compile. The bytes are zeroed
/// on drop.
///
/// ```compile_fail
/// let secret = keyferry::model::SecretBytes::from("Losungwort");
/// println!("{secret:?}");
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes ownership of `bytes`, which are zeroed on drop.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Collects the output of `write` in one allocation of its exact size. A buffer that grows would free its previous
    /// allocation without zeroing it, so `write` runs twice: to count, then to fill.
    ///
    /// # Errors
    /// Errors of `write`. The buffer returns an [`io::Error`] if the second run writes more than the first.
    pub fn written<E>(write: impl Fn(&mut ExactBuffer) -> Result<(), E>) -> Result<Self, E> {
        let mut counter = ExactBuffer(Pass::Count(0));
        write(&mut counter)?;
        let mut buffer = ExactBuffer(Pass::Fill(Zeroizing::new(Vec::with_capacity(counter.counted()))));
        write(&mut buffer)?;
        Ok(match buffer.0 {
            Pass::Count(_) => Self::default(),
            Pass::Fill(bytes) => Self(bytes),
        })
    }

    /// The bytes. The name marks each call as a place where a secret could leak.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text; `None` if they are not UTF-8.
    #[must_use]
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Number of bytes. Must not appear in messages, because the length reveals something about the secret.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        self.expose()
    }
}

impl From<String> for SecretBytes {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl From<&str> for SecretBytes {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes().to_vec())
    }
}

/// A writer that never reallocates; see [`SecretBytes::written`].
pub struct ExactBuffer(Pass);

enum Pass {
    /// Counts the bytes.
    Count(usize),
    /// Collects the bytes, up to the counted capacity.
    Fill(Zeroizing<Vec<u8>>),
}

impl ExactBuffer {
    fn counted(&self) -> usize {
        match &self.0 {
            Pass::Count(count) => *count,
            Pass::Fill(bytes) => bytes.len(),
        }
    }
}

impl io::Write for ExactBuffer {
    fn write(&mut self, new: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Pass::Count(count) => *count += new.len(),
            Pass::Fill(bytes) if new.len() > bytes.capacity() - bytes.len() => {
                return Err(io::Error::new(io::ErrorKind::WriteZero, "the second pass wrote more than the first"));
            }
            Pass::Fill(bytes) => bytes.extend_from_slice(new),
        }
        Ok(new.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn written_allocates_exact_size_once() {
        let secret = SecretBytes::written(|buffer| {
            for part in ["Losung", "", "wort"] {
                buffer.write_all(part.as_bytes())?;
            }
            Ok::<_, io::Error>(())
        });
        let secret = secret.expect("both passes write the same");
        assert_eq!(secret.expose_str(), Some("Losungwort"));
        assert_eq!(secret.0.capacity(), "Losungwort".len());
    }

    #[test]
    fn written_fails_if_second_pass_writes_more() {
        let pass = Cell::new(0);
        let result = SecretBytes::written(|buffer| {
            pass.set(pass.get() + 1);
            buffer.write_all(&b"xx"[..pass.get()])
        });
        assert_eq!(result.err().map(|error| error.kind()), Some(io::ErrorKind::WriteZero));
    }
}
