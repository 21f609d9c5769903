//! The mirrored Secret: look, refuse what is not ours, apply with the seen identity.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::client::{APPLY, Accepted, Cluster, Refusal};
use super::{FIELD_MANAGER, annotations, ownership};
use crate::model::{Failure, FailureClass, Mirror, ObjectName, Reason, SecretBytes, SourceName, Version};

/// What the Secret is to hold.
pub struct MirrorContent {
    /// Key to value.
    pub data: BTreeMap<String, Arc<SecretBytes>>,
    /// Versions of the sources it was made from.
    pub versions: BTreeMap<SourceName, Version>,
    /// [`super::digest`] of it.
    pub digest: String,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorOutcome {
    /// The Secret did not exist.
    Created,
    /// A newer version by another replica is there; it was left.
    Superseded,
    /// It held this content already; nothing was written.
    Unchanged,
    /// It holds the new content.
    Updated,
}

impl Cluster {
    /// One round of mirroring.
    ///
    /// # Errors
    /// `Foreign` for a Secret that we did not make (untouched), `Forbidden` with the missing rule, `Conflict` where somebody
    /// was quicker.
    pub async fn mirror(
        &self,
        name: &ObjectName,
        mirror: &Mirror,
        content: &MirrorContent,
    ) -> Result<MirrorOutcome, Failure> {
        let what = format!("failed to mirror to Secret {}/{name}", self.namespace);
        if content.data.is_empty() {
            // An apply without data would remove every key that we own.
            let message = format!("{what}: there is nothing to put into it; sources with leases need allowLeased");
            return Err(Failure::new(FailureClass::Invalid, Reason::RenderFailed, message));
        }
        // An apply of nothing but the name, as a dry run, tells whether the Secret is there without a right to read it:
        // 201 = absent, 200 = present, with labels, uid and managers, and no values.
        let look = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name.as_str()}});
        // Under a name of its own: an apply of ours that leaves out our labels shows the Secret without them.
        let seen = match self.apply(&what, name, "fieldManager=keyferry-look&dryRun=All", &look).await? {
            Ok(Accepted { created: true, .. }) => None,
            Ok(Accepted { metadata, .. }) => Some(metadata),
            Err(refusal) => return Err(self.failure(&what, name, &refusal)),
        };
        if let Some(there) = &seen {
            if let Some(why) = ownership::foreign(there) {
                let advice = "it is left alone: choose another name, or delete it";
                let message = format!("{what}: it was not made by keyferry ({why}); {advice}");
                return Err(Failure::new(FailureClass::Invalid, Reason::Foreign, message));
            }
            if annotations::supersedes(there, &content.versions) {
                return Ok(MirrorOutcome::Superseded);
            }
            if annotations::digest(there) == Some(&content.digest) && has_metadata(there, mirror) {
                return Ok(MirrorOutcome::Unchanged);
            }
        }
        let body = body(name, mirror, content, seen.as_ref());
        match self.apply(&what, name, &format!("fieldManager={FIELD_MANAGER}"), &body).await? {
            Ok(_) if seen.is_none() => Ok(MirrorOutcome::Created),
            Ok(_) => Ok(MirrorOutcome::Updated),
            Err(refusal) => Err(self.failure(&what, name, &refusal)),
        }
    }

    async fn apply(
        &self,
        what: &str,
        name: &ObjectName,
        query: &str,
        body: &Value,
    ) -> Result<Result<Accepted, Refusal>, Failure> {
        let path = format!("secrets/{name}?force=false&{query}");
        self.send(what, Method::PATCH, &path, APPLY, body.to_string().into_bytes()).await
    }

    fn failure(&self, what: &str, name: &ObjectName, refusal: &Refusal) -> Failure {
        let rule = format!("apiGroups: [\"\"], resources: [secrets], resourceNames: [{name}], verbs: [create, patch]");
        let classed = |class, reason, advice: &str| {
            let message = format!("{what}: the API server answers {}: {}{advice}", refusal.code, refusal.words());
            Failure::new(class, reason, message)
        };
        match refusal.code {
            409 if refusal.is_about(".type") => {
                let advice = "; a Secret's type cannot change: delete it, it will be made again";
                classed(FailureClass::Invalid, Reason::InvalidRequest, advice)
            }
            // A field conflict: somebody else's hand on our data since the look.
            409 if refusal.is_about(".data") => {
                classed(FailureClass::Invalid, Reason::Foreign, "; it is left alone: delete it, it will be made again")
            }
            // Replaced or gone since the look: look again.
            422 if refusal.is_about("metadata.uid") => classed(FailureClass::Conflict, Reason::ApiUnavailable, ""),
            404 => classed(FailureClass::Missing, Reason::ApiUnavailable, "; does the namespace exist?"),
            _ => refusal.failure(what, &rule),
        }
    }
}

/// Whether labels and annotations that the user asked for are there.
fn has_metadata(there: &ObjectMeta, mirror: &Mirror) -> bool {
    let has = |wanted: &BTreeMap<String, String>, found: Option<&BTreeMap<String, String>>| {
        wanted.iter().all(|(key, value)| found.is_some_and(|found| found.get(key) == Some(value)))
    };
    let owned = mirror
        .owner
        .as_ref()
        .is_none_or(|owner| there.owner_references.iter().flatten().any(|reference| reference.uid == owner.uid));
    has(&mirror.labels, there.labels.as_ref()) && has(&mirror.annotations, there.annotations.as_ref()) && owned
}

/// The whole wanted object. Every key, each time: what an apply leaves out is removed.
fn body(name: &ObjectName, mirror: &Mirror, content: &MirrorContent, seen: Option<&ObjectMeta>) -> Value {
    let mut labels = mirror.labels.clone();
    labels.insert(annotations::MANAGED_BY.0.into(), annotations::MANAGED_BY.1.into());
    let mut notes = mirror.annotations.clone();
    notes.insert(annotations::DIGEST.into(), content.digest.clone());
    notes.insert(annotations::VERSIONS.into(), annotations::encode(&content.versions));
    // "1" can be no Secret's version: the apply creates, or fails with 409 if somebody was quicker. The seen uid guards
    // against a Secret that was deleted and made again, the seen version against a change.
    let (uid, version) = match seen {
        None => (None, Some("1".to_owned())),
        Some(there) => (there.uid.clone(), there.resource_version.clone()),
    };
    let mut metadata = json!({
        "name": name.as_str(), "labels": labels, "annotations": notes, "resourceVersion": version,
    });
    if let Some(uid) = uid {
        metadata["uid"] = uid.into();
    }
    if let Some(owner) = &mirror.owner {
        metadata["ownerReferences"] = json!([{
            "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name.as_str(), "uid": owner.uid,
        }]);
    }
    let data: BTreeMap<_, _> =
        content.data.iter().map(|(key, value)| (key.as_str(), STANDARD.encode(value.expose()))).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "type": mirror.secret_type.as_str(), "metadata": metadata, "data": data})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SecretType;

    #[test]
    fn the_body_creates_or_guards_by_what_was_seen() {
        let name = ObjectName::new("top-secret-ks").expect("a name");
        let mirror = Mirror {
            secret_type: SecretType::Opaque,
            keys: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner: None,
            allow_leased: false,
        };
        let data = [("password".to_owned(), Arc::new(SecretBytes::from("Losungwort")))].into();
        let content = MirrorContent { data, versions: BTreeMap::new(), digest: "v1:x".into() };
        let new = body(&name, &mirror, &content, None);
        assert_eq!(new["metadata"]["resourceVersion"], "1");
        assert!(new["metadata"].get("uid").is_none());
        assert_eq!(new["data"]["password"], "TG9zdW5nd29ydA==");
        let seen = ObjectMeta { uid: Some("u".into()), resource_version: Some("77".into()), ..ObjectMeta::default() };
        let change = body(&name, &mirror, &content, Some(&seen));
        assert_eq!((&change["metadata"]["uid"], &change["metadata"]["resourceVersion"]), (&json!("u"), &json!("77")));
    }
}
