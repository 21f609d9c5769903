//! Sends an HTTP request to an application in the same pod.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use reqwest::{Certificate, Client, Url, redirect};

use super::file;
use crate::model::{Failure, FailureClass, HeaderSource, HttpTarget, Reason};

/// A request with the content of its files.
pub struct HttpNotifier {
    target: HttpTarget,
    url: Url,
    method: Method,
    headers: HeaderMap,
    ca: Option<Vec<Certificate>>,
}

/// Reads the files of a request. Blocks as long as the file system.
///
/// # Errors
/// `Local`/`NotifyFailed` if a file cannot be read, or its content cannot be used.
pub fn prepare(target: HttpTarget) -> Result<HttpNotifier, Failure> {
    let invalid = |what: &str| failed(&target, FailureClass::Invalid, what);
    let unreadable = |what: &str, path: &Path, why: &str| {
        failed(&target, FailureClass::Local, &format!("failed to read the {what} file {}: {why}", path.display()))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &target.headers {
        let found = match value {
            HeaderSource::Value(value) => HeaderValue::from_bytes(value.expose()),
            HeaderSource::File(path) => {
                let bytes = file::read(path).map_err(|why| unreadable("header", path, &why))?;
                HeaderValue::from_bytes(bytes.trim_ascii_end())
            }
        };
        let name = HeaderName::from_bytes(name.as_bytes()).ok().zip(found.ok());
        let (name, mut value) = name.ok_or_else(|| invalid("a header has characters that HTTP does not allow"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let ca = match &target.ca_file {
        None => None,
        Some(path) => {
            let bytes = file::read(path).map_err(|why| unreadable("CA", path, &why))?;
            let found = Certificate::from_pem_bundle(&bytes).ok().filter(|found| !found.is_empty());
            Some(found.ok_or_else(|| unreadable("CA", path, "it contains no PEM certificate"))?)
        }
    };
    let mut url = Url::parse(&target.url).map_err(|_| invalid("the URL is invalid"))?;
    if let Some(name) = &target.server_name {
        url.set_host(Some(name)).map_err(|_| invalid("the server name is invalid"))?;
        if url.domain().is_none() {
            // It would be used instead of the loopback address.
            return Err(invalid("the server name is an address"));
        }
    }
    let method = Method::from_bytes(target.method.as_bytes()).map_err(|_| invalid("the method is invalid"))?;
    Ok(HttpNotifier { target, url, method, headers, ca })
}

impl HttpNotifier {
    /// Sends the request once. The body of the response is not read.
    ///
    /// # Errors
    /// `Unreachable` if there is no response, otherwise by status code; the reason is `NotifyFailed`.
    pub async fn send(self) -> Result<(), Failure> {
        let Self { target, url, method, headers, ca } = self;
        let failed = |class, why: &str| failed(&target, class, why);
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .timeout(target.timeout)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("keyferry/", env!("CARGO_PKG_VERSION")))
            .tls_certs_only(ca.unwrap_or_default());
        if let Some(socket) = &target.unix_socket {
            builder = builder.unix_socket(socket.as_path());
        } else if let Some(host) = url.host_str() {
            // Never resolved with DNS, which could return an address outside the pod.
            let addresses: Vec<_> = target.addresses.iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
            builder = builder.resolve_to_addrs(host, &addresses);
        }
        let client = builder.build().map_err(|error| failed(FailureClass::Local, &Failure::chain(&error)))?;
        let mut request = client.request(method, url).headers(headers);
        if let Some(body) = &target.body {
            request = request.body(body.expose().to_vec());
        }
        let response = request.send().await.map_err(|error| {
            let error = error.without_url();
            let why = if error.is_timeout() {
                format!("no response within {}s", target.timeout.as_secs_f64())
            } else {
                Failure::chain(&error)
            };
            failed(FailureClass::Unreachable, &why)
        })?;
        let status = response.status();
        if target.expects(status.as_u16()) {
            return Ok(());
        }
        let class = match status.as_u16() {
            401 | 403 => FailureClass::Denied,
            404 => FailureClass::Missing,
            408 | 425 | 429 | 500..=599 => FailureClass::Transient,
            _ => FailureClass::Invalid,
        };
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Err(Failure {
            retry_after: seconds.map(Duration::from_secs),
            ..failed(class, &format!("the application responded with status {}", status.as_u16()))
        })
    }
}

fn failed(target: &HttpTarget, class: FailureClass, why: &str) -> Failure {
    let HttpTarget { method, unix_socket, .. } = target;
    // A query can contain a token.
    let url = target.url.split('?').next().unwrap_or_default();
    let socket = unix_socket.as_ref().map_or(String::new(), |path| format!(" at socket {}", path.display()));
    Failure::new(class, Reason::NotifyFailed, format!("failed to send {method} {url}{socket}: {why}"))
}

#[cfg(test)]
mod tests;
