//! Changes of the configuration file: valid, invalid, not working, reverted.

use keyferry::agent::Input;

use super::world::{Event, Pod, World};

impl World {
    pub fn edit_config(&mut self) {
        if self.pod != Pod::Sidecar && self.random.chance(70) {
            return;
        }
        match self.random.below(10) {
            0 => {
                self.config_valid = false;
                if let Some(process) = &mut self.process {
                    (process.last_read, process.last_read_at) = (None, self.now);
                }
                self.input(Input::ConfigInvalid("the configuration has 2 errors".repeat(30)), "invalid configuration");
            }
            1 | 2 => {
                self.config = self.working.clone();
                self.config_changed();
            }
            _ => {
                let paths = self.servers["a"].secrets.keys().filter(|path| !path.ends_with('b'));
                let paths: Vec<_> = paths.cloned().collect();
                self.config.edit(&mut self.random, &paths, self.exotic);
                self.config_changed();
            }
        }
    }

    /// A running agent reads the changed configuration file.
    pub fn config_changed(&mut self) {
        self.config_valid = true;
        if self.config.works(self.servers[self.config_server()].authority) {
            self.working = self.config.clone();
        } else {
            let wait = self.random.seconds(20, 600);
            self.schedule(self.now + wait, Event::Edit);
        }
        let settings = self.config.settings();
        if let Some(process) = &mut self.process {
            (process.last_read, process.last_read_at) = (Some(std::sync::Arc::clone(&settings)), self.now);
        }
        let text = format!(
            "configuration: {} {:?} {} {}",
            self.config.address, self.config.role, self.config.directory, self.config.authority
        );
        self.input(Input::ConfigRead(settings), &text);
    }

    /// A user notices that the configuration does not work and repairs it.
    pub fn repair_config(&mut self) {
        let authority = self.servers[self.config_server()].authority;
        if !self.config_valid || !self.config.works(authority) {
            self.config = self.working.clone();
            self.config.authority = self.servers[self.config_server()].authority;
            self.config_changed();
        }
    }
}
