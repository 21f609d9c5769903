//! Which functions exist, and what to write instead of those that do not.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::model::suggestion;

/// Whether a function exists.
pub(in crate::template) enum Known {
    Yes,
    /// The message for its use.
    No(String),
}

/// Functions of the engine.
const OF_ENGINE: [&str; 11] = ["and", "call", "eq", "ge", "gt", "le", "lt", "ne", "not", "or", "slice"];

/// Functions whose result depends on more than their arguments and the environment.
const VARIABLE: [&str; 5] = ["meta", "pkiCert", "secret", "secrets", "timestamp"];

/// Functions of consul-template that keyferry does not have, and those of other template languages, with the replacement.
const REPLACED: [(&str, &str); 70] = [
    ("writeToFile", "writes a file, which would not be part of the set; add an output for the file"),
    ("file", "reads a file of the container; mount the file in the application instead"),
    ("plugin", "starts a program; the image has none, and a template must not start one"),
    ("sockaddr", "reads network interfaces; set an environment variable from the downward API, and read it with `env`"),
    ("spew_dump", "prints types of Go; use `toJSONPretty`"),
    ("spew_printf", "prints types of Go; use `printf`"),
    ("spew_sdump", "prints types of Go; use `toJSONPretty`"),
    ("spew_sprintf", "prints types of Go; use `printf`"),
    ("datacenters", CONSUL),
    ("exportedServices", CONSUL),
    ("key", CONSUL),
    ("keyExists", CONSUL),
    ("keyOrDefault", CONSUL),
    ("ls", CONSUL),
    ("safeLs", CONSUL),
    ("node", CONSUL),
    ("nodes", CONSUL),
    ("partitions", CONSUL),
    ("peerings", CONSUL),
    ("service", CONSUL),
    ("connect", CONSUL),
    ("services", CONSUL),
    ("tree", CONSUL),
    ("safeTree", CONSUL),
    ("caRoots", CONSUL),
    ("caLeaf", CONSUL),
    ("byKey", CONSUL),
    ("byMeta", CONSUL),
    ("byPort", CONSUL),
    ("byTag", CONSUL),
    ("explode", CONSUL),
    ("nomadServices", NOMAD),
    ("nomadService", NOMAD),
    ("nomadVarList", NOMAD),
    ("nomadVarListSafe", NOMAD),
    ("nomadVar", NOMAD),
    ("nomadVarExists", NOMAD),
    ("quote", "is a function of Helm; use `toJSON` or `sprig_quote`"),
    ("squote", "is a function of Helm; use `sprig_squote`"),
    ("default", "is a function of Helm; use `or VALUE DEFAULT` or `sprig_default`"),
    ("required", "is a function of Helm; a missing key is an error anyway"),
    ("fail", "is a function of Helm; a missing key is an error anyway"),
    ("include", "is a function of Helm; use `template \"NAME\" .`"),
    ("tpl", "is a function of Helm; write the template itself"),
    ("lookup", "is a function of Helm; use `secret`"),
    ("toYaml", "is a function of Helm; use `toYAML`"),
    ("fromYaml", "is a function of Helm; use `parseYAML`"),
    ("toJson", "is a function of Helm; use `toJSON`"),
    ("fromJson", "is a function of Helm; use `parseJSON`"),
    ("toToml", "is a function of Helm; use `toTOML`"),
    ("b64enc", "is a function of Helm; use `base64Encode`"),
    ("b64dec", "is a function of Helm; use `base64Decode`"),
    ("nindent", "is a function of Helm; use `sprig_nindent`, or a line break and `indent`"),
    ("upper", "is a function of Helm; use `toUpper`"),
    ("lower", "is a function of Helm; use `toLower`"),
    ("title", "is a function of Helm; use `toTitle`"),
    ("replace", "is a function of Helm; use `replaceAll FROM TO TEXT`"),
    ("sha256sum", "is a function of Helm; use `sha256Hex`"),
    ("hasKey", "is a function of Helm; use `sprig_hasKey`"),
    ("get", "is a function of Helm; use `index MAP KEY`"),
    ("dict", "is a function of Helm; use `sprig_dict`"),
    ("list", "is a function of Helm; use `sprig_list`"),
    ("ternary", "is a function of Helm; use `sprig_ternary`"),
    ("coalesce", "is a function of Helm; use `or`"),
    ("empty", "is a function of Helm; use `not`"),
    ("toString", "is a function of Helm; use `print`"),
    ("toPem", "is a function of other tools; the values of certificates are PEM already"),
    ("fromJSON", "is not a function of consul-template; use `parseJSON`"),
    ("with_secret", "is not a function; write `with secret \"PATH\"`"),
    ("sprig_env", "reads any environment variable; use `env` with the name in quotes"),
];
const CONSUL: &str = "reads Consul, which keyferry does not; use a tool for Consul";
const NOMAD: &str = "reads Nomad, which does not run pods";

/// Functions of sprig that keyferry does not have, without their prefix. consul-template does not have all of them either.
const LEFT_OUT: [(&[&str], &str); 7] = [
    (
        &[
            "ago",
            "date",
            "dateInZone",
            "dateModify",
            "date_in_zone",
            "date_modify",
            "htmlDate",
            "htmlDateInZone",
            "now",
        ],
        "depends on the time of the execution; use `timestamp`, the time at which the secrets were read",
    ),
    (
        &["duration", "durationRound", "mustDateModify", "mustToDate", "must_date_modify", "toDate", "unixEpoch"],
        "works with times of Go, which keyferry does not have; store the text that the application needs",
    ),
    (
        &[
            "bcrypt",
            "derivePassword",
            "encryptAES",
            "genPrivateKey",
            "htpasswd",
            "randAlpha",
            "randAlphaNum",
            "randAscii",
            "randBytes",
            "randInt",
            "randNumeric",
            "shuffle",
            "uuidv4",
        ],
        "returns another value at each execution, so each refresh would change the file; store the value in Vault",
    ),
    (
        &[
            "buildCustomCert",
            "genCA",
            "genCAWithKey",
            "genSelfSignedCert",
            "genSelfSignedCertWithKey",
            "genSignedCert",
            "genSignedCertWithKey",
        ],
        "creates a certificate; use `pkiCert`, so that Vault issues the certificate",
    ),
    (&["decryptAES"], "decrypts with a key in the template; use the transit engine with `secret`"),
    (&["expandenv", "getHostByName"], "reads the environment or the network; use `env` with the name in quotes"),
    (&["semver", "semverCompare"], "compares versions; store the result, or use `regexMatch`"),
];

fn names() -> &'static BTreeSet<&'static str> {
    static NAMES: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
        let own = super::all().map(|(name, _)| name).filter(|name| !name.contains(' '));
        own.chain(OF_ENGINE).collect()
    });
    &NAMES
}

/// Whether function `name` exists. The methods of `scratch` have names like `scratch.Get`.
pub(in crate::template) fn known(name: &str) -> Known {
    if names().contains(name) {
        return Known::Yes;
    }
    if let Some((_, what)) = REPLACED.iter().find(|(replaced, _)| *replaced == name) {
        return Known::No(format!("function {name} {what}"));
    }
    if let Some(sprig) = name.strip_prefix("sprig_")
        && let Some((_, what)) = LEFT_OUT.iter().find(|(names, _)| names.contains(&sprig))
    {
        return Known::No(format!("function {name} {what}"));
    }
    if name == "scratch" {
        return Known::No(
            "scratch has only methods; write it with one of them, like `scratch.Get \"name\"`".to_owned(),
        );
    }
    let of_scratch = name.starts_with("scratch.");
    let candidates = names().iter().copied().filter(|known| known.starts_with("scratch.") == of_scratch);
    if of_scratch {
        return Known::No(format!("{name} does not exist; {}", suggestion(name, candidates)));
    }
    let hint = crate::model::nearest(name, candidates).map_or_else(
        || "the functions are in docs/how-to/write-a-template.md".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    Known::No(format!("function {name} does not exist; {hint}"))
}

/// Whether the result of function `name` depends on its arguments and the environment only.
pub(in crate::template) fn is_constant(name: &str) -> bool {
    !VARIABLE.contains(&name) && !name.starts_with("scratch") && names().contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_are_left_out_have_advice() {
        let of_sprig = LEFT_OUT.iter().flat_map(|(names, _)| names.iter().map(|name| format!("sprig_{name}")));
        for name in of_sprig.chain(REPLACED.iter().map(|(name, _)| (*name).to_owned())) {
            match known(&name) {
                Known::Yes => panic!("{name} exists"),
                Known::No(message) => assert!(message.starts_with(&format!("function {name} ")), "{message}"),
            }
        }
        assert!(matches!(known("sprig_quote"), Known::Yes));
    }
}
