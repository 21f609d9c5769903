//! Sources with a wrapped secret.

use super::diagnostics::with;
use super::{loaded, rejected};
use crate::model::SourceName;

#[test]
fn wrapped_secret_has_file_and_creation_path() {
    let source = "{path: /secret/data/webapp/, wrappingTokenFile: /run/wrapped/webapp}";
    let settings = loaded(&[], Some(&with(&format!("sources: {{app: {source}}}"))));
    let source = &settings.sources[&SourceName::new("app").expect("a name")];
    assert_eq!(source.request_id(), r#"other:secret/data/webapp#wrappingTokenFile="/run/wrapped/webapp""#);
}

#[test]
fn keys_that_describe_a_read_cannot_be_combined_with_a_wrapped_secret() {
    for key in [
        "list: true",
        "mount: sys",
        "engine: kv-v2",
        "version: 3",
        "previous: true",
        "method: write",
        "parameters: {a: b}",
        "overlap: 30s",
        "watchLease: 5m",
    ] {
        let document =
            with(&format!("sources: {{app: {{path: sys/wrapping/wrap, wrappingTokenFile: /run/w, {key}}}}}"));
        let text = rejected(&[], Some(&document)).to_string();
        let name = key.split(':').next().unwrap_or_default();
        let line = format!("sources.app.{name}: cannot be combined with `wrappingTokenFile`");
        assert!(text.contains(&line), "{key}: {text}");
    }
    let text = rejected(&[], Some(&with("sources: {app: {wrappingTokenFile: /run/w}}"))).to_string();
    assert!(text.starts_with("sources.app.path: is missing"), "{text}");
}
