//! TLS towards Vault: the files are read again when they changed; verification is never skipped.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::model::{Failure, FailureClass, Reason, SecretBytes, Tls};

/// The bytes of all TLS files, to see whether they changed.
#[derive(Clone, PartialEq, Default)]
pub(super) struct TlsFiles {
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, SecretBytes)>,
}

fn unreadable(what: impl std::fmt::Display) -> Failure {
    Failure::new(FailureClass::Local, Reason::CredentialUnreadable, what.to_string())
}

impl TlsFiles {
    pub(super) fn read(tls: &Tls) -> Result<Self, Failure> {
        let read = |path: &std::path::Path| {
            std::fs::read(path)
                .map_err(|error| unreadable(format!("failed to read TLS file {}: {error}", path.display())))
        };
        let ca = tls.ca_file.as_deref().map(read).transpose()?;
        let client = match &tls.client {
            Some((certificate, key)) => Some((read(certificate)?, SecretBytes::new(read(key)?))),
            None => None,
        };
        Ok(Self { ca, client })
    }

    /// The client configuration; `None` = the HTTP library's own default, which trusts the system's authorities.
    pub(super) fn config(&self, tls: &Tls) -> Result<Option<ClientConfig>, Failure> {
        let Some(ca) = &self.ca else {
            if self.client.is_some() || tls.server_name.is_some() {
                let message = "failed to set up TLS: a client certificate or a server name needs vault.tls.caFile too";
                return Err(Failure::new(FailureClass::Invalid, Reason::CredentialUnreadable, message));
            }
            return Ok(None);
        };
        let shown = tls.ca_file.as_deref().unwrap_or(std::path::Path::new("")).display();
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca, &shown)? {
            roots.add(certificate).map_err(|error| unreadable(format!("failed to trust CA file {shown}: {error}")))?;
        }
        let inner = WebPkiServerVerifier::builder(Arc::new(roots))
            .build()
            .map_err(|error| unreadable(format!("failed to trust CA file {shown}: {error}")))?;
        let name = tls.server_name.as_ref().map(|name| {
            ServerName::try_from(name.clone())
                .map_err(|error| unreadable(format!("failed to use server name {name}: {error}")))
        });
        let verifier = NamedVerifier { inner, name: name.transpose()? };
        // "dangerous" is rustls's word for any verifier that is not its own; ours only changes the name to check.
        let builder = ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.expose())
                    .map_err(|_| unreadable("failed to read the client key: no PEM private key in it"))?;
                builder
                    .with_client_auth_cert(certificates(chain, &"of the client certificate")?, key)
                    .map_err(|error| unreadable(format!("failed to use the client certificate: {error}")))?
            }
        };
        Ok(Some(config))
    }
}

fn certificates(pem: &[u8], shown: &dyn std::fmt::Display) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(unreadable(format!("failed to read PEM file {shown}: no certificate in it"))),
        Err(error) => Err(unreadable(format!("failed to read PEM file {shown}: {error}"))),
    }
}

/// Checks a configured name in place of the address's host, where there is one.
#[derive(Debug)]
struct NamedVerifier {
    inner: Arc<WebPkiServerVerifier>,
    name: Option<ServerName<'static>>,
}

impl ServerCertVerifier for NamedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = self.name.as_ref().unwrap_or(server_name);
        self.inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
