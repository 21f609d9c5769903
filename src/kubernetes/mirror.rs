//! Mirrors a set of values to one Secret, with at most one write of the values.
//!
//! 1. Read the metadata through a dry-run apply of an empty Secret ([`target`]).
//! 2. If the Secret does not exist: create it, and fail if it exists by now.
//! 3. If the Secret exists: stop if it is not managed, another configuration writes it, its versions are newer, or it
//!    already has the desired content ([`decide`]).
//! 4. Apply with the `uid` and `resourceVersion` from step 1, so that the write fails if the Secret has changed since.
//!    `force` takes back fields that another manager changed.
//! 5. If unmanaged keys remain, remove them with a merge patch, with `uid` and `resourceVersion` from step 4. The
//!    managed keys are already correct after step 4.

mod body;
mod configuration;
mod decide;
mod drift;
mod owner;
mod rejection;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Mutex;

use bytes::Bytes;
use http::{Request, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use self::body::{DesiredSecret, Guard};
use self::decide::{Decision, Plan, decide};
pub(super) use self::owner::OwnerMemory;
use self::target::Target;
use super::classify::ApiError;
use super::client::{Api, Response};
use super::ownership::unmanaged_data;
use super::{MirrorContent, MirrorOutcome};
use crate::model::{Failure, FailureClass, Mirror, ObjectName, Reason};

/// Writes mirrored Secrets.
pub(super) struct Writer<'a> {
    pub(super) api: &'a Api,
    pub(super) namespace: &'a ObjectName,
    /// Name of the agent's Pod, if known.
    pub(super) pod: Option<&'a ObjectName>,
    pub(super) owners: &'a Mutex<OwnerMemory>,
}

impl Writer<'_> {
    pub(super) async fn mirror(
        &self,
        name: &ObjectName,
        mirror: &Mirror,
        content: &MirrorContent,
    ) -> Result<MirrorOutcome, Failure> {
        let target = Target { namespace: self.namespace, name };
        if content.data.is_empty() {
            // An apply without data removes every key that keyferry owns.
            let cause =
                "there is no value to write, and an empty write would remove every key; check the mirror's files";
            return Err(target.failure(FailureClass::Invalid, Reason::RenderFailed, cause));
        }
        let owner = owner::desired(mirror, &target, self.api.account(), self.owners);
        let mut desired = DesiredSecret::new(mirror, content, self.pod);
        // 1.
        let response = self.send(&target, target.dry_run()).await?;
        let (current, plan) = match response.code {
            // 2.
            StatusCode::CREATED => {
                desired.owners = owner.iter().cloned().collect();
                (None, Plan { outcome: MirrorOutcome::Created, force: false, remove_unmanaged: false })
            }
            // 3.
            StatusCode::OK => {
                let current = response.metadata(&target.context().what)?;
                desired.owners = owner::for_current(&current, owner.as_ref(), &target, self.owners);
                match decide(&target, &current, mirror, content, &desired)? {
                    Decision::Leave(outcome) => return Ok(outcome),
                    Decision::Write(plan) => (Some(current), plan),
                }
            }
            _ => return Err(self.rejected(&target, &response, content)),
        };
        // 4.
        let guard = current.as_ref().map_or_else(Guard::create_only, Guard::of);
        let mut response = self.send(&target, target.apply(&guard, &desired, plan.force)).await?;
        if let Some(current) = current.as_ref().filter(|_| is_owner_denial(&response)) {
            owner::remember_denied(owner.as_ref(), &target, self.owners);
            desired.owners = owner::retained(current);
            response = self.send(&target, target.apply(&guard, &desired, plan.force)).await?;
        }
        if !matches!(response.code, StatusCode::CREATED | StatusCode::OK) {
            return Err(self.rejected(&target, &response, content));
        }
        // 5.
        if plan.remove_unmanaged {
            let written = response.metadata(&target.context().what)?;
            self.remove_unmanaged(&target, &written, content).await?;
        }
        Ok(plan.outcome)
    }

    /// Removes the keys that are unmanaged according to the response to the write. That response has complete
    /// `managedFields`, even if the Secret had none before.
    async fn remove_unmanaged(
        &self,
        target: &Target<'_>,
        written: &ObjectMeta,
        content: &MirrorContent,
    ) -> Result<(), Failure> {
        let mut keys: Vec<_> = unmanaged_data(written).into_iter().map(|(key, _)| key).collect();
        keys.dedup();
        if keys.is_empty() {
            return Ok(());
        }
        let response = self.send(target, target.remove(written, &keys)).await?;
        match response.code {
            StatusCode::OK => Ok(()),
            StatusCode::NOT_FOUND => Err(target.failure(
                FailureClass::Conflict,
                Reason::Conflict,
                "it was deleted during the write; keyferry retries",
            )),
            _ => Err(self.rejected(target, &response, content)),
        }
    }

    async fn send(&self, target: &Target<'_>, request: Request<Bytes>) -> Result<Response, Failure> {
        self.api.exchange(&target.context().what, request).await
    }

    fn rejected(&self, target: &Target<'_>, response: &Response, content: &MirrorContent) -> Failure {
        rejection::failure(target, self.api.account(), ApiError::from_response(response), content)
    }
}

fn is_owner_denial(response: &Response) -> bool {
    response.code == StatusCode::FORBIDDEN && ApiError::from_response(response).is_owner_denial()
}
