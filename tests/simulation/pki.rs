//! The PKI engine of a simulated server, and sources with certificates.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyferry::model::{CertificateTimes, Failure, FailureClass, Reading, Reason, SecretValue, Validity, Version};

use super::config_file::{Layout, SourceSpec};
use super::secrets::{Kind, PathFaults, Shape};
use super::server::timestamp;
use super::world::World;

/// When to retry after a certificate that does not verify.
pub const UNUSABLE_CERTIFICATE_RETRY: Duration = Duration::from_secs(300);

/// Lifetime of a CA certificate.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The values of a certificate; each contains its ID. Without a private key, most outputs cannot be rendered.
pub fn values(id: &str, shape: Shape) -> BTreeMap<String, SecretValue> {
    let mut keys = vec!["certificate", "intermediates", "ca", "ca_chain", "issuing_ca"];
    if shape != Shape::NoPassword {
        keys.push("private_key");
    }
    let value = |key: &str| {
        let label = if key == "private_key" { "PRIVATE KEY" } else { "CERTIFICATE" };
        let pem = format!("-----BEGIN {label}-----\nid={id}|{key}\n-----END {label}-----\n");
        SecretValue::Text(pem.as_str().into())
    };
    keys.into_iter().map(|key| (key.to_owned(), value(key))).collect()
}

/// Issues a certificate.
pub fn issue(id: &str, shape: Shape, life: Duration, faults: &PathFaults, now: Duration) -> Reading {
    let ca = if faults.ca_ends > now { faults.ca_ends } else { now + CA_LIFE };
    // The default `not_before_duration` of a role is 30 s.
    let not_before = timestamp(now) - SignedDuration::from_secs(30);
    let times = CertificateTimes { not_before, not_after: timestamp(now + life), ca_not_after: timestamp(ca) };
    let (data, validity) = (values(id, shape), Validity::Certificate(times));
    Reading { data, version: Version::default(), validity, warnings: Vec::new(), ..Reading::default() }
}

/// The time from one point in time to another; zero if it is not later.
pub fn left(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or_default()
}

/// The failure of a certificate that does not verify.
pub fn unusable() -> Failure {
    let text = "failed to issue a certificate: the chain does not verify";
    let failure = Failure::new(FailureClass::Invalid, Reason::CertificateInvalid, text);
    Failure { retry_after: Some(UNUSABLE_CERTIFICATE_RETRY), ..failure }
}

impl World {
    /// A fault of the PKI engine. Returns whether the path is one of it.
    pub fn disturb_certificate(&mut self, name: &'static str, path: &str, until: Duration) -> bool {
        let expires = self.random.chance(50);
        let secret = self.servers.get_mut(name).and_then(|server| server.secrets.get_mut(path)).expect("a secret");
        if !matches!(secret.kind, Kind::Certificate(_)) {
            return false;
        }
        let faults = &mut secret.faults;
        let (what, end) = if expires {
            ("the CA expires", &mut faults.ca_ends)
        } else {
            ("certificates do not verify", &mut faults.unverifiable)
        };
        *end = until;
        self.note(|| format!("{name}:{path} {what} until {:.1}", until.as_secs_f64()));
        true
    }

    /// Verifies a certificate, like the adapter, with the clock of the node.
    pub fn verified(&self, answer: (Reading, Rc<str>)) -> Result<(Reading, Rc<str>), Failure> {
        match answer.0.validity {
            Validity::Certificate(times) if !(times.not_before..=times.ends()).contains(&self.wall()) => {
                Err(unusable())
            }
            _ => Ok(answer),
        }
    }
}

/// Writes a source with a certificate, its outputs, and the files to mirror.
pub fn source(name: &str, spec: &SourceSpec, sources: &mut String, outputs: &mut String, files: &mut Vec<String>) {
    let SourceSpec { path, refresh, max_stale, required, layout, may_mirror, alt_name, renew_before, .. } = spec;
    let endpoint = path.split('/').nth(1).unwrap_or_default();
    let _ =
        write!(sources, "  {name}: {{pki: {{{endpoint}: {path}, commonName: {name}.test, altNames: [v{alt_name}.test]");
    if *renew_before > 0 {
        let _ = write!(sources, ", renewBefore: {renew_before}s");
    }
    let _ = writeln!(sources, "}}, refresh: {refresh}s, maxStale: {max_stale}s, required: {required}}}");
    let mut output = |file: String, text: String| {
        let _ = writeln!(outputs, "  - {{source: {name}, {text}}}");
        if *may_mirror {
            files.push(file);
        }
    };
    if *layout == Layout::EachKey {
        output(format!("{name}/tls.crt"), format!("prefix: {name}"));
    }
    if matches!(layout, Layout::Previous | Layout::Renamed) {
        let keys = "[private_key, certificate, intermediates]";
        output(format!("{name}.pem"), format!("bundle: {keys}, file: {name}.pem"));
    }
    if matches!(layout, Layout::Password | Layout::Both) {
        output(format!("{name}.key"), format!("key: private_key, file: {name}.key"));
    }
    if matches!(layout, Layout::Whole | Layout::Both) {
        output(format!("{name}.json"), format!("format: json, file: {name}.json"));
    }
}
