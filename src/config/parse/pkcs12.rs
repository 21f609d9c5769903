//! `outputs[].format: pkcs12`

use std::collections::BTreeMap;

use super::super::raw::RawSource;
use super::super::raw_output::{RawEncoding, RawKeyReference, RawOutput};
use super::outputs::{Section, check_key, check_source};
use crate::model::{KeyReference, OutputKind, Pkcs12, SourceName};

/// The keys of a certificate that its file contains by default, as cert-manager's `keystore.p12` does: the certificate, its chain
/// with the CA, and the private key.
const DEFAULT_KEYS: [&str; 4] = ["certificate", "intermediates", "ca", "private_key"];

impl Section<'_> {
    /// `is_certificate`: whether the source is a certificate of the PKI engine.
    pub(super) fn pkcs12(
        &mut self,
        keys: Option<Vec<String>>,
        mut raw: RawOutput,
        is_certificate: bool,
        sources: &BTreeMap<String, RawSource>,
    ) -> Option<OutputKind> {
        self.forbid_settings_of_key(&raw);
        self.forbid(
            "prefix",
            raw.prefix.is_some(),
            "cannot be combined with `format`; write the directory into `file`",
        );
        let is_base64 = raw.encoding == Some(RawEncoding::Base64);
        self.forbid("encoding", is_base64, "cannot be combined with `pkcs12`, which reads PEM");
        self.forbid_selection(&raw, "cannot be combined with `pkcs12`, whose keys are in `bundle`; remove it");
        let password = self.password(raw.password.take(), sources);
        let alias = raw.alias.take().inspect(|alias| self.check_alias(alias));
        let file = self.path("file", raw.file.take());
        let keys = match keys {
            Some(keys) => keys,
            None if is_certificate => DEFAULT_KEYS.map(str::to_owned).to_vec(),
            None => {
                let message = "is missing; list the keys with the certificates and the private key, like \
                               [tls.crt, tls.key]";
                self.diagnostics.required(&self.at("bundle"), message);
                return None;
            }
        };
        if is_certificate && keys.iter().any(|key| key == "private_key") && !keys.iter().any(|key| key == "certificate")
        {
            let message = "must contain `certificate`, which belongs to the private key";
            self.diagnostics.invalid_hidden(&self.at("bundle"), message);
        }
        let Some(path) = file.ok()? else {
            let message = "is missing; set it to the path of the file, like \"keystore.p12\"";
            self.diagnostics.required(&self.at("file"), message);
            return None;
        };
        Some(OutputKind::Pkcs12 { path, file: Pkcs12 { keys, password: password?, alias } })
    }

    fn password(
        &mut self,
        raw: Option<RawKeyReference>,
        sources: &BTreeMap<String, RawSource>,
    ) -> Option<KeyReference> {
        let Some(RawKeyReference { source, key }) = raw else {
            let message = "is missing; set it to the source and the key of the password, like {source: app, key: \
                           keystorePassword}";
            self.diagnostics.required(&self.at("password"), message);
            return None;
        };
        // The schema check has reported a missing one.
        let (source, key) = (source?, key?);
        let at = self.at("password.source");
        check_source(&at, &source, sources, self.diagnostics);
        if sources.get(&source).is_some_and(|source| source.pki.is_some()) {
            let message = "must be a source with a password, and not a certificate";
            self.diagnostics.invalid(&at, source.as_str(), message);
        }
        check_key(&self.at("password.key"), Some(&source), &key, sources, self.diagnostics);
        Some(KeyReference { source: SourceName::new(&source).ok()?, key })
    }

    fn check_alias(&mut self, alias: &str) {
        // The file has names in UTF-16 without surrogates (BMPString).
        if alias.is_empty() || alias.chars().any(|c| c.is_control() || u32::from(c) > 0xffff) {
            let message = "must be a name of characters of the Basic Multilingual Plane (up to U+FFFF), like \"web\"";
            self.diagnostics.invalid(&self.at("alias"), alias, message);
        }
    }
}
