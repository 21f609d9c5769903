//! `outputs` as the user writes it; see [`raw`](super::raw).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::text::RawText;

/// Files of one source: a file for each key (optionally below `prefix`), one `key`, several keys in one PEM file (`bundle`) or PKCS#12 file (`format: pkcs12`), or all keys in one file (`format`). Alternatively, one file of several sources: their keys in a `format` (`merge`), or any text (`template`, `templateFile`). For a certificate, a file for each key means `tls.crt`, `tls.key`, and `ca.crt`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["source"]}, {"required": ["merge"]}, {"required": ["template"]}, {"required": ["templateFile"]}]))]
pub(super) struct RawOutput {
    /// Name of the source, as in `sources`. Required, except with `merge` or a template.
    pub(super) source: Option<String>,
    /// Subdirectory for an output with one file for each key.
    #[schemars(extend("examples" = ["db"]))]
    pub(super) prefix: Option<String>,
    /// Write only this key of the secret.
    pub(super) key: Option<String>,
    /// Write these keys to one PEM file, in this order and each certificate once. With `format: pkcs12`, write them to one PKCS#12 file. Default for the PKCS#12 file of a certificate: `certificate`, `intermediates`, `ca`, and `private_key`.
    #[schemars(length(min = 1), extend("examples" = [["certificate", "intermediates", "private_key"]]))]
    pub(super) bundle: Option<Vec<String>>,
    /// Write all keys, or with `pkcs12` those in `bundle`, to one file in this format.
    pub(super) format: Option<RawFormat>,
    /// Merge the keys of these sources into one file in this `format`. Mappings are merged key by key. For anything else, the later item of this list takes precedence.
    #[schemars(length(min = 1))]
    pub(super) merge: Option<Vec<RawMergeItem>>,
    /// `key`: write only this part of the value, which must be JSON or text that contains JSON. A JSON Pointer (RFC 6901). Requires `file`.
    #[schemars(extend("examples" = ["/db/0/host"]))]
    pub(super) field: Option<String>,
    /// `key`: content of the file if the secret has no such key, or its value no such `field`. In the same `encoding` as the value. It is part of the configuration and therefore not secret.
    pub(super) default: Option<RawText>,
    /// `key`: write no file if the secret has no such key, or its value no such `field`. Otherwise the source fails with `RenderFailed`.
    #[schemars(extend("default" = false))]
    pub(super) optional: Option<bool>,
    /// Without `key`: patterns of the keys to write. `*` and `?` match within a component of a key that contains `/`, `**` matches any number of components, and `[a-z]` matches one character. Default: all keys.
    #[schemars(extend("examples" = [["db-*"]]))]
    pub(super) include: Option<Vec<String>>,
    /// Without `key`: patterns of the keys to leave out, even if `include` matches.
    #[schemars(extend("examples" = [["*-old"]]))]
    pub(super) exclude: Option<Vec<String>>,
    /// Without `key`: new names of keys. With `format`, the name in the file; otherwise the path of the file, below `prefix`. Other keys keep their names.
    #[schemars(extend("examples" = [{"db-password": "password"}]))]
    pub(super) rename: Option<BTreeMap<String, String>>,
    /// `format: pkcs12`: the password of the file.
    pub(super) password: Option<RawKeyReference>,
    /// `format: pkcs12`: name of the entry in the file. Default: none; Java then names the entry `1`.
    #[schemars(length(min = 1), extend("examples" = ["web"]))]
    pub(super) alias: Option<String>,
    /// Path of the file in the output directory. Requires `key`, `bundle`, `format`, `merge`, or a template. Default for `key`: the name of the key.
    #[schemars(extend("examples" = ["db/password", "config.json"]))]
    pub(super) file: Option<String>,
    /// Encoding of the values in Vault. With `base64`, values are decoded; use it for binary files. Cannot be combined with `format`.
    #[schemars(extend("default" = "utf-8"))]
    pub(super) encoding: Option<RawEncoding>,
    /// Content of `file` as a template in the language of Go, with the functions of the Vault Agent. It reads sources by name (`{{ .app.password }}`) or by path (`{{ with secret "secret/app" }}{{ .Data.data.password }}{{ end }}`).
    #[schemars(extend("examples" = ["password={{ .app.password }}\n"]))]
    pub(super) template: Option<String>,
    /// File that contains the template, instead of `template`. keyferry renders the template again when the file changes.
    #[schemars(extend("examples" = ["/etc/keyferry/app.ini.tmpl"]))]
    pub(super) template_file: Option<String>,
    /// Templates: effect of a missing key. With `error`, the source fails with `RenderFailed`. With `default`, the template prints `<no value>`, as in the Vault Agent. Default: `error`.
    pub(super) missing_key: Option<RawMissingKey>,
    /// Templates: the left and the right delimiter of an action. Default: `{{` and `}}`.
    #[schemars(length(min = 2, max = 2), extend("examples" = [["[[", "]]"]]))]
    pub(super) delimiters: Option<Vec<String>>,
    /// Permission bits in octal, in quotes. Default: `directory.fileMode`.
    #[schemars(regex(pattern = "^(0o?)?[4-7][0-7]{2}$"), extend("examples" = ["0400"]))]
    pub(super) mode: Option<String>,
}

/// A source of a merged file.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["source"]))]
pub(super) struct RawMergeItem {
    /// Name of the source, as in `sources`.
    pub(super) source: Option<String>,
    /// Place of the keys in the file: a JSON Pointer (RFC 6901) with the names of mappings. Default: the top level of the file.
    #[schemars(extend("examples" = ["/spring/datasource"]))]
    pub(super) under: Option<String>,
    /// Patterns of the keys to write, as in `outputs[].include`. Default: all keys.
    #[schemars(extend("examples" = [["db-*"]]))]
    pub(super) include: Option<Vec<String>>,
    /// Patterns of the keys to leave out, even if `include` matches.
    #[schemars(extend("examples" = [["*-old"]]))]
    pub(super) exclude: Option<Vec<String>>,
    /// New names of keys in the file. Other keys keep their names.
    #[schemars(extend("examples" = [{"db-password": "password"}]))]
    pub(super) rename: Option<BTreeMap<String, String>>,
}

/// Encoding of the values in Vault.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum RawEncoding {
    /// Used unchanged.
    #[serde(rename = "utf-8")]
    Utf8,
    /// Decoded from base64.
    #[serde(rename = "base64")]
    Base64,
}

/// Effect of a missing key in a template.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawMissingKey {
    /// The source fails with `RenderFailed`.
    Error,
    /// The template prints `<no value>`. In `if`, the value is false.
    Default,
}

/// A key of a source.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["source", "key"]))]
pub(super) struct RawKeyReference {
    /// Name of the source, as in `sources`.
    pub(super) source: Option<String>,
    /// Key of the secret.
    pub(super) key: Option<String>,
}

/// Format of a file with several keys.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawFormat {
    /// `KEY='value'` lines that a POSIX shell can source.
    Dotenv,
    /// `KEY='value'` lines that the kubelet can read, for environment variables with `fileKeyRef`.
    #[serde(rename = "env-file")]
    EnvFile,
    /// A JSON object.
    Json,
    /// A PKCS#12 file with certificates and their private key, encrypted with `password`. Without a private key, a trust store.
    Pkcs12,
    /// Java properties.
    Properties,
    /// A TOML table.
    Toml,
    /// A YAML mapping.
    Yaml,
}
