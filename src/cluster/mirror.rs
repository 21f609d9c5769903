//! A set of values into one Secret: look, judge, write at most once.
//!
//! 1. Look: a dry-run apply of nothing. It needs no right but `patch` and, because only metadata is asked for, tells no
//!    value.
//! 2. Absent: create, and only create.
//! 3. Present: stop if it is not ours ([`ownership`]), if its readings are newer, or if it holds our set already.
//! 4. Write with the uid and the resourceVersion that were seen, so that whatever happened since makes it fail.
//!
//! The look is made under a field manager of its own. An apply of nothing under *our* name would show the Secret as it
//! would be if we dropped everything: without our labels, annotations and entry in `managedFields`.

mod body;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::response::StatusCause;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use self::body::{Guard, SecretBody, annotations, labels};

use super::annotations::{Standing, decode, standing};
use super::classify::{self, Asked, Said};
use super::client::{self, Answer, Api};
use super::{FIELD_MANAGER, MirrorContent, MirrorOutcome, SOURCE_VERSIONS, ownership};
use crate::model::{Failure, FailureClass, Mirror, MirrorOwner, ObjectName, Reason, SecretBytes};

/// Field manager of the look. It owns nothing, ever.
const LOOK_MANAGER: &str = "keyferry-look";

/// Values shorter than this are not searched for in the server's words: they are found in any text.
const SHORTEST_SEARCHED: usize = 4;

pub(super) async fn mirror(
    api: &Api,
    namespace: &ObjectName,
    name: &ObjectName,
    mirror: &Mirror,
    content: &MirrorContent,
) -> Result<MirrorOutcome, Failure> {
    let target = Target { namespace, name };
    if content.data.is_empty() {
        // An apply without data removes every key that we own.
        let message = format!("failed to apply {target}: no value to mirror, and an empty set would wipe the Secret");
        return Err(Failure::new(FailureClass::Invalid, Reason::RenderFailed, message));
    }
    let look = target.asked("look at");
    // 1.
    let answer = api.exchange(&look.what, target.look()).await?;
    let (seen, outcome) = match answer.code {
        // 2.
        StatusCode::CREATED => (Guard::create_only(), MirrorOutcome::Created),
        // 3.
        StatusCode::OK => {
            let Metadata { metadata } = answer.parse(&look.what)?;
            match judge(&target, &metadata, mirror, content)? {
                Verdict::Leave(outcome) => return Ok(outcome),
                Verdict::Write => (Guard::seen(&metadata), MirrorOutcome::Updated),
            }
        }
        _ => return Err(refused(&look, &answer, content)),
    };
    // 4.
    let apply = target.asked("apply");
    let answer = api.exchange(&apply.what, target.apply(&seen, mirror, content)).await?;
    match answer.code {
        StatusCode::CREATED | StatusCode::OK => Ok(outcome),
        _ => Err(refused(&apply, &answer, content)),
    }
}

/// The part of an object that the API server is asked for.
#[derive(Deserialize)]
struct Metadata {
    metadata: ObjectMeta,
}

/// Which Secret.
struct Target<'a> {
    namespace: &'a ObjectName,
    name: &'a ObjectName,
}

impl std::fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret {}/{}", self.namespace, self.name)
    }
}

impl Target<'_> {
    fn asked(&self, verb: &str) -> Asked {
        let rule = format!(
            r#"{{apiGroups: [""], resources: [secrets], resourceNames: [{}], verbs: [create, patch]}}"#,
            self.name
        );
        Asked { what: format!("{verb} {self}"), rule }
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/{}", self.namespace, self.name)
    }

    fn look(&self) -> Request<Bytes> {
        let path = format!("{}?fieldManager={LOOK_MANAGER}&dryRun=All", self.path());
        let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.name.as_str()}});
        client::request(Method::PATCH, path, client::APPLY, client::to_body(&body))
    }

    /// `force=false`: a field that another manager changed is a conflict, not a prize.
    fn apply(&self, guard: &Guard, mirror: &Mirror, content: &MirrorContent) -> Request<Bytes> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}&force=false", self.path());
        let body = SecretBody::new(self.name, guard, mirror, content);
        client::request(Method::PATCH, path, client::APPLY, client::to_body(&body))
    }
}

/// What to do with a Secret that is there.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Leave(MirrorOutcome),
    Write,
}

fn judge(target: &Target<'_>, seen: &ObjectMeta, mirror: &Mirror, content: &MirrorContent) -> Result<Verdict, Failure> {
    if seen.uid.as_deref().unwrap_or_default().is_empty()
        || matches!(seen.resource_version.as_deref(), None | Some("" | "0"))
    {
        // Empty values would be no guard at all.
        let message = format!("failed to look at {target}: the answer has no uid or no resourceVersion");
        return Err(Failure::new(FailureClass::Transient, Reason::ApiUnavailable, message));
    }
    if let Err(why) = ownership::check(seen) {
        let message = format!(
            "failed to apply {target}: it exists and is not ours ({why}), so it is left alone; \
             delete it if nobody needs it, or choose another name"
        );
        return Err(Failure::new(FailureClass::Invalid, Reason::Foreign, message));
    }
    if seen.deletion_timestamp.is_some() {
        let message = format!("failed to apply {target}: it is being deleted and waits for its finalizers");
        return Err(Failure::new(FailureClass::Conflict, Reason::Conflict, message));
    }
    let theirs = seen.annotations.as_ref().and_then(|all| all.get(SOURCE_VERSIONS));
    let theirs = theirs.map(|text| decode(text)).unwrap_or_default();
    Ok(match standing(&content.versions, &theirs) {
        Standing::Older => Verdict::Leave(MirrorOutcome::Superseded),
        Standing::Level if holds(seen, mirror, content) => Verdict::Leave(MirrorOutcome::Unchanged),
        // Newer readings with the same values are written too: their versions keep a reading between the two away.
        Standing::Level | Standing::Newer => Verdict::Write,
    })
}

/// Whether the Secret holds what we would write, but for the versions. The digest is of what we wrote, not of what is
/// there now; a key that somebody removed since is missing from our own record of `managedFields`, and a key that
/// somebody changed made it foreign.
fn holds(seen: &ObjectMeta, mirror: &Mirror, content: &MirrorContent) -> bool {
    let set = |keys: &BTreeMap<String, String>| keys.keys().cloned().collect::<BTreeSet<_>>();
    let applied = |path: &[&str]| ownership::keys_of_ours(seen, path).into_iter().map(str::to_owned).collect();
    let (labels, mut annotations) = (labels(mirror), annotations(mirror, content));
    let same_keys = set(&labels) == applied(&["f:metadata", "f:labels"])
        && set(&annotations) == applied(&["f:metadata", "f:annotations"])
        && content.data.keys().cloned().collect::<BTreeSet<_>>() == applied(&["f:data"]);
    annotations.remove(SOURCE_VERSIONS);
    let present = |wanted: &BTreeMap<String, String>, there: &Option<BTreeMap<String, String>>| {
        wanted.iter().all(|(key, value)| there.as_ref().and_then(|all| all.get(key)) == Some(value))
    };
    let owned = mirror.owner.as_ref().is_none_or(|owner| {
        let MirrorOwner::Object { api_version, kind, name, uid } = owner else { return true };
        seen.owner_references.iter().flatten().any(|there| {
            (&there.uid, &there.api_version, &there.kind, there.name.as_str()) == (uid, api_version, kind, name.as_str())
        })
    });
    // `k:{"uid":"..."}` per owner that we set: also tells one that is no longer wanted.
    let owners = ownership::owners_of_ours(seen) == usize::from(mirror.owner.is_some());
    same_keys && present(&labels, &seen.labels) && present(&annotations, &seen.annotations) && owned && owners
}

/// A refusal, with the server's words only if they hold no value. An admission webhook may quote what it refuses, and the
/// API server itself says `invalid character 'L'` of a `.dockerconfigjson` that is not JSON.
fn refused(asked: &Asked, answer: &Answer, content: &MirrorContent) -> Failure {
    let mut said = Said::of(answer);
    let about_values: Vec<_> = said.causes.iter().filter(|cause| cause.field.starts_with("data[")).collect();
    if !about_values.is_empty() {
        let tell = |cause: &&StatusCause| format!("{}: {}", cause.field, cause.reason);
        said.words = about_values.iter().map(tell).collect::<Vec<_>>().join(", ");
    }
    if content.data.values().any(|value| quotes(&said.words, value)) {
        "(its words quote a value and are left out)".clone_into(&mut said.words);
    }
    classify::failure(asked, &said)
}

fn quotes(words: &str, value: &SecretBytes) -> bool {
    let holds = |text: &str| text.len() >= SHORTEST_SEARCHED && words.contains(text);
    // Line by line, because a quoted text has its line ends escaped.
    value.expose_str().is_some_and(|text| text.lines().any(|line| holds(line.trim())))
        || holds(&Zeroizing::new(STANDARD.encode(value.expose())))
}
