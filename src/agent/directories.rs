//! Previous output directories after a reload. A directory is emptied after the last publication to it has ended, and
//! is published to again only after it is empty.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::io::{Op, Ticket};
use super::outbox::Outbox;
use crate::model::Directory;

/// Operations in flight in directories that are no longer in use.
#[derive(Default)]
pub(super) struct Directories {
    retiring: BTreeMap<Ticket, PathBuf>,
    /// Abandoned publications in flight. When one ends, its directory is retired.
    abandoned: BTreeMap<Ticket, Directory>,
}

impl Directories {
    /// Starts emptying a directory.
    pub(super) fn retire(&mut self, directory: &Directory, outbox: &mut Outbox) {
        let ticket = outbox.start(Op::RetireDirectory { directory: directory.clone() });
        self.retiring.insert(ticket, directory.path.clone());
    }

    pub(super) fn retired(&mut self, ticket: Ticket) {
        self.retiring.remove(&ticket);
    }

    /// Abandons a publication in flight. Its directory is retired when the publication has ended.
    pub(super) fn abandon(&mut self, publication: Ticket, directory: &Directory) {
        self.abandoned.insert(publication, directory.clone());
    }

    /// Ends the publication of `ticket`. Returns the directory to retire if the publication was abandoned.
    pub(super) fn ended(&mut self, ticket: Ticket) -> Option<Directory> {
        self.abandoned.remove(&ticket)
    }

    /// Whether an operation must end before a publication to `path` can start.
    pub(super) fn is_busy(&self, path: &Path) -> bool {
        let retiring = self.retiring.values().any(|other| other == path);
        retiring || self.abandoned.values().any(|directory| directory.path == path)
    }
}
