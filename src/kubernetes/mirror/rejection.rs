//! Failures for rejected writes, without secret values.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::super::MirrorContent;
use super::super::account::Account;
use super::super::classify::{self, ApiError};
use super::target::Target;
use crate::model::{Failure, SecretBytes};

/// Minimum length in bytes of a value for the search in the server's message. Shorter values occur in any text.
const MIN_SEARCHED: usize = 4;

/// Converts the error response to a write. Shows the server's message only if it contains no value: an admission
/// webhook can quote the rejected object, and the API server itself reports `invalid character 'L'` for a
/// `.dockerconfigjson` that is not JSON.
///
/// Never shows RBAC's message, which contains the namespace and the account: if keyferry omitted the message only when
/// it contains a value, the omission would reveal that the value is one of these words.
pub(super) fn failure(
    target: &Target<'_>,
    account: Option<&Account>,
    mut error: ApiError,
    content: &MirrorContent,
) -> Failure {
    let about_values: Vec<_> = error.causes.iter().filter(|cause| cause.field.starts_with("data[")).collect();
    if error.is_rbac() {
        let who =
            account.map(|account| format!("ServiceAccount {}/{} is not allowed to", account.namespace, account.name));
        error.replace_shown_message(who.unwrap_or_default());
    } else if !about_values.is_empty() {
        let described: Vec<_> = about_values.iter().map(|cause| format!("{}: {}", cause.field, cause.reason)).collect();
        error.replace_shown_message(described.join(", "));
    } else {
        // The failure names these objects anyway, and a user name is often equal to the application's name.
        let mut text = error.message().to_owned();
        let account = account.map(|account| account.name.as_str());
        let mut public: Vec<_> = [target.name.as_str(), target.namespace.as_str()].into_iter().chain(account).collect();
        public.sort_by_key(|name| std::cmp::Reverse(name.len()));
        for name in public {
            text = text.replace(name, "\0");
        }
        if content.data.values().any(|value| contains_value(&text, value)) {
            error.replace_shown_message("(message omitted: it could contain a secret value)".to_owned());
        }
    }
    classify::failure(&target.context(), &error)
}

fn contains_value(text: &str, value: &SecretBytes) -> bool {
    let contains = |part: &str| part.len() >= MIN_SEARCHED && text.contains(part);
    // Search line by line, because a quoted text has escaped line ends.
    value.expose_str().is_some_and(|text| text.lines().any(|line| contains(line.trim())))
        || contains(&Zeroizing::new(STANDARD.encode(value.expose())))
}
