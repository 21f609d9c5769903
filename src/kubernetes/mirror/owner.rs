//! Owner reference of the Secret, by which Kubernetes deletes the Secret together with its owner.

use std::collections::BTreeSet;
use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::super::account::Account;
use super::super::ownership::managed_owners;
use super::target::Target;
use crate::model::{Mirror, MirrorOwner, ObjectName, lock};

/// What this process knows about owners. Each entry is logged once.
#[derive(Default)]
pub(in super::super) struct OwnerMemory {
    /// Secrets for which a change of owners was denied, each with the UID of the desired owner.
    denied: BTreeSet<(ObjectName, String)>,
    /// Secrets without an owner, because the token does not identify a `ServiceAccount` in their namespace.
    unknown: BTreeSet<ObjectName>,
}

/// The configured owner.
///
/// The reference has neither `blockOwnerDeletion`, which requires `update` on the owner's finalizers, nor `controller`.
///
/// A `ServiceAccount` in another namespace cannot be the owner: the garbage collector searches the Secret's namespace,
/// does not find the owner, and deletes the Secret.
pub(super) fn desired(
    mirror: &Mirror,
    target: &Target<'_>,
    account: Option<&Account>,
    memory: &Mutex<OwnerMemory>,
) -> Option<OwnerReference> {
    match mirror.owner.as_ref()? {
        MirrorOwner::Object { api_version, kind, name, uid } => {
            Some(reference(api_version.clone(), kind.clone(), name.to_string(), uid.clone()))
        }
        MirrorOwner::ServiceAccount => {
            let account = account.filter(|account| account.namespace == target.namespace.as_str());
            if account.is_none() && lock(memory).unknown.insert(target.name.clone()) {
                tracing::warn!(
                    secret = %target.name,
                    "the mirrored Secret has no owner: the API token names no ServiceAccount in namespace {}; delete \
                     the Secret yourself after the application is deleted",
                    target.namespace,
                );
            }
            let Account { name, uid, .. } = account?.clone();
            Some(reference("v1".to_owned(), "ServiceAccount".to_owned(), name, uid))
        }
    }
}

/// Owners to apply to an existing Secret: `desired`, or the current ones if the cluster denied this change before.
pub(super) fn for_current(
    current: &ObjectMeta,
    desired: Option<&OwnerReference>,
    target: &Target<'_>,
    memory: &Mutex<OwnerMemory>,
) -> Vec<OwnerReference> {
    let denied = lock(memory).denied.contains(&entry(target, desired));
    if denied { retained(current) } else { desired.cloned().into_iter().collect() }
}

/// The owners that keyferry set earlier. Omitting them from an apply would remove them.
pub(super) fn retained(current: &ObjectMeta) -> Vec<OwnerReference> {
    let managed = managed_owners(current);
    let existing = current.owner_references.iter().flatten().filter(|existing| managed.contains(&existing.uid));
    existing
        .map(|existing| {
            reference(existing.api_version.clone(), existing.kind.clone(), existing.name.clone(), existing.uid.clone())
        })
        .collect()
}

/// Remembers that the cluster denied a change to `desired`, and logs the first denial.
pub(super) fn remember_denied(desired: Option<&OwnerReference>, target: &Target<'_>, memory: &Mutex<OwnerMemory>) {
    if lock(memory).denied.insert(entry(target, desired)) {
        tracing::warn!(
            secret = %target.name,
            "failed to change the owner of the mirrored Secret: OwnerReferencesPermissionEnforcement requires \
             permission to delete it; the owners stay as they are; delete the Secret and keyferry re-creates it with \
             its owner"
        );
    }
}

/// Whether exactly these owners are set by keyferry.
pub(super) fn matches(current: &ObjectMeta, owners: &[OwnerReference]) -> bool {
    let uids: BTreeSet<_> = owners.iter().map(|owner| owner.uid.clone()).collect();
    let existing = |owner: &OwnerReference| {
        current.owner_references.iter().flatten().any(|existing| {
            (&existing.uid, &existing.api_version, &existing.kind, &existing.name)
                == (&owner.uid, &owner.api_version, &owner.kind, &owner.name)
        })
    };
    managed_owners(current) == uids && owners.iter().all(existing)
}

fn reference(api_version: String, kind: String, name: String, uid: String) -> OwnerReference {
    OwnerReference { api_version, kind, name, uid, block_owner_deletion: None, controller: None }
}

fn entry(target: &Target<'_>, desired: Option<&OwnerReference>) -> (ObjectName, String) {
    (target.name.clone(), desired.map(|owner| owner.uid.clone()).unwrap_or_default())
}
