mod golden;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{ExecutionError, execute, inspect};
use crate::model::{Lease, LeaseId, MissingKey, Reading, SecretValue, SourceName, Template, Validity};

/// The reading of a response of Vault.
fn reading(raw: &RawValue) -> Reading {
    let values = |object: &RawValue| -> BTreeMap<String, SecretValue> {
        let raw: BTreeMap<String, &RawValue> = serde_json::from_str(object.get()).expect("an object");
        raw.iter().map(|(key, value)| (key.clone(), SecretValue::from_json(value.get()).expect("JSON"))).collect()
    };
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).expect("an object");
    let response: Value = serde_json::from_str(raw.get()).expect("JSON");
    let data: &RawValue = fields["data"];
    let id = response["lease_id"].as_str().unwrap_or_default();
    let validity = if id.is_empty() {
        Validity::Unlimited
    } else {
        let duration = Duration::from_secs(response["lease_duration"].as_u64().unwrap_or_default());
        Validity::Lease(Lease { id: LeaseId::Id(id.to_owned()), duration, renewable: response["renewable"] == true })
    };
    let inner: BTreeMap<String, &RawValue> = serde_json::from_str(data.get()).unwrap_or_default();
    match (inner.get("data"), inner.get("metadata")) {
        (Some(secret), Some(metadata)) => {
            Reading { data: values(secret), metadata: Some(metadata.get().into()), validity, ..Reading::default() }
        }
        _ => Reading { data: values(data), validity, ..Reading::default() },
    }
}

/// Executes a template with responses of Vault, by path and arguments, separated by line breaks.
fn offline(
    text: &str,
    missing_key: MissingKey,
    responses: &BTreeMap<String, Box<RawValue>>,
) -> Result<Vec<u8>, String> {
    let no_variable = |name: &str| Ok((name == "APP").then(|| "app".to_owned()));
    let found = inspect(text, Template::DELIMITERS, &BTreeSet::new(), &no_variable)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let mut template = Template {
        text: text.to_owned(),
        file: None,
        missing_key,
        delimiters: (Template::DELIMITERS.0.into(), Template::DELIMITERS.1.into()),
        variables: found.variables,
        named: BTreeSet::new(),
        calls: BTreeMap::new(),
        computed: BTreeMap::new(),
    };
    let mut readings = BTreeMap::new();
    let mut wanted = found.calls;
    for _ in 0..4 {
        for call in std::mem::take(&mut wanted) {
            let arguments = call.arguments.iter().map(|(name, value)| format!("\n{name}={value}"));
            let query = call.version.map_or_else(String::new, |version| format!("?version={version}"));
            let mut keys: Vec<&str> = Vec::new();
            let key = format!("{}{query}{}", call.path, arguments.collect::<String>());
            keys.push(&key);
            let sorted = |text: &str| {
                let mut lines: Vec<_> = text.split('\n').map(str::to_owned).collect();
                lines[1..].sort();
                lines
            };
            let answer = responses.iter().find(|(request, _)| sorted(request) == sorted(&key));
            let (_, answer) = answer.ok_or_else(|| format!("no response for {key}"))?;
            let name = SourceName::new(&format!("{:?} {key}", call.function).replace('\n', " ")).expect("a name");
            readings.insert(name.clone(), Arc::new(reading(answer)));
            template.calls.insert(call, name);
        }
        match execute(&template, &readings) {
            Ok(executed) => return Ok(executed.content.expose().to_vec()),
            Err(ExecutionError::Failed(problem)) => return Err(problem.to_string()),
            Err(ExecutionError::Needs(calls)) => wanted = calls,
        }
    }
    Err("too deep".to_owned())
}

/// A secret of KV version 2, and a path with arguments.
fn responses() -> BTreeMap<String, Box<RawValue>> {
    let raw = |json: &str| RawValue::from_string(json.to_owned()).expect("JSON");
    let app = r#"{"data": {"data": {"user": "u", "password": "hunter2", "n": 12345678901234567890, "f": 1.50, "gone": null, "bin": "AP8K",
        "list": ["a", {"k": [1]}]}, "metadata": {"version": 3}}}"#;
    let issue =
        r#"{"data": {"certificate": "C"}, "lease_id": "pki/issue/app/x", "lease_duration": 60, "renewable": false}"#;
    [("secret/data/app", app), ("pki/issue/app\ncommon_name=a\nttl=1h", issue)]
        .map(|(path, json)| (path.to_owned(), raw(json)))
        .into()
}

fn rendered(text: &str) -> Result<String, String> {
    let bytes = offline(text, MissingKey::Error, &responses())?;
    String::from_utf8(bytes).map_err(|error| format!("{:?}", error.into_bytes()))
}

/// Rendered by consul-template 0.41.1.
#[test]
fn values_print_as_in_go() {
    for (text, expected) in [
        (r#"{{ with secret "secret/data/app" }}{{ .Data.data.user }} v{{ .Data.metadata.version }}{{ end }}"#, "u v3"),
        (
            r#"{{ with secret "secret/data/app" }}{{ .Data.data.n }} {{ .Data.data.f }}{{ end }}"#,
            "12345678901234567890 1.50",
        ),
        (r#"{{ with secret "secret/data/app" }}{{ .Data.data.list }}{{ end }}"#, "[a map[k:[1]]]"),
        (
            r#"{{ with secret "secret/data/app" }}{{ toJSON .Data.data.list }} {{ .Data.data.f | toJSON }}{{ end }}"#,
            r#"["a",{"k":[1]}] 1.50"#,
        ),
        (r#"{{ with secret "secret/data/app" }}{{ if eq .Data.data.f "1.50" }}same{{ end }}{{ end }}"#, "same"),
        (
            r#"{{ with secret "pki/issue/app" "ttl=1h" "common_name=a" }}{{ .Data.certificate }}{{ .LeaseDuration }}{{ end }}"#,
            "C60",
        ),
        (r#"{{ scratch.MapSet "m" "k" 1 }}{{ (scratch.Get "m").k }}{{ scratch.Key "x" }}"#, "1false"),
        (r#"{{ define "x" }}<{{ . }}>{{ end }}{{ template "x" 1 }}{{ executeTemplate "x" "a" | toUpper }}"#, "<1><A>"),
        (
            r#"{{ print 1 2 "a" 3 }} {{ printf "%5.2f|%-4s|%q|%x" 1.5 "a" "b" "c" }} {{ multiply 1.5 2000000 }}"#,
            "1 2a3  1.50|a   |\"b\"|63 3e+06",
        ),
    ] {
        assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
    }
    let binary = offline(
        r#"{{ with secret "secret/data/app" }}{{ .Data.data.bin | base64Decode }}{{ end }}"#,
        MissingKey::Error,
        &responses(),
    );
    assert_eq!(binary.as_deref(), Ok(&b"\0\xff\n"[..]));
}

#[test]
fn errors_name_the_place_and_no_value() {
    for (text, expected) in [
        (
            "{{ with secret \"secret/data/app\" }}\n {{ .Data.data.usr }}{{ end }}",
            "line 2, column 5: secret secret/data/app has no key \"usr\"; correct the key, or set the output's `missingKey: \
             default`",
        ),
        (
            r#"{{ with secret "secret/data/app" }}{{ .Data.data.gone }}{{ end }}"#,
            "line 1, column 39: the action has no value (null, or a missing key); test the value with `if`, or set the \
             output's `missingKey: default`",
        ),
        (
            r#"{{ with secret "secret/data/app" }}{{ .Data.data.n | toUpper }}{{ end }}"#,
            "line 1, column 39: toUpper: argument 1 must be text, not a number of Vault; convert it with `print`",
        ),
        (
            r#"{{ with secret "secret/data/app" }}{{ .Data.data.user.x }}{{ end }}"#,
            "line 1, column 39: can't evaluate field x in type string; if the text is JSON, convert it with `parseJSON`",
        ),
        (
            r#"{{ with secret "secret/data/app" }}{{ .Data.user }}{{ end }}"#,
            "line 1, column 39: secret secret/data/app has no key \"user\"; the keys of KV version 2 are in `.Data.data`: \
             write `.Data.data.user`",
        ),
        (r"{{ range $x := loop 1000000 }}{{ end }}", "line 1, column 4: loop: the loop has more than 100000 steps"),
        (
            r#"{{ $x := "aaaaaaaa" }}{{ range loop 60 }}{{ $x = print $x $x }}{{ end }}"#,
            "line 1, column 45: print: the functions of the template return more than 16 MiB",
        ),
        (
            r#"{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}"#,
            "line 1, column 20: templates and blocks are nested too deeply",
        ),
        (
            r#"{{ define "x" }}{{ executeTemplate "x" }}{{ end }}{{ executeTemplate "x" }}"#,
            "line 1, column 20: executeTemplate: its calls are nested more than 20 times",
        ),
    ] {
        assert_eq!(rendered(text).err().as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn missing_key_has_no_value_if_it_is_not_an_error() {
    let text = r#"{{ with secret "secret/data/app" }}{{ .Data.data.usr }}{{ if .Data.data.usr }}x{{ end }}{{ end }}"#;
    assert_eq!(offline(text, MissingKey::Default, &responses()).as_deref(), Ok(&b"<no value>"[..]));
}

#[test]
fn template_over_many_sources_is_rendered() {
    let mut responses = responses();
    let app = responses["secret/data/app"].clone();
    let text: String = (0..50)
        .map(|n| {
            responses.insert(format!("secret/data/s{n}"), app.clone());
            format!("{{{{ with secret \"secret/data/s{n}\" }}}}user{n}={{{{ .Data.data.user }}}}\n{{{{ end }}}}")
        })
        .collect();
    let content = offline(&text, MissingKey::Error, &responses).expect("content");
    assert_eq!(String::from_utf8_lossy(&content).lines().count(), 50);
}

#[test]
fn errors_contain_no_value_that_is_used_as_a_name() {
    for call in [
        "meta $s",
        "scratch.Set $s 1 }}{{ scratch.MapSet $s `k` 1",
        "index . $s",
        "index (sprig_dict `a` 1) $s",
        "index (slice `abc` 1) (len $s)",
        "printf $s 1 2 3",
        "regexMatch (print `(` $s) `x`",
        "timestamp $s",
        "parseInt $s",
        "parseJSON (print `{` $s)",
        "parseYAML (print `a: [` $s)",
        "base64Decode (print $s `!`)",
        "sprig_fail $s",
        "add $s 1",
        "secret $s `x`",
        "secrets $s `x`",
        "secret (print `?` $s)",
        "sprig_toDecimal $s",
        "sprig_atoi $s",
        "sprig_mustRegexMatch (print `(` $s) `x`",
        "sprig_urlParse (print `:` $s)",
        "sprig_duration $s",
        "sprig_get (sprig_dict) $s | toUpper",
        "sprig_dig $s `x` (sprig_dict)",
        "eq $s 1",
        "slice $s 3 1",
        "$s.x",
        "index $s 4711",
        "hmacSHA256Hex $s",
        "mustEnv `NONE`",
        "byKey $s",
        "join $s 1",
        "sprig_semverCompare $s $s",
        "parseBool $s",
        "parseFloat $s",
        "parseUint $s",
        "toTitle 1 $s",
        "replaceAll $s",
        "loop $s",
        "executeTemplate `x` $s",
    ] {
        let text = format!(
            "{{{{ define `x` }}}}{{{{ .a.b }}}}{{{{ end }}}}{{{{ with secret \"secret/data/app\" }}}}\
             {{{{ $s := .Data.data.password }}}}{{{{ {call} }}}}{{{{ end }}}}"
        );
        if let Err(message) = rendered(&text) {
            assert!(!message.contains("hunter2"), "{call}: {message}");
        }
    }
}

#[test]
fn template_that_never_ends_is_stopped() {
    let started = std::time::Instant::now();
    for text in [
        "{{ $x := sprig_repeat 1000000 `a` }}{{ range loop 40000 }}{{ if contains `b` $x }}{{ end }}{{ end }}",
        "{{ $x := sprig_repeat 1000000 `a` }}{{ range loop 40000 }}{{ $y := sha256Hex $x }}{{ end }}",
        "{{ $x := sprig_repeat 1000000 `a` }}{{ range loop 40000 }}{{ if regexMatch `(a|b)*c` $x }}{{ end }}{{ end }}",
    ] {
        let message = rendered(text).expect_err("stopped");
        assert!(message.contains("read more than 128 MiB"), "{message}");
    }
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    let wide = "{{ printf `%1000000d` (sprig_list 1 2 3 4 5 6 7 8 9) }}";
    assert!(rendered(wide).expect_err("too wide").contains("it prints more than 4 MiB"));
    let chain = format!("{{{{ if false }}}}{}{{{{ end }}}}", "{{ else if false }}".repeat(100_000));
    assert!(rendered(&chain).expect_err("too long").contains("more than 200 `else if` in a chain"));
}
