//! A TLS server that reads its files from the output directory serves without a gap while its certificate is replaced.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, Stream};
use serde_json::json;

use super::certificates::Pki;
use crate::setup::Setup;

const ROTATIONS: usize = 20;

/// Lifetime of a certificate. It is replaced about every 3 seconds.
const TTL: &str = "5s";

/// What the threads have found.
#[derive(Default)]
struct Findings {
    stop: AtomicBool,
    failures: Mutex<Vec<String>>,
    /// Serials of the certificates that clients have seen, as DER of the whole certificate.
    seen: Mutex<BTreeSet<Vec<u8>>>,
    handshakes: AtomicUsize,
}

impl Findings {
    fn running(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    fn fail(&self, what: String) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn rotations(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len().saturating_sub(1)
    }
}

/// The files of one set. `set` is the resolved `..data`, so that all files are of one set.
fn load(set: &Path) -> Result<Arc<ServerConfig>> {
    let read = |file: &str| std::fs::read(set.join(file)).with_context(|| file.to_owned());
    let chain = CertificateDer::pem_slice_iter(&read("tls.crt")?).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&read("tls.key")?)?;
    // Fails if the key does not belong to the certificate.
    Ok(Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?))
}

/// Serves with the files of the visible set, and loads them again when `..data` changes, as an application would.
fn serve(directory: PathBuf, listener: TcpListener, findings: Arc<Findings>) -> JoinHandle<()> {
    let current = Arc::new(Mutex::new((PathBuf::new(), None)));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if !findings.running() {
                return;
            }
            let Ok(mut stream) = stream else { continue };
            let config = {
                let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
                let set = std::fs::canonicalize(directory.join("..data")).unwrap_or_default();
                if current.0 != set {
                    match load(&set) {
                        Ok(config) => *current = (set, Some(config)),
                        // The set was replaced in this moment; the previous files are loaded.
                        Err(_) if !set.exists() => {}
                        Err(error) => findings.fail(format!("server: {error:#}")),
                    }
                }
                current.1.clone()
            };
            let Some(config) = config else { continue };
            std::thread::spawn(move || {
                let Ok(mut connection) = ServerConnection::new(config) else { return };
                let mut tls = Stream::new(&mut connection, &mut stream);
                let _ = tls.write_all(b"ok").and_then(|()| tls.flush());
                connection.send_close_notify();
                let _ = connection.complete_io(&mut stream);
            });
        }
    })
}

/// One connection. Returns the certificate of the server.
fn connect(address: SocketAddr, trusted: &Arc<ClientConfig>) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut connection = ClientConnection::new(Arc::clone(trusted), ServerName::try_from("web.example.com")?)?;
    let mut tls = Stream::new(&mut connection, &mut stream);
    let mut answer = [0; 2];
    tls.read_exact(&mut answer)?;
    let certificates = connection.peer_certificates().context("a certificate")?;
    Ok(certificates[0].to_vec())
}

fn client(address: SocketAddr, trusted: Arc<ClientConfig>, findings: Arc<Findings>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        while findings.running() {
            match connect(address, &trusted) {
                Ok(certificate) => {
                    findings.handshakes.fetch_add(1, Ordering::SeqCst);
                    findings.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(certificate);
                }
                // The server closes connections when the test ends.
                Err(error) if findings.running() => findings.fail(format!("client: {error:#}")),
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    })
}

#[tokio::test]
async fn tls_server_serves_through_twenty_rotations() -> Result<()> {
    Setup::shared("rotation", async |setup| {
        let pki = Pki::new(setup, "200h", json!({})).await?;
        let document =
            format!("sources:\n  web: {}\n", pki.source("sign", &format!("altNames: [web.example.com], ttl: {TTL}")));
        let mut agent = setup.agent_with(&["run"], &document)?;
        let ca = agent
            .wait_for("the first certificate", Duration::from_secs(30), || {
                let ca = setup.case.read("ca.crt");
                async move { ca }
            })
            .await?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca.as_bytes()).filter_map(Result::ok));
        let trusted = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());

        let findings = Arc::new(Findings::default());
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let mut threads = vec![serve(setup.case.directory.clone(), listener, Arc::clone(&findings))];
        threads.extend((0..3).map(|_| client(address, Arc::clone(&trusted), Arc::clone(&findings))));
        let rotated = agent
            .wait_for("twenty rotations", Duration::from_secs(180), || {
                let done = findings.rotations() >= ROTATIONS || !findings.failures().is_empty();
                async move { done.then_some(()) }
            })
            .await;
        findings.stop.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(address);
        for thread in threads {
            assert!(thread.join().is_ok(), "a thread has panicked");
        }
        rotated?;
        assert_eq!(findings.failures(), Vec::<String>::new(), "{}", agent.report());
        let handshakes = findings.handshakes.load(Ordering::SeqCst);
        assert!(handshakes > ROTATIONS * 10, "{handshakes} handshakes");
        agent.terminate(Duration::from_secs(20)).await?;
        let published = agent.log().iter().filter(|line| line.contains("published generation")).count();
        let issued = pki.issued(setup).await?;
        assert!(issued == published || issued == published + 1, "{issued} certificates, {published} generations");
        let key = setup.case.read("tls.key").context("a key")?;
        setup.case.leaks.plant_data(&json!({"key": key}));
        Ok(())
    })
    .await
}
