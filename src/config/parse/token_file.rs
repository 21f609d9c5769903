//! `tokenFile`: a source with a child token, and the output with its file.

use super::super::defaults;
use super::super::diagnostics::Diagnostics;
use super::super::environment::Environment;
use super::super::parameter::expand;
use super::super::quantity::duration_as_text;
use super::super::raw_token_file::RawTokenFile;
use super::auth::is_path;
use super::{conflicts, duration, is_plain, mode, optional_duration, sources};
use crate::model::{
    CHILD_TOKEN_KEY, FilePath, KvEngine, Output, OutputKind, Parameter, Parameters, RequestMethod, Source, SourceName,
    StatusReport, WhenMissing,
};

/// The endpoint for child tokens. A role is a component below it.
const ENDPOINT: &str = "auth/token/create";

/// The policy with all rights. Vault also ignores the case.
const ROOT: &str = "root";

/// `outputs` are the other outputs. `status` has the name of the pod, which becomes the display name of the token.
pub(super) fn parse(
    raw: RawTokenFile,
    outputs: &[Output],
    status: &StatusReport,
    env: &dyn Environment,
    diagnostics: &mut Diagnostics,
) -> Option<(Source, Output)> {
    let at = |key: &str| format!("tokenFile.{key}");
    let ttl = duration(&at("ttl"), raw.ttl.as_ref(), defaults::TOKEN_TTL, diagnostics);
    if ttl < defaults::MIN_TOKEN_TTL {
        diagnostics.invalid(&at("ttl"), duration_as_text(ttl), "must be at least 10s");
    }
    let overlap = optional_duration(&at("overlap"), raw.overlap.as_ref(), diagnostics);
    let watch_lease = sources::watch_lease(&at("watchLease"), raw.watch_lease.as_ref(), diagnostics);
    if raw.policies.is_none() && raw.role.is_none() && !diagnostics.contains(&at("role")) {
        let message = "is missing; set it, or `role` for a token role: without both, the token would have all policies of \
                       keyferry";
        diagnostics.required(&at("policies"), message);
    }
    let text = |at: &str, text: String, diagnostics: &mut Diagnostics| {
        let expanded = expand(&text, env).map_err(|message| diagnostics.invalid(at, text, message));
        expanded.unwrap_or_default()
    };
    let mut policies = Vec::new();
    for (index, policy) in raw.policies.unwrap_or_default().into_iter().enumerate() {
        let at = format!("{}[{index}]", at("policies"));
        let policy = text(&at, policy, diagnostics);
        if diagnostics.contains(&at) {
            continue;
        }
        if policy.eq_ignore_ascii_case(ROOT) {
            diagnostics.invalid(&at, policy.as_str(), "must not be `root`, which allows everything");
        } else if policy.is_empty() || !is_plain(&policy) || policy.contains(',') {
            diagnostics.invalid(&at, policy.as_str(), "must be the name of a policy, like \"webapp-transit\"");
        }
        policies.push(Parameter::Text(policy));
    }
    let role = raw.role.map(|role| text(&at("role"), role, diagnostics));
    let is_role = |role: &str| is_path(role) && !role.contains('/');
    if let Some(role) = role.as_deref().filter(|role| !is_role(role) && !diagnostics.contains(&at("role"))) {
        let message = "must be the name of a token role, like \"webapp\", as in `auth/token/roles/webapp`";
        diagnostics.invalid(&at("role"), role, message);
    }
    let mode = raw.mode.and_then(|text| mode(&at("mode"), &text, diagnostics));
    let text = raw.path.as_deref().unwrap_or(defaults::TOKEN_FILE);
    let path = FilePath::new(text).map_err(|error| diagnostics.invalid(&at("path"), text, error.to_string())).ok();

    let display_name = [status.pod_namespace.as_ref(), status.pod_name.as_ref()].into_iter().flatten();
    let display_name = display_name.fold("keyferry".to_owned(), |text, part| format!("{text}-{part}"));
    let mut parameters = Parameters::from([
        ("display_name".to_owned(), Parameter::Text(display_name)),
        ("renewable".to_owned(), Parameter::Boolean(true)),
        ("ttl".to_owned(), Parameter::Text(format!("{}s", ttl.as_secs()))),
    ]);
    if !policies.is_empty() {
        parameters.insert("policies".to_owned(), Parameter::List(policies));
    }
    let source = Source {
        path: role.map_or_else(|| ENDPOINT.to_owned(), |role| format!("{ENDPOINT}/{role}")),
        list: None,
        wrapping_token_file: None,
        mount: None,
        engine: KvEngine::Other,
        version: None,
        previous: None,
        method: RequestMethod::CreateToken,
        parameters,
        certificate: None,
        refresh: defaults::REFRESH,
        max_stale: defaults::MAX_STALE,
        overlap,
        watch_lease,
        required: raw.required.unwrap_or(true),
    };
    let kind = OutputKind::Key {
        key: CHILD_TOKEN_KEY.to_owned(),
        path: path?,
        base64: false,
        field: None,
        missing: WhenMissing::Fail,
    };
    let output = Output { source: SourceName::token_file(), kind, mode };
    conflicts::check_token_file(&at("path"), &output, outputs, diagnostics);
    Some((source, output))
}
