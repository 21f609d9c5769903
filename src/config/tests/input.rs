//! Input that is no valid YAML, or that contains what must not be echoed.

use super::super::environment::Environment;
use super::super::load;
use super::{MINIMAL, rejected};

#[test]
fn invalid_yaml_is_the_only_error_and_has_its_line() {
    // Nine aliases of a list of nine aliases, nested eight times.
    let bomb = (1..9).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        let references = vec![format!("*a{}", n - 1); 9].join(", ");
        format!("{text}a{n}: &a{n} [{references}]\n")
    });
    for (document, line, part) in [
        ("vault:\n  address: a\n  address: b\n", "line 3", "duplicate key `address`"),
        ("vault: {address: a\nlisten: x", "line 2", "invalid YAML"),
        ("a: 1\n---\nb: 2\n", "line", "must be one YAML document, but a second one starts here (`---`)"),
        (&bomb, "line", "too large after YAML aliases (`*name`) are expanded"),
        ("a: *nowhere\n", "line 1", "invalid YAML"),
        ("vault: {\n  a: 'x\n", "line", "invalid YAML"),
    ] {
        let error = rejected(&[], Some(document));
        let text = error.to_string();
        assert_eq!(error.diagnostics.len(), 1, "{text}");
        assert!(text.contains(line) && text.contains(part), "{text}");
    }
    assert!(rejected(&[], Some("just text")).to_string().starts_with("configuration: must be a mapping, not text"));
}

#[test]
fn errors_contain_no_secret() {
    const PLANTED: &str = "hvs.Losungwort";
    let good = [("VAULT_ADDR", "https://v"), ("KEYFERRY_ROLE", "r"), ("KEYFERRY_SECRETS", "secret/a")];
    for document in [
        format!("auth: {{token: {PLANTED}}}"),
        format!("auth: {PLANTED}"),
        format!("auth: [{PLANTED}]"),
        format!("auth: {{method: jwt, tokenFile: {PLANTED}}}"),
        format!("auth: {{method: {PLANTED}}}"),
        format!("auth: {{role: a, mount: '../{PLANTED}/ '}}").replace("hvs.", ""),
        format!("token: {PLANTED}"),
        format!("vault: {{address: 'https://x:{PLANTED}@vault'}}"),
        format!("vault: {{address: {PLANTED}}}"),
        format!("mirrors: {{m: {{annotations: {{keyferry.dev/a: {PLANTED}}}}}}}"),
        format!("auth:\n  token: {PLANTED}\n  token: {PLANTED}\n"),
        format!("auth: {{token: \"{PLANTED}\n"),
        format!("auth: {{token: {PLANTED}: {PLANTED}: x"),
        format!("token: !!int {PLANTED}"),
        format!("token: !!binary {PLANTED}"),
        format!("token: *{PLANTED}"),
        format!("? {{a: {PLANTED}}}\n: x"),
        "Losungwort\n".to_owned(),
        "password=Losungwort\n".to_owned(),
        format!("{PLANTED}: x"),
        format!("auth: {{role: r, {PLANTED}: }}"),
        "? Losungwort ohne Gestalt\n: x".to_owned(),
        format!("Losungwort{}: x", "x".repeat(60)),
        format!("{PLANTED}: x\n{PLANTED}: x\n"),
        "password: Losungwort\n".to_owned(),
        "- Losungwort\n".to_owned(),
    ] {
        let text = rejected(&good, Some(&document)).to_string();
        // A mount is a name, not a credential: it is shown.
        if !document.contains("mount") {
            assert!(!text.contains("Losungwort"), "{document}\n{text}");
        }
    }
    let text = rejected(&[good[0], good[2], ("VAULT_TOKEN", "hvs.Losung wort")], None).to_string();
    assert!(text.starts_with("VAULT_TOKEN: ") && !text.contains("Losung"), "{text}");
}

/// An environment with one variable whose bytes are not UTF-8.
struct Broken(&'static str);

impl Environment for Broken {
    fn get(&self, _: &str) -> Option<String> {
        None
    }

    fn is_unreadable(&self, name: &str) -> bool {
        name == self.0
    }

    fn names(&self) -> Vec<String> {
        vec![self.0.to_owned()]
    }
}

#[test]
fn variable_that_is_not_utf8_is_reported_instead_of_ignored() {
    for name in ["VAULT_TOKEN", "BAO_TOKEN", "KEYFERRY_CONFIG", "VAULT_ADDR", "POD_NAME"] {
        let error = load(&Broken(name), Some(MINIMAL)).err().unwrap_or_else(|| panic!("{name} must be rejected"));
        assert_eq!(error.to_string(), format!("{name}: must be UTF-8 text"));
    }
    assert!(load(&Broken("HTTPS_PROXY"), Some(MINIMAL)).is_ok(), "an unused variable is not read");
}
