//! `refreshNow`: the files of the annotations and of the token, and their errors.

use super::diagnostics::with;
use super::{loaded, rejected};
use crate::model::RefreshNow;

fn files(annotations: Option<&str>, token: Option<&str>) -> RefreshNow {
    RefreshNow { annotations_file: annotations.map(Into::into), token_file: token.map(Into::into) }
}

#[test]
fn files_come_from_the_document_or_from_variables() {
    assert_eq!(loaded(&[], Some(&with(""))).refresh_now, RefreshNow::default());
    let document = with("refreshNow: {annotationsFile: /pod/annotations, tokenFile: /refresh/token}\nlisten: ':8250'");
    let both = files(Some("/pod/annotations"), Some("/refresh/token"));
    assert_eq!(loaded(&[], Some(&document)).refresh_now, both);
    let variables = [
        ("KEYFERRY_ANNOTATIONS_FILE", "/pod/annotations"),
        ("KEYFERRY_REFRESH_TOKEN_FILE", "/refresh/token"),
        ("KEYFERRY_LISTEN", ":8250"),
    ];
    assert_eq!(loaded(&variables, Some(&with(""))).refresh_now, both);
    let other = with("refreshNow: {annotationsFile: /other}");
    assert_eq!(loaded(&variables, Some(&other)).refresh_now, files(Some("/other"), Some("/refresh/token")));
    assert_eq!(loaded(&variables[..1], Some(&with(""))).refresh_now, files(Some("/pod/annotations"), None));
}

#[test]
fn each_error_has_its_path_and_its_action() {
    for (document, path, part) in [
        ("refreshNow: 1h", "refreshNow", "must be a mapping"),
        ("refreshNow: {annotationFile: /a}", "refreshNow.annotationFile", "did you mean `annotationsFile`?"),
        ("refreshNow: {annotationsFile: pod}", "refreshNow.annotationsFile", "must be an absolute path"),
        ("refreshNow: {annotationsFile: /etc/../pod}", "refreshNow.annotationsFile", "must be an absolute path"),
        (
            "refreshNow: {annotationsFile: /etc/sensitive/annotations}",
            "refreshNow.annotationsFile",
            "must be outside `directory.path`",
        ),
        ("refreshNow: {tokenFile: /t}", "listen", "is missing, but `refreshNow.tokenFile` requires it"),
        (
            "refreshNow: {tokenFile: /etc/sensitive/token}\nlisten: ':8250'",
            "refreshNow.tokenFile",
            "must be outside `directory.path`",
        ),
        ("refreshNow: {tokenFile: /t}\nlisten: 'localhost:1'", "listen", "an IP address and a port"),
    ] {
        let error = rejected(&[], Some(&with(document)));
        let lines: Vec<_> = error.diagnostics.iter().map(ToString::to_string).collect();
        let found = lines.iter().any(|line| line.starts_with(&format!("{path}: ")) && line.contains(part));
        assert!(found && lines.len() == 1, "{document}: {lines:#?}");
    }
}
