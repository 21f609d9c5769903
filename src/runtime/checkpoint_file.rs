//! The checkpoint file of the agent process.

use std::path::PathBuf;
use std::sync::Mutex;

use super::adapters::Checkpoints;
use super::clock::wall;
use crate::checkpoint;
use crate::model::{Checkpoint, Failure, FailureClass, Reason, Settings, lock};
use crate::vault::OneTimeSecrets;
use crate::volume;

/// The checkpoint file. It also contains the secrets that cannot be read from their files again.
pub(super) struct CheckpointFile {
    /// `None` without a checkpoint.
    path: Option<PathBuf>,
    one_time: OneTimeSecrets,
    /// Held while the file is written.
    writing: Mutex<()>,
}

impl Checkpoints for CheckpointFile {
    fn load(&self, settings: &Settings) -> Result<Option<Box<Checkpoint>>, Failure> {
        let Some(path) = &self.path else { return Ok(None) };
        let Some(bytes) = volume::read_private_file(path)? else { return Ok(None) };
        let decoded = checkpoint::decode(&bytes, settings, wall()).and_then(|decoded| {
            self.one_time.restore(decoded.one_time);
            decoded.checkpoint
        });
        decoded.map(|found| Some(Box::new(found))).map_err(|why| {
            volume::remove_private_file(path).ok();
            let message = format!("failed to use checkpoint file {}: {why}", path.display());
            Failure::new(FailureClass::Invalid, Reason::CheckpointRefused, message)
        })
    }

    fn save(&self, settings: &Settings, checkpoint: &Checkpoint) -> Result<(), Failure> {
        let _writing = lock(&self.writing);
        self.write(settings, checkpoint)
    }

    fn save_credentials(&self, settings: &Settings) -> Result<(), Failure> {
        let Some(path) = &self.path else { return Ok(()) };
        let _writing = lock(&self.writing);
        let there = volume::read_private_file(path).ok().flatten();
        let decoded = there.and_then(|bytes| checkpoint::decode(&bytes, settings, wall()).ok());
        let kept = decoded.and_then(|decoded| decoded.checkpoint.ok());
        self.write(settings, &kept.unwrap_or_default())
    }
}

impl CheckpointFile {
    pub(super) fn new(path: Option<PathBuf>, one_time: OneTimeSecrets) -> Self {
        Self { path, one_time, writing: Mutex::default() }
    }

    fn write(&self, settings: &Settings, checkpoint: &Checkpoint) -> Result<(), Failure> {
        let Some(path) = &self.path else { return Ok(()) };
        let one_time = self.one_time.saved();
        if checkpoint.is_empty() && one_time.is_empty() {
            return volume::remove_private_file(path);
        }
        let bytes = checkpoint::encode(checkpoint, &one_time, settings).map_err(|why| {
            let message = format!(
                "failed to encode checkpoint file {}: internal error ({why}); report it with the log",
                path.display()
            );
            Failure::new(FailureClass::Local, Reason::Internal, message)
        })?;
        volume::write_private_file(path, &bytes, settings.directory.allow_disk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::{SavedSecret, SavedToken, VaultToken};

    #[test]
    fn unwrapped_credential_is_added_to_the_token_in_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let document = format!(
            "vault: {{address: 'http://v:8200'}}\nauth: {{role: webapp}}\nsources: {{a: {{path: secret/a}}}}\n\
             directory: {{path: {}/files, allowDisk: true}}\n",
            directory.path().display()
        );
        let empty = std::collections::HashMap::<String, String>::new();
        let settings = config::load(&empty, Some(&document)).unwrap_or_else(|error| panic!("{error}"));
        let path = directory.path().join("checkpoint");
        let secrets = OneTimeSecrets::default();
        let file = CheckpointFile::new(Some(path.clone()), secrets.clone());
        let token = SavedToken { token: VaultToken::new("t1"), first_ttl: None, left: None, renewable: true };
        let saved = Checkpoint { made: wall(), token: Some(token), ..Checkpoint::default() };
        file.save(&settings, &saved).expect("saved");
        let secret = SavedSecret { files: vec!["/r".into(), "/s".into()], digest: vec![1], secret: "unwrapped".into() };
        secrets.restore(vec![secret]);
        file.save_credentials(&settings).expect("saved");

        let next = OneTimeSecrets::default();
        let loaded = CheckpointFile::new(Some(path), next.clone()).load(&settings).expect("readable").expect("there");
        assert!(loaded.token.is_some_and(|saved| saved.token.expose() == b"t1"));
        assert_eq!(next.saved().len(), 1);
    }
}
