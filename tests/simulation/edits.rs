//! Changes of the configuration: good, invalid, not working, taken back.

use keyferry::agent::Input;

use super::world::{Event, Pod, World};

impl World {
    pub fn edit_document(&mut self) {
        if self.pod != Pod::Sidecar && self.random.chance(70) {
            return;
        }
        match self.random.below(10) {
            0 => {
                self.document_valid = false;
                if let Some(process) = &mut self.process {
                    (process.last_read, process.last_read_at) = (None, self.now);
                }
                self.input(Input::ConfigInvalid("the document has 2 mistakes".repeat(30)), "invalid configuration");
            }
            1 | 2 => {
                self.document = self.working.clone();
                self.document_changed();
            }
            _ => {
                let (paths, exotic) = (self.servers["a"].secrets.len() / 2, self.exotic);
                self.document.edit(&mut self.random, paths, exotic);
                self.document_changed();
            }
        }
    }

    /// The document is written: a running agent reads it.
    pub fn document_changed(&mut self) {
        self.document_valid = true;
        if self.document.works(self.servers[self.document_server()].authority) {
            self.working = self.document.clone();
        } else {
            let wait = self.random.seconds(20, 600);
            self.schedule(self.now + wait, Event::Edit);
        }
        let settings = self.document.settings();
        if let Some(process) = &mut self.process {
            (process.last_read, process.last_read_at) = (Some(std::sync::Arc::clone(&settings)), self.now);
        }
        let text = format!(
            "configuration: {} {:?} {} {}",
            self.document.address, self.document.role, self.document.directory, self.document.authority
        );
        self.input(Input::ConfigRead(settings), &text);
    }

    /// A person events that the document does not work and writes one that does.
    pub fn repair_document(&mut self) {
        let authority = self.servers[self.document_server()].authority;
        if !self.document_valid || !self.document.works(authority) {
            self.document = self.working.clone();
            self.document.authority = self.servers[self.document_server()].authority;
            self.document_changed();
        }
    }
}
