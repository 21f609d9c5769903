//! The table of reason codes: meaning, an example message, and what to do. The page is generated from it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use keyferry::model::Reason;

use super::files::files_below;
use super::pages::{read, root};

const PAGE: &str = "docs/troubleshooting.md";
const BEGIN: &str = "<!-- reason codes: begin -->\n";
const END: &str = "<!-- reason codes: end -->";

/// One reason code.
struct Row {
    reason: Reason,
    meaning: &'static str,
    /// A message of the program. `…` stands for a value; the text between must be a text of `src/`.
    example: &'static str,
    action: &'static str,
}

#[test]
fn each_reason_code_has_a_row() {
    let documented: Vec<&str> = ROWS.iter().map(|row| row.reason.as_str()).collect();
    let known: Vec<&str> =
        Reason::ALL.iter().map(|reason| reason.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(documented, known);
}

#[test]
fn each_example_is_a_message_of_the_program() {
    let sources: String = files_below(&root().join("src"), "rs").iter().map(read).collect();
    // A string literal continues behind a backslash at the end of a line.
    let mut text = String::new();
    for line in sources.lines() {
        let (line, end) = line.strip_suffix('\\').map_or((line, "\n"), |start| (start, ""));
        text.push_str(if text.ends_with('\n') { line } else { line.trim_start() });
        text.push_str(end);
    }
    for row in ROWS {
        let fragments = row.example.split('…').map(|part| part.trim_matches([' ', ':', ',', ';', '(', ')']));
        for fragment in fragments.filter(|part| part.len() > 3) {
            assert!(text.contains(fragment), "{}: no message in src/ contains {fragment:?}", row.reason.as_str());
        }
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "writes the page on request")]
fn page_is_current() {
    let page = read(PAGE);
    let (before, rest) = page.split_once(BEGIN).expect("the page has the begin mark");
    let (_, after) = rest.split_once(END).expect("the page has the end mark");
    let mut table = String::from("| Reason | Meaning | Example message | What to do |\n|---|---|---|---|\n");
    for Row { reason, meaning, example, action } in ROWS {
        let example = if example.contains('`') { format!("`` {example} ``") } else { format!("`{example}`") };
        let _ = writeln!(table, "| `{}` | {meaning} | {example} | {action} |", reason.as_str());
    }
    let current = format!("{before}{BEGIN}\n{table}\n{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(root().join(PAGE), current).expect("the page can be written");
    } else {
        assert!(page == current, "{PAGE} is not current; run: UPDATE_DOCS=1 cargo test --test docs");
    }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row {
        reason: Reason::Adopted,
        meaning: "The set of files that an earlier process published is in place. Nothing has been read since.",
        example: "the adopted set has not been compared with Vault yet",
        action: "Read the log if it lasts longer than a few seconds.",
    },
    Row {
        reason: Reason::AgentStopped,
        meaning: "The agent is stopping. Published files remain until the pod terminates.",
        example: "the agent has stopped; the published files remain but are no longer refreshed",
        action: "Nothing, if the pod terminates.",
    },
    Row {
        reason: Reason::ApiUnavailable,
        meaning: "The API server did not respond or could not serve the request.",
        example: "failed to … failed to reach the API server: …",
        action: "Check the API server and network policies.",
    },
    Row {
        reason: Reason::CaExpiring,
        meaning: "A CA certificate in Vault expires before the certificates that it signs would.",
        example: "the certificate of source … expires with its CA at …; replace the CA certificate in Vault before that",
        action: "Replace the CA certificate in Vault.",
    },
    Row {
        reason: Reason::CertificateInvalid,
        meaning: "Vault returned a certificate whose key does not match, or whose chain does not verify. It is not used.",
        example: "failed to … a certificate at …: the chain does not lead from the certificate to a CA certificate in the response",
        action: "Correct the issuer or the role in Vault; see [Deliver certificates](how-to/certificates.md#what-keyferry-verifies).",
    },
    Row {
        reason: Reason::CheckpointRefused,
        meaning: "The checkpoint of an earlier agent process could not be used. The agent logs in instead.",
        example: "failed to use checkpoint file …: …",
        action: "Nothing, if the token had expired or was revoked. Otherwise use the same image, configuration, and UID for all containers of keyferry.",
    },
    Row {
        reason: Reason::ConfigRejected,
        meaning: "The new configuration is invalid or does not work. The previous one stays active.",
        example: "new configuration rejected, previous configuration stays active: …",
        action: "Correct or restore the file.",
    },
    Row {
        reason: Reason::ConfigReloaded,
        meaning: "A new configuration is active.",
        example: "the configuration file matches the active configuration again",
        action: "Nothing.",
    },
    Row {
        reason: Reason::Conflict,
        meaning: "The object in the API server changed during the operation.",
        example: "it changed after keyferry read it; keyferry retries",
        action: "Nothing. keyferry retries.",
    },
    Row {
        reason: Reason::ContainersRestarting,
        meaning: "All containers of the pod are being restarted, because files have changed.",
        example: "restarting all containers of the pod, because files have changed",
        action: "Nothing.",
    },
    Row {
        reason: Reason::CredentialUnreadable,
        meaning: "A credential file cannot be read or used, or the API server rejects the pod's token.",
        example: "failed to use the ServiceAccount token in …: expected audience …, found …",
        action: "See [Login fails](#login-fails).",
    },
    Row {
        reason: Reason::Denied,
        meaning: "A policy does not allow the read, or the path or its mount is wrong.",
        example: "permission denied (403) … the token is valid, so the path is wrong, or this policy rule is missing: …",
        action: "Compare the path with `vault kv get`, then add the rule in the message to the policy.",
    },
    Row {
        reason: Reason::DirectoryUnusable,
        meaning: "The output directory is unsuitable: wrong owner, sticky bit set, not in memory, or used by another agent.",
        example: "it is owned by UID …, but keyferry runs as UID …",
        action: "See [Volume is full or the directory is unusable](#volume-is-full-or-the-directory-is-unusable).",
    },
    Row {
        reason: Reason::Drifted,
        meaning: "Another client edited a mirrored Secret.",
        example: "Secret … was edited by … (keys: …); keyferry restored the published set",
        action: "See [Mirrored Secret is not updated](#mirrored-secret-is-not-updated).",
    },
    Row {
        reason: Reason::Forbidden,
        meaning: "RBAC or an admission policy does not allow the call to the API server.",
        example: "the Role needs the rule …",
        action: "Add the rule in the message, or adapt the policy's annotation.",
    },
    Row {
        reason: Reason::Foreign,
        meaning: "The Secret exists but was not created by keyferry. It is left unchanged.",
        example: "it exists and is not managed by keyferry (…); keyferry leaves it unchanged",
        action: "Use another name, delete the Secret, or set `adopt: true`.",
    },
    Row {
        reason: Reason::Fresh,
        meaning: "Every source is within its staleness tolerance.",
        example: "every source is within its staleness tolerance",
        action: "Nothing.",
    },
    Row {
        reason: Reason::Internal,
        meaning: "An internal error: a bug in keyferry, or the operating system denies what every process needs.",
        example: "failed to …: internal error (…); report it with the log",
        action: "If the message names no limit of the container, report it and attach the log.",
    },
    Row {
        reason: Reason::InvalidKey,
        meaning: "A key of a secret cannot be a file name and is omitted.",
        example: "source …: skipped keys that are not valid file names: …",
        action: "Give the key a file name with the output's `rename`, or leave it out with `exclude`.",
    },
    Row {
        reason: Reason::InvalidRequest,
        meaning: "Vault or the API server rejected the request as invalid, or a request cannot be made from the configuration.",
        example: "the type of a Secret cannot change; delete it and keyferry re-creates it",
        action: "Check the address, path, and names in the message.",
    },
    Row {
        reason: Reason::LeaseLost,
        meaning: "A lease can no longer be renewed.",
        example: "failed to renew … Vault answered …; keyferry reads the secret again",
        action: "Nothing. keyferry reads new credentials.",
    },
    Row {
        reason: Reason::ListenFailed,
        meaning: "The address for probes and metrics cannot be used.",
        example: "failed to listen on …: another process in the pod uses this port; set `listen` to another port",
        action: "Set another port in `listen`.",
    },
    Row {
        reason: Reason::LoginRefused,
        meaning: "Vault denied the login, or rejected the wrapping token of a secret.",
        example: "failed to log in at …: Vault answered …: …",
        action: "See [Login fails](#login-fails).",
    },
    Row {
        reason: Reason::MirrorConflict,
        meaning: "Another configuration writes the same Secret with other keys or from other sources.",
        example: "another configuration writes it (…keys …); this configuration has …",
        action: "Use one Secret for each configuration.",
    },
    Row {
        reason: Reason::Mirrored,
        meaning: "The mirrored Secret holds the published set.",
        example: "the published set is mirrored to: …",
        action: "Nothing.",
    },
    Row {
        reason: Reason::NoSpace,
        meaning: "The volume cannot hold another copy of the set.",
        example: "not enough space in the volume: … KiB needed, … of … KiB free",
        action: "Raise `sizeLimit` and the memory limit.",
    },
    Row {
        reason: Reason::NotConfigured,
        meaning: "No mirror or no notification is configured.",
        example: "no mirror is configured",
        action: "Nothing.",
    },
    Row {
        reason: Reason::Notified,
        meaning: "The application was notified of the published files, or nothing has changed since its start.",
        example: "the application was notified of all changed files",
        action: "Nothing.",
    },
    Row {
        reason: Reason::NotifyFailed,
        meaning: "The application could not be notified of changed files.",
        example: "failed to send …: the application responded with status …",
        action: "See [Application is not notified](#application-is-not-notified).",
    },
    Row {
        reason: Reason::ObjectNotFound,
        meaning: "The Pod or namespace does not exist, or the Pod's name and UID are unknown.",
        example: "failed to report on this pod: its name and UID are unknown; set POD_NAME and POD_UID from the downward API",
        action: "Set `POD_NAME` and `POD_UID` from the downward API.",
    },
    Row {
        reason: Reason::OlderVersion,
        meaning: "A standby returned an older version than the one in use.",
        example: "failed to refresh source …: Vault returned …, which is older than the … in use",
        action: "Nothing, or see [Freshness](concepts.md#freshness).",
    },
    Row {
        reason: Reason::Pending,
        meaning: "The first set of files, the first mirror, or a source is not available yet, or a restart of all containers waits for its time.",
        example: "the first set is being read from Vault",
        action: "Wait. If it lasts, read the log.",
    },
    Row {
        reason: Reason::ProcessNotFound,
        meaning: "The process that must receive a signal does not run in the pod.",
        example: "no such process runs in the pod; check the name with `ps`, and that the application is running",
        action: "See [Application is not notified](#application-is-not-notified).",
    },
    Row {
        reason: Reason::Published,
        meaning: "All required outputs are published.",
        example: "all required outputs are published",
        action: "Nothing.",
    },
    Row {
        reason: Reason::RateLimited,
        meaning: "Vault received too many requests and asked for a delay.",
        example: "failed to read …: Vault answered …: …",
        action: "Check Vault's rate limit quotas.",
    },
    Row {
        reason: Reason::RenderFailed,
        meaning: "An output or mirror cannot be rendered from the source (for example, a key is missing, a value is not base64, or two keys have the same file).",
        example: "failed to render file …: …",
        action: "Correct the secret or the output.",
    },
    Row {
        reason: Reason::Sealed,
        meaning: "Vault is sealed or in maintenance.",
        example: "failed to read …: Vault answered …: …",
        action: "Unseal Vault.",
    },
    Row {
        reason: Reason::SecretDeleted,
        meaning: "The version of the secret is deleted or destroyed.",
        example: "failed to read …: version … …",
        action: "Undelete it, or write a new version.",
    },
    Row {
        reason: Reason::SecretNotFound,
        meaning: "No secret exists at the path.",
        example: "failed to read …: … at this path (requested …; …); check the path and the namespace",
        action: "Check the path and namespace.",
    },
    Row {
        reason: Reason::SeedUnusable,
        meaning: "The seed cannot be used: a file is missing or cannot be read.",
        example: "failed to use seed …: source … is required, but … is missing",
        action: "[Start without Vault](how-to/start-without-vault.md). Check that the Secret exists, is mounted at this path, and contains all required files.",
    },
    Row {
        reason: Reason::Seeded,
        meaning: "Vault could not be reached at the start. The files are those of the seed until they are read from Vault.",
        example: "not read from Vault since the start, so the files are a copy from the seed: …",
        action: "Repair the connection to Vault. keyferry replaces the files as soon as Vault answers.",
    },
    Row {
        reason: Reason::ServerError,
        meaning: "Vault, or a proxy in front of it, returned an error or an unexpected response.",
        example: "failed to parse the response to … (status …, column …): expected JSON as Vault sends it",
        action: "Check Vault, and that the address is a Vault server.",
    },
    Row {
        reason: Reason::SignalDenied,
        meaning: "The kernel does not allow keyferry to send a signal to the process.",
        example: "not permitted, because process … runs as UID … and keyferry as UID …; run both containers with the same UID",
        action: "Run both containers with the same UID.",
    },
    Row {
        reason: Reason::Stale,
        meaning: "The last successful read is older than the staleness tolerance.",
        example: "source … is stale: not read since …",
        action: "Read the log.",
    },
    Row {
        reason: Reason::Superseded,
        meaning: "Another replica has already written a newer version to the Secret.",
        example: "another replica wrote a newer version that this replica has not read yet: …",
        action: "Usually nothing.",
    },
    Row {
        reason: Reason::TlsUnusable,
        meaning: "TLS cannot be set up: a certificate or key file is missing or cannot be used.",
        example: "failed to read the PEM file …: …",
        action: "[Trust a private CA](how-to/trust-a-private-ca.md).",
    },
    Row {
        reason: Reason::TokenExpired,
        meaning: "The Vault token was revoked or has expired.",
        example: "it was revoked or has expired",
        action: "Nothing after a login by keyferry. Replace a supplied token.",
    },
    Row {
        reason: Reason::TokenExpiring,
        meaning: "The supplied Vault token, or the token of leased credentials after `once`, expires soon and cannot be renewed.",
        example: "the supplied Vault token expires at … and cannot be renewed",
        action: "Replace the supplied token before the time in the message.",
    },
    Row {
        reason: Reason::VaultUnreachable,
        meaning: "Vault did not respond.",
        example: "failed to reach Vault at …: …",
        action: "Check the address, network policies, and TLS.",
    },
    Row {
        reason: Reason::WriteFailed,
        meaning: "Files could not be written.",
        example: "failed to publish files to …: …",
        action: "Check the volume and its mount.",
    },
];
