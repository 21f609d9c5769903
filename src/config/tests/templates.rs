//! `outputs[].template`: the sources that it reads, and its mistakes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::{TemplateFiles, load_with, template_files};
use super::{environment, loaded, rejected};
use crate::model::{MissingKey, OutputKind, RequestMethod, Settings, SourceName, Template};

fn document(outputs: &str) -> String {
    format!(
        "vault: {{address: 'https://vault:8200'}}\nauth: {{role: webapp}}\n\
         sources: {{app: {{path: secret/app}}, db: {{path: database/creds/app}}}}\noutputs:\n{outputs}"
    )
}

fn template(settings: &Settings, index: usize) -> &Template {
    let OutputKind::Template { template, .. } = &settings.outputs[index].kind else { panic!("a template") };
    template
}

fn sources(settings: &Settings, index: usize) -> Vec<String> {
    settings.outputs[index].sources().iter().map(SourceName::to_string).collect()
}

/// The messages for these outputs, without the key path.
fn messages(outputs: &str) -> Vec<String> {
    let error = rejected(&[], Some(&document(outputs)));
    error.diagnostics.iter().map(|diagnostic| format!("{}: {}", diagnostic.path, diagnostic.message)).collect()
}

#[test]
fn template_reads_sources_by_name_and_by_path() {
    let settings = loaded(
        &[],
        Some(&document(
            r#"
- file: app.ini
  template: |
    user={{ .db.username }}
    {{ with secret "secret/data/app" }}{{ .Data.data.password }}{{ end }}
    {{ with secret "pki/issue/app" "common_name=app.example.test" "ttl=24h" }}{{ .Data.certificate }}{{ end }}
- file: key.pem
  template: '{{ with secret "pki/issue/app" "ttl=24h" "common_name=app.example.test" }}{{ .Data.private_key }}{{ end }}'
  missingKey: default
  mode: "0400"
- file: names
  template: '{{ range secrets "secret/apps/" }}{{ . }} {{ end }}{{ $.app.password }}'
"#,
        )),
    );
    let certificate = sources(&settings, 1).pop().expect("a source");
    assert!(certificate.starts_with("pki/issue/app#"), "{certificate}");
    // `secret/data/app` is the source `app`.
    assert_eq!(sources(&settings, 0), ["app", "db", certificate.as_str()]);
    assert_eq!(sources(&settings, 2), ["app", "secret/apps/"]);
    let source = &settings.sources[&SourceName::new(&certificate).expect("a name")];
    assert_eq!((source.method, source.path.as_str()), (RequestMethod::Write, "pki/issue/app"));
    assert_eq!(settings.sources[&SourceName::new("secret/apps/").expect("a name")].method, RequestMethod::List);
    assert_eq!(settings.sources.len(), 4);
    assert_eq!(template(&settings, 1).missing_key, MissingKey::Default);
}

#[test]
fn constant_paths_are_found() {
    let text = r#"
- file: a
  template: '{{ with secret (printf "secret/%s" (env "APP_NAME")) }}{{ end }}{{ with "kv/x" | secret }}{{ end }}{{ env "GONE" }}'
"#;
    let settings = loaded(&[("APP_NAME", "web")], Some(&document(text)));
    assert_eq!(sources(&settings, 0), ["kv/x", "secret/web"]);
    assert_eq!(template(&settings, 0).variables, BTreeMap::from([("APP_NAME".to_owned(), "web".to_owned())]));
}

#[test]
fn configuration_without_sources_is_valid_with_a_template() {
    let text =
        "vault: {address: 'https://v'}\nauth: {role: r}\noutputs: [{file: a, template: '{{ secret \"kv/a\" }}'}]";
    assert_eq!(loaded(&[], Some(text)).sources.len(), 1);
}

#[test]
fn mistakes_of_templates_are_reported_at_once() {
    assert_eq!(
        messages(
            r#"
- file: a
  template: |
    {{ .app.password | quote }}
    {{ .ap.password }}{{ $x }}
    {{ with secret "secret/app" }}{{ .Data.data.a }}
- file: b
  template: "{{ with secret \"a/b\" }}{{ .Data.data.a-b }}{{ end }}"
- file: c
  source: app
  key: x
  template: '{{ .app.a }}{{ env "VAULT_TOKEN" }}{{ key "x" }}'
- template: 'no secret'
- file: d
  templateFile: /gone.tmpl
- file: e
  source: app
  format: json
  missingKey: default
"#
        ),
        [
            "outputs[0].template: line 3, column 4: `with` without an `end`; add {{ end }} after its content",
            "outputs[1].template: line 1, column 39: field .a-b contains a dash, which Go does not allow; write: index \
             .Data.data \"a-b\"",
            "outputs[2].source: cannot be combined with a template, which names its sources; remove it",
            "outputs[2].key: cannot be combined with a template; remove it",
            "outputs[2].template: line 1, column 16: a template must not read the credential in VAULT_TOKEN; remove it",
            "outputs[2].template: line 1, column 39: function key reads Consul, which keyferry does not; use a tool for \
             Consul",
            "outputs[3].file: is missing; set it to the path of the file, like \"app.ini\"",
            "outputs[3].template: reads no secret; put a file without secrets into a ConfigMap",
            "outputs[4].templateFile: has not been read",
            "outputs[5].missingKey: requires `template` or `templateFile`; set one of them, or remove this",
        ]
    );
    assert_eq!(
        messages("- file: a\n  template: \"{{ .app.password | quote }}\\n{{ .ap.password }}{{ $x }}{{ toJsno . }}\""),
        [
            "outputs[0].template: line 1, column 20: function quote is a function of Helm; use `toJSON` or `sprig_quote`",
            "outputs[0].template: line 2, column 4: .ap must be a name in `sources`; did you mean `.app`?",
            "outputs[0].template: line 2, column 22: variable $x is not defined; declare it with $x := before its use",
            "outputs[0].template: line 2, column 30: function toJsno does not exist; did you mean `toJSON`?",
        ]
    );
}

#[test]
fn template_file_is_read_by_the_caller() {
    let path = PathBuf::from("/etc/keyferry/a.tmpl");
    let text = document("- file: a\n  templateFile: /etc/keyferry/a.tmpl\n  delimiters: ['[[', ']]']\n");
    assert_eq!(template_files(Some(&text)), [path.clone()].into());
    let load = |content: Result<&str, &str>| {
        let files: TemplateFiles = [(path.clone(), content.map(str::to_owned).map_err(str::to_owned))].into();
        load_with(&environment(&[]), Some(&text), &files)
    };
    let settings = load(Ok("[[ .app.password ]]{{ }}")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((sources(&settings, 0), template(&settings, 0).file.as_ref()), (vec!["app".to_owned()], Some(&path)));
    let Err(error) = load(Ok("[[ .app.password")) else { panic!("not closed") };
    assert!(error.to_string().starts_with("outputs[0].templateFile: line 1, column"), "{error}");
    let Err(error) = load(Err("failed to read template file /etc/keyferry/a.tmpl: denied")) else {
        panic!("unreadable")
    };
    assert!(error.to_string().contains("denied"), "{error}");
}

#[test]
fn template_file_is_outside_the_output_directory() {
    let text = document("- file: a\n  templateFile: /secrets/a\n") + "directory: {path: /secrets}\n";
    let files: TemplateFiles = [(PathBuf::from("/secrets/a"), Ok("{{ .app.password }}".to_owned()))].into();
    let Err(error) = load_with(&environment(&[]), Some(&text), &files) else { panic!("its own template") };
    assert!(error.to_string().contains("must be outside `directory.path`"), "{error}");
}

#[test]
fn refresh_of_the_environment_applies_to_the_sources_that_a_template_adds() {
    let document =
        document("- {file: a, template: '{{ with secret \"secret/data/other\" }}{{ end }}{{ .app.password }}'}");
    let settings = loaded(&[("KEYFERRY_REFRESH", "2h")], Some(&document));
    assert!(
        settings.sources.values().all(|source| source.refresh.as_secs() == 7200 && source.max_stale >= source.refresh)
    );
    assert_eq!(settings.call_defaults.refresh.as_secs(), 7200);
    let error = rejected(&[("KEYFERRY_REFRESH", "fast")], Some(&document));
    assert_eq!(error.diagnostics.len(), 1, "{error}");
}
