//! The one type that holds secret bytes.

use zeroize::Zeroizing;

/// Bytes that must never be printed, logged or stored outside their destination.
///
/// It has no `Debug`, `Display` or `Serialize`, so that a log line or an error that tries to show it does not compile,
/// and it is zeroed when dropped.
///
/// ```compile_fail
/// let secret = keyferry::model::SecretBytes::from("Losungwort");
/// println!("{secret:?}");
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes ownership of `bytes`; they are zeroed on drop.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Looks inside. The loud name is the point: each call is a place where a secret could escape.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Looks inside as text, `None` if the bytes are not UTF-8.
    #[must_use]
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Number of bytes. Not for any message: a length is a hint.
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
