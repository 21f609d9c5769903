//! Templates: files with text and values of several sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ring::digest::{SHA256, digest};

use super::{Parameter, RequestMethod, Source, SourceName};

/// A template in the language of Go's `text/template`, with the functions of consul-template. It has no errors that its parse
/// tree shows: `config` checks that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The text.
    pub text: String,
    /// The file that the text is from; `None` if it is in the configuration.
    pub file: Option<PathBuf>,
    /// What a missing key does.
    pub missing_key: MissingKey,
    /// The left and the right delimiter of an action.
    pub delimiters: (String, String),
    /// The environment variables that it reads. They are part of the configuration and therefore not secret.
    pub variables: BTreeMap<String, String>,
    /// The sources that it reads by name.
    pub named: BTreeSet<SourceName>,
    /// The sources that answer its calls of `secret`, `secrets`, and `pkiCert`.
    pub calls: BTreeMap<SecretCall, SourceName>,
    /// The sources that answer the calls whose arguments depend on secrets. The agent adds and removes them.
    pub computed: BTreeMap<SecretCall, SourceName>,
}

impl Template {
    /// The delimiters of Go.
    pub const DELIMITERS: (&'static str, &'static str) = ("{{", "}}");

    /// All its sources.
    pub fn sources(&self) -> impl Iterator<Item = &SourceName> {
        self.configured_sources().chain(self.computed.values())
    }

    /// The sources that the configuration determines. The file is rendered when all of them have been read.
    pub fn configured_sources(&self) -> impl Iterator<Item = &SourceName> {
        self.named.iter().chain(self.calls.values())
    }

    /// All its calls with their sources.
    pub fn all_calls(&self) -> impl Iterator<Item = (&SecretCall, &SourceName)> {
        self.calls.iter().chain(&self.computed)
    }
}

/// What a template does if a secret has no such key, or if its value is null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingKey {
    /// It fails.
    #[default]
    Error,
    /// It prints `<no value>`, and treats the value as false, as the Vault Agent does by default.
    Default,
}

/// A call of a template that reads a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretCall {
    /// The function.
    pub function: SecretFunction,
    /// Path without slashes at either end.
    pub path: String,
    /// The version of KV version 2 in the query of the path.
    pub version: Option<u64>,
    /// The arguments after the path, which are `name=value`. With arguments, the call writes.
    pub arguments: BTreeMap<String, String>,
}

/// The functions that read secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretFunction {
    /// `secret`: a secret, or the response to a write.
    Secret,
    /// `secrets`: the names below a path.
    Secrets,
    /// `pkiCert`: a certificate with its key.
    PkiCert,
}

impl SecretFunction {
    /// The function with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Secret, Self::Secrets, Self::PkiCert].into_iter().find(|function| function.as_str() == name)
    }

    /// The name in a template.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Secrets => "secrets",
            Self::PkiCert => "pkiCert",
        }
    }
}

impl SecretCall {
    /// Maximum number of rounds in which a template reads secrets whose paths depend on other secrets.
    pub const MAX_ROUNDS: u32 = 3;

    /// The call of `function` with these arguments.
    ///
    /// # Errors
    /// What is wrong with the arguments.
    pub fn new(function: SecretFunction, arguments: &[&str]) -> Result<Self, String> {
        let name = function.as_str();
        let [path, rest @ ..] = arguments else { return Err(format!("{name} requires a path")) };
        let path = path.trim().trim_matches('/').to_owned();
        if path.is_empty() {
            return Err(format!("{name} requires a path, and this one is empty"));
        }
        if function == SecretFunction::Secrets && !rest.is_empty() {
            return Err(format!("{name} accepts a path and no other arguments"));
        }
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query)),
            None => (path.clone(), None),
        };
        let version = query.map(|query| {
            let number = query.strip_prefix("version=").and_then(|number| number.parse().ok());
            number.filter(|_| function == SecretFunction::Secret && rest.is_empty()).ok_or_else(|| {
                format!("{name} accepts no query in the path except a version of KV version 2, like \"?version=3\"")
            })
        });
        let version = version.transpose()?;
        let mut arguments = BTreeMap::new();
        for pair in rest.iter().filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(format!("{name} requires arguments of the form \"name=value\" after the path"));
            };
            arguments.insert(key.trim().to_owned(), value.trim().to_owned());
        }
        // Both create a token that keyferry would have to renew.
        if matches!(function, SecretFunction::Secret)
            && path.split('/').next() == Some("auth")
            && (path.contains("/token/create") || path.contains("/login"))
        {
            return Err(format!(
                "{name} cannot create a token with {path}, because no process would renew it; write a token for the \
                 application with `tokenFile`"
            ));
        }
        Ok(Self { function, path, version, arguments })
    }

    /// The name of its source: the path, and a part of the digest of its arguments.
    #[must_use]
    pub fn source_name(&self) -> SourceName {
        let mut name = self.path.clone();
        if self.function == SecretFunction::Secrets {
            name.push('/');
        }
        if let Some(version) = self.version {
            name.extend(["?version=", &version.to_string()]);
        }
        if !self.arguments.is_empty() {
            let hash = digest(&SHA256, format!("{:?}", self.arguments).as_bytes());
            name.push('#');
            name.extend(hash.as_ref().iter().take(3).map(|byte| format!("{byte:02x}")));
        }
        SourceName::shortened(&name)
    }

    /// Its source, with `defaults` for all settings except the request.
    #[must_use]
    pub fn source(&self, defaults: &Source) -> Source {
        let method = match self.function {
            SecretFunction::Secrets => RequestMethod::List,
            SecretFunction::Secret if self.arguments.is_empty() => RequestMethod::Read,
            SecretFunction::Secret | SecretFunction::PkiCert => RequestMethod::Write,
        };
        let parameter = |(name, value): (&String, &String)| (name.clone(), Parameter::Text(value.clone()));
        let parameters = self.arguments.iter().map(parameter).collect();
        Source { path: self.path.clone(), version: self.version, method, parameters, ..defaults.clone() }
    }

    /// The source that answers it, among `sources`. Adds one with `defaults` if there is none with the same request. Returns its
    /// name, and whether it is new.
    pub fn find_or_add(&self, sources: &mut BTreeMap<SourceName, Source>, defaults: &Source) -> (SourceName, bool) {
        let wanted = self.source(defaults);
        let requests: Vec<String> =
            self.equal_paths().map(|path| Source { path, ..wanted.clone() }.request_id()).collect();
        if let Some((name, _)) = sources.iter().find(|(_, source)| requests.contains(&source.request_id())) {
            return (name.clone(), false);
        }
        let mut name = self.source_name();
        while sources.contains_key(&name) {
            name = name.with_suffix("#template");
        }
        sources.insert(name.clone(), wanted);
        (name, true)
    }

    /// Its path, and the path without the `/data/` of KV version 2 after the first component.
    pub fn equal_paths(&self) -> impl Iterator<Item = String> {
        let plain = self.path.split_once("/data/").filter(|(mount, _)| !mount.contains('/'));
        let plain = plain.map(|(mount, rest)| format!("{mount}/{rest}"));
        std::iter::once(self.path.clone()).chain(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_has_a_path_and_pairs() {
        let call = SecretCall::new(SecretFunction::Secret, &["/pki/issue/app/", "common_name = a=b", ""]);
        let call = call.expect("a call");
        assert_eq!(call.path, "pki/issue/app");
        assert_eq!(call.arguments, BTreeMap::from([("common_name".to_owned(), "a=b".to_owned())]));
        for arguments in [&[][..], &["/"], &["pki/issue/app", "ttl"], &["auth/token/create", "ttl=1h"]] {
            assert!(SecretCall::new(SecretFunction::Secret, arguments).is_err(), "{arguments:?}");
        }
        assert!(SecretCall::new(SecretFunction::Secrets, &["secret/apps", "a=b"]).is_err());
    }
}
