//! `notify`, as the user writes it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::defaults;
use super::quantity::{RawDuration, duration_as_text};

/// One notification of the application.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("anyOf" = [
    {"required": ["signal"]}, {"required": ["http"]}, {"required": ["file"]}, {"required": ["restart"]}
]))]
pub(super) struct RawNotification {
    /// Send a signal to a process of the pod. Requires `shareProcessNamespace: true` in the pod, and the same UID in both containers.
    pub(super) signal: Option<RawSignal>,
    /// Send an HTTP request within the pod.
    pub(super) http: Option<RawHttp>,
    /// Write the generation, a number that grows with each published change, to this file. It must be outside the output directory. keyferry creates its directory.
    #[schemars(extend("examples" = ["/run/keyferry/notify/generation"]))]
    pub(super) file: Option<String>,
    /// Restart all containers of the pod in place: keyferry exits with code 88, and a rule in `restartPolicyRules` of its container must map this code to `RestartAllContainers`. Requires a checkpoint and Kubernetes 1.36 or later.
    pub(super) restart: Option<RawRestart>,
    /// Notify only if one of these files has changed. Paths in the output directory; `*`, `**`, and `?` are wildcards. Default: all files.
    #[schemars(length(min = 1), extend("examples" = [["tls/*", "app.env"]]))]
    pub(super) files: Option<Vec<String>>,
    /// Names of notifications that must succeed first, if they are pending for the same change. Default: notifications are independent.
    #[schemars(extend("examples" = [["drain"]]))]
    pub(super) after: Option<Vec<String>>,
    /// Time to wait after a change. Further changes in this time are part of the same notification.
    #[schemars(extend("default" = duration_as_text(defaults::NOTIFY_DEBOUNCE)))]
    pub(super) debounce: Option<RawDuration>,
    /// Upper limit of an additional random delay, so that replicas do not act at the same time. Default: 30s for `restart`, otherwise 0s.
    #[schemars(extend("examples" = [duration_as_text(defaults::RESTART_JITTER)]))]
    pub(super) jitter: Option<RawDuration>,
    /// Minimum time between two notifications. Default: 5m for `restart`, otherwise 0s. For `restart`, it doubles with each change that comes sooner, up to 1h.
    #[schemars(extend("examples" = [duration_as_text(defaults::RESTART_MIN_INTERVAL)]))]
    pub(super) min_interval: Option<RawDuration>,
    /// Also notify at the first publication in the pod. The application is possibly not running at that time. keyferry repeats the notification until it succeeds. Cannot be combined with `restart`.
    #[schemars(extend("default" = false))]
    pub(super) at_start: Option<bool>,
}

/// What to restart.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawRestart {
    /// All containers of the pod, including init containers.
    Containers,
}

/// A signal to a process of the pod.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["process"]}, {"required": ["pidFile"]}]))]
pub(super) struct RawSignal {
    /// Name of the process, as `ps -o comm` prints it. A process whose parent has the same name receives no signal.
    #[schemars(extend("examples" = ["nginx"]))]
    pub(super) process: Option<String>,
    /// File with the process ID, instead of `process`.
    #[schemars(extend("examples" = ["/run/app/app.pid"]))]
    pub(super) pid_file: Option<String>,
    /// Name of the signal, without `SIG`.
    #[schemars(extend("default" = "HUP"))]
    pub(super) name: Option<RawSignalName>,
}

/// Name of a signal.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum RawSignalName {
    /// Hang up.
    Hup,
    /// Interrupt.
    Int,
    /// Quit.
    Quit,
    /// Kill.
    Kill,
    /// User-defined signal 1.
    Usr1,
    /// User-defined signal 2.
    Usr2,
    /// Timer.
    Alrm,
    /// Terminate.
    Term,
    /// Continue.
    Cont,
    /// Terminal input.
    Ttin,
    /// Terminal output.
    Ttou,
    /// Urgent data.
    Urg,
    /// Window size.
    Winch,
    /// Input or output is possible.
    Io,
    /// Power failure.
    Pwr,
}

/// An HTTP request within the pod.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub(super) struct RawHttp {
    /// URL of the request. The host must be a loopback address or `localhost`.
    #[schemars(extend("examples" = ["http://127.0.0.1:9090/-/reload"]))]
    pub(super) url: Option<String>,
    /// Unix socket to connect to instead of the address in `url`.
    #[schemars(extend("examples" = ["/run/control/unit.sock"]))]
    pub(super) unix_socket: Option<String>,
    /// Request method.
    #[schemars(extend("default" = "POST"))]
    pub(super) method: Option<RawHttpMethod>,
    /// Headers by name.
    #[schemars(extend("examples" = [{"Content-Type": "application/json"}]))]
    pub(super) headers: Option<BTreeMap<String, String>>,
    /// Headers whose values are the content of files, by name. keyferry reads the files for each request.
    #[schemars(extend("examples" = [{"Authorization": "/etc/sensitive/reload-authorization"}]))]
    pub(super) header_files: Option<BTreeMap<String, String>>,
    /// Body of the request. Default: no body.
    pub(super) body: Option<String>,
    /// Status codes that count as success. Default: all from 200 to 299. keyferry does not follow redirects.
    #[schemars(length(min = 1), inner(range(min = 200, max = 599)), extend("examples" = [[200, 409]]))]
    pub(super) expect: Option<Vec<u16>>,
    /// Time limit of one request. Maximum: 5m.
    #[schemars(extend("default" = duration_as_text(defaults::NOTIFY_TIMEOUT)))]
    pub(super) timeout: Option<RawDuration>,
    /// PEM file with the trusted CA certificates. keyferry trusts no others. Required for `https`.
    #[schemars(extend("examples" = ["/etc/sensitive/tls/ca.crt"]))]
    pub(super) ca_file: Option<String>,
    /// DNS name to expect in the certificate. Default: the host of `url`.
    #[schemars(extend("examples" = ["webapp.shop.svc"]))]
    pub(super) server_name: Option<String>,
}

/// Request method.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum RawHttpMethod {
    /// `GET`
    Get,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
}

impl RawHttpMethod {
    /// The method in a request.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}
