//! The end of an SSH certificate. Vault's responses do not contain it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;

/// `valid before` of a certificate in the format of `id_ed25519-cert.pub`. `None` for a certificate without an end, and for
/// any other text (<https://cvsweb.openbsd.org/src/usr.bin/ssh/PROTOCOL.certkeys?annotate=HEAD>).
pub(super) fn valid_before(line: &str) -> Option<Timestamp> {
    let mut words = line.split_whitespace();
    let (kind, encoded) = (words.next()?, words.next()?);
    let key_fields = match kind.strip_suffix("-cert-v01@openssh.com")? {
        "ssh-ed25519" => 1,
        "ssh-rsa" | "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" | "sk-ssh-ed25519" => 2,
        "sk-ecdsa-sha2-nistp256" => 3,
        _ => return None,
    };
    let decoded = BASE64_STANDARD.decode(encoded).ok()?;
    let mut fields = Fields(&decoded);
    if fields.text()? != kind.as_bytes() {
        return None;
    }
    // The nonce and the public key.
    for _ in 0..=key_fields {
        fields.text()?;
    }
    let _serial = fields.number()?;
    let _type = fields.take::<4>()?;
    let _key_id = fields.text()?;
    let _principals = fields.text()?;
    let _valid_after = fields.number()?;
    // The largest number means "forever" and is beyond the range of times.
    Timestamp::from_second(i64::try_from(fields.number()?).ok()?).ok()
}

/// Fields in the encoding of RFC 4251, section 5.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_be_bytes(self.take()?);
        let (text, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Made by `ssh-keygen -s ca -I app -n deploy -z 7 -V 20260101000000:20260101010000`.
    const REAL: &str = "ssh-ed25519-cert-v01@openssh.com \
        AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIGe65nTZ/DCve77u37ABcn5rQGzEAhvsB5edRI6Q8RlUAAAA\
        IEfs6NowBvrMCFbpIbNgroHsXVGQJSDi0iUMIuUFIpTFAAAAAAAAAAcAAAABAAAAA2FwcAAAAAoAAAAGZGVwbG95AAAAAGlVuQAA\
        AAAAaVXHEAAAAAAAAACCAAAAFXBlcm1pdC1YMTEtZm9yd2FyZGluZwAAAAAAAAAXcGVybWl0LWFnZW50LWZvcndhcmRpbmcAAAAA\
        AAAAFnBlcm1pdC1wb3J0LWZvcndhcmRpbmcAAAAAAAAACnBlcm1pdC1wdHkAAAAAAAAADnBlcm1pdC11c2VyLXJjAAAAAAAAAAAA\
        AAAzAAAAC3NzaC1lZDI1NTE5AAAAINcjqn6rKZaSYLSlXZM8mtG/aJzJxK+yz4DV/cpr1srmAAAAUwAAAAtzc2gtZWQyNTUxOQAA\
        AED2iwudw4PouixFHLNAhHI6obh7UvTu7zpq8eBVN74mBycFkDXPLWVUDascfOyCv6Ip1i7m7tGtKbnQ9DL28mkL app\n";

    /// A certificate with this number of key fields, without its last fields.
    fn certificate(kind: &str, key_fields: usize, valid_before: u64) -> String {
        fn text(out: &mut Vec<u8>, text: &[u8]) {
            out.extend(u32::try_from(text.len()).expect("short").to_be_bytes());
            out.extend(text);
        }
        let kind = format!("{kind}-cert-v01@openssh.com");
        let mut out = Vec::new();
        text(&mut out, kind.as_bytes());
        text(&mut out, b"nonce");
        (0..key_fields).for_each(|_| text(&mut out, b"part of the key"));
        out.extend(7_u64.to_be_bytes());
        out.extend(1_u32.to_be_bytes());
        text(&mut out, b"app");
        text(&mut out, b"deploy");
        out.extend(0_u64.to_be_bytes());
        out.extend(valid_before.to_be_bytes());
        format!("{kind} {}", BASE64_STANDARD.encode(out))
    }

    #[test]
    fn end_is_found_behind_every_kind_of_key() {
        let end: Option<Timestamp> = "2026-01-01T01:00:00Z".parse().ok();
        assert_eq!(valid_before(REAL), end);
        for (kind, key_fields) in [
            ("ssh-ed25519", 1),
            ("ssh-rsa", 2),
            ("ecdsa-sha2-nistp256", 2),
            ("ecdsa-sha2-nistp384", 2),
            ("ecdsa-sha2-nistp521", 2),
            ("sk-ssh-ed25519", 2),
            ("sk-ecdsa-sha2-nistp256", 3),
        ] {
            assert_eq!(valid_before(&certificate(kind, key_fields, 1_767_229_200)), end, "{kind}");
        }
    }

    #[test]
    fn other_text_has_no_end() {
        let forever = certificate("ssh-ed25519", 1, u64::MAX);
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFpcu0bWmTbu7tLk7ctcpZlQyFDyCIENykf45yKTVXq5 app";
        let other_kind = REAL.replacen("ssh-ed25519", "ssh-rsa", 1);
        for text in ["", "x", key, "ssh-ed25519-cert-v01@openssh.com AAAA", &other_kind, &REAL[..200], &forever] {
            assert_eq!(valid_before(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_accepted(text: String, bytes: Vec<u8>) {
            valid_before(&text);
            valid_before(&format!("ssh-ed25519-cert-v01@openssh.com {}", BASE64_STANDARD.encode(bytes)));
        }
    }
}
