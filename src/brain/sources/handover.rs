//! What one process leaves of its sources, and the next takes.

use std::collections::BTreeMap;

use super::super::event::Effect;
use super::super::retry::{Now, Tick};
use super::{Held, SourceState, Sources};
use crate::model::{HandedSource, Lease, SourceName};

impl SourceState {
    /// Takes what an earlier process read. Where there is no lease nobody knows how old it is, so it is read again at once;
    /// a lease is kept, for a new read would give another one.
    fn take_over(&mut self, handed: HandedSource, now: &Now) {
        let first = handed.lease.as_ref().map(|(lease, _)| lease.duration);
        let lease = handed.lease.map(|(lease, left)| Lease { duration: left, ..lease });
        self.keep(handed.version, lease, false, now);
        match (self.held.as_mut().and_then(|held| held.lease.as_mut()), first) {
            (Some(lease), Some(first)) => lease.duration = first,
            _ => self.next = now.at,
        }
    }
}

impl Sources {
    /// Takes what an earlier process read, where nothing was read yet. Whether there was something.
    pub(in crate::brain) fn taken_over(
        &mut self,
        handed: BTreeMap<SourceName, HandedSource>,
        now: &Now,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let before = effects.len();
        for (name, handed) in handed {
            let over = handed.lease.as_ref().is_some_and(|(_, left)| left.is_zero());
            let Some(source) = self.all.get_mut(&name).filter(|source| !over && !source.is_held()) else { continue };
            if source.in_flight.is_none() && !self.orphans.contains_key(&name) {
                source.take_over(handed, now);
                effects.push(Effect::Accept { source: name });
            }
        }
        effects.len() > before
    }

    /// Everything that is held, as the next process has to know it.
    pub(in crate::brain) fn to_hand_over(&self, now: Tick) -> BTreeMap<SourceName, HandedSource> {
        let handed = |held: &Held| {
            let left = held.ends.map(|end| end.saturating_sub(now));
            HandedSource { version: held.version.clone(), lease: held.lease.clone().zip(left) }
        };
        self.all.iter().filter_map(|(name, source)| Some((name.clone(), handed(source.held.as_ref()?)))).collect()
    }
}
