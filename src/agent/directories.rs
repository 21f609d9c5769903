//! Directories that a reload has left: they are emptied when nothing is being published to them, and nothing is published to
//! them before they are empty.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::io::{Op, Ticket};
use super::outbox::Outbox;
use crate::model::Directory;

/// What is under way in directories that are not in use any more.
#[derive(Default)]
pub(super) struct Directories {
    retiring: BTreeMap<Ticket, PathBuf>,
    /// Abandoned publications, after which their directory is retired.
    abandoned: BTreeMap<Ticket, Directory>,
}

impl Directories {
    /// Starts to empty a directory.
    pub(super) fn retire(&mut self, directory: &Directory, outbox: &mut Outbox) {
        let ticket = outbox.start(Op::RetireDirectory { directory: directory.clone() });
        self.retiring.insert(ticket, directory.path.clone());
    }

    pub(super) fn retired(&mut self, ticket: Ticket) {
        self.retiring.remove(&ticket);
    }

    /// A publication in flight is not wanted any more; its directory is to be retired when it has ended.
    pub(super) fn abandon(&mut self, publication: Ticket, directory: &Directory) {
        self.abandoned.insert(publication, directory.clone());
    }

    /// Ends an abandoned publication: the directory to retire, if `ticket` is of one.
    pub(super) fn ended(&mut self, ticket: Ticket) -> Option<Directory> {
        self.abandoned.remove(&ticket)
    }

    /// Whether something is under way that must end before a publication to `path`.
    pub(super) fn is_busy(&self, path: &Path) -> bool {
        let retiring = self.retiring.values().any(|other| other == path);
        retiring || self.abandoned.values().any(|directory| directory.path == path)
    }
}
