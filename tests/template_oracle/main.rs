//! keyferry's templates in comparison with consul-template, the engine of the Vault Agent: the cases of
//! `tests/integration/templates`, and generated templates with generated data.
#![allow(unreachable_pub, reason = "modules of one test")]
#![allow(clippy::disallowed_methods, reason = "tests read files and the environment")]

mod expressions;
mod functions;
mod generator;
mod keyferry;
mod shape;
#[path = "../support/template_cases.rs"]
mod template_cases;
#[path = "../testbed/mod.rs"]
mod testbed;

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use generator::{Node, Pair, pair, print, smaller};
use template_cases::{ENGINE_EXISTS, ENVIRONMENT, Expect, TemplateCase, cases, readable, secrets};
use testbed::consul_template::{ConsulTemplate, Job, Responses, kv2_response, response};
use testbed::{pki, skipped};

/// Number of generated pairs; `TEMPLATE_PAIRS` sets another.
const PAIRS: u64 = 2000;

/// Largest share of pairs that both engines refuse, in percent: a refused template compares nothing but the refusal.
const LARGEST_REFUSED: u64 = 20;

const NOW: &str = "2026-02-03T04:05:06Z";

type Rendered = Result<Vec<u8>, String>;

#[test]
fn cases_render_as_consul_template_renders_them() -> Result<()> {
    if skipped("cases_render_as_consul_template_renders_them") {
        return Ok(());
    }
    let (mut oracle, secrets) = (ConsulTemplate::start()?, responses()?);
    let mut differences = String::new();
    for case in cases()? {
        let job = Job {
            template: &case.template,
            missing_error: case.missing_error,
            secrets: &secrets,
            env: &ENVIRONMENT,
            now: NOW,
        };
        let theirs = oracle.render(&job)?;
        // Some functions that keyferry refuses need more than the responses of Vault.
        if case.expect != Expect::Stricter && theirs.is_ok() != case.expect.is_rendered_by_agent() {
            writeln!(differences, "{}: the case expects {:?}, but {}", case.name, case.expect, described(&theirs))?;
        }
        if ENGINE_EXISTS && !is_as_expected(&case, &theirs, &keyferry::render(&job)) {
            let ours = keyferry::render(&job);
            writeln!(
                differences,
                "{}\n  template: {}\n  theirs: {}\n  ours:   {}",
                case.name,
                case.template,
                described(&theirs),
                described(&ours)
            )?;
        }
    }
    ensure!(differences.is_empty(), "\n{differences}");
    Ok(())
}

fn is_as_expected(case: &TemplateCase, theirs: &Rendered, ours: &Rendered) -> bool {
    match (case.expect, theirs, ours) {
        (Expect::Same, Ok(theirs), Ok(ours)) => theirs == ours,
        (Expect::Stricter | Expect::Error, _, Err(_)) | (Expect::Lenient, _, Ok(_)) => true,
        _ => false,
    }
}

/// Run one pair again with `TEMPLATE_SEED=<seed> TEMPLATE_PAIRS=1`. `TEMPLATE_REPORTS` sets the number of reports.
#[test]
fn generated_templates_render_as_consul_template_renders_them() -> Result<()> {
    if skipped("generated_templates_render_as_consul_template_renders_them") {
        return Ok(());
    }
    let variable = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is not a number")),
        Err(_) => Ok(default),
    };
    let (first, count) = (variable("TEMPLATE_SEED", 1)?, variable("TEMPLATE_PAIRS", PAIRS)?);
    let mut oracle = ConsulTemplate::start()?;
    let reports = variable("TEMPLATE_REPORTS", 1)?;
    let (mut refused, mut stricter, mut different, mut text) = (0, 0, 0, String::new());
    for seed in first..first + count {
        let pair = pair(seed);
        let (theirs, ours) = both(&mut oracle, &pair, &pair.nodes)?;
        refused += u64::from(theirs.is_err() && (ours.is_err() || !ENGINE_EXISTS));
        if !ENGINE_EXISTS {
            continue;
        }
        stricter += u64::from(is_stricter(&pair, &theirs, &ours));
        if !agree(&pair, &theirs, &ours) {
            if different < reports {
                writeln!(text, "{}\n", report(&mut oracle, seed, &pair)?)?;
            }
            different += 1;
        }
    }
    ensure!(different == 0, "{different} of {count} pairs differ\n{text}");
    println!(
        "{count} pairs: {refused} refused by both, {stricter} refused by keyferry alone for a missing value or an error of printf"
    );
    ensure!(
        count < 100 || refused * 100 < count * LARGEST_REFUSED,
        "too many templates are refused: {refused} of {count}"
    );
    Ok(())
}

/// Both engines' results for these nodes with the data of the pair.
fn both(oracle: &mut ConsulTemplate, pair: &Pair, nodes: &[Node]) -> Result<(Rendered, Rendered)> {
    let mut secrets = Responses::new();
    for (path, data) in &pair.data {
        let body = if path.contains("/data/") { kv2_response(data, 1)? } else { response(data, "", 2_764_800)? };
        secrets.insert((*path).to_owned(), body);
    }
    let template = print(nodes);
    let job = Job { template: &template, missing_error: pair.missing_error, secrets: &secrets, env: &[], now: NOW };
    Ok((oracle.render(&job)?, keyferry::render(&job)))
}

/// A value that is not there is an error for keyferry where the Vault Agent writes `<no value>`.
fn is_stricter(pair: &Pair, theirs: &Rendered, ours: &Rendered) -> bool {
    let has_no_value = |output: &Vec<u8>| String::from_utf8_lossy(output).to_lowercase().contains("<no value>");
    // Go writes the errors of `printf` into the output, which can be an argument of another function.
    let is_of_printf = ours.as_ref().is_err_and(|message| message.contains(": printf: "));
    ours.is_err() && (is_of_printf || theirs.as_ref().is_ok_and(|theirs| pair.missing_error && has_no_value(theirs)))
}

/// The output without the size of integers: `sprig_kindOf` does not distinguish `int` and `int64`.
fn without_sizes(output: &[u8]) -> String {
    String::from_utf8_lossy(output).replace("int64", "int")
}

fn agree(pair: &Pair, theirs: &Rendered, ours: &Rendered) -> bool {
    let equal = match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => theirs == ours || without_sizes(theirs) == without_sizes(ours),
        (Err(_), Err(_)) => true,
        _ => false,
    };
    equal || is_stricter(pair, theirs, ours)
}

/// The smallest template that differs in the same way, its data, and both results.
fn report(oracle: &mut ConsulTemplate, seed: u64, pair: &Pair) -> Result<String> {
    let mut nodes = pair.nodes.clone();
    let (mut theirs, mut ours) = both(oracle, pair, &nodes)?;
    'smaller: loop {
        for candidate in smaller(&nodes).into_iter().filter(|candidate| !candidate.is_empty()) {
            let (one, other) = both(oracle, pair, &candidate)?;
            if !agree(pair, &one, &other) && kind(&one) == kind(&theirs) && kind(&other) == kind(&ours) {
                (nodes, theirs, ours) = (candidate, one, other);
                continue 'smaller;
            }
        }
        break;
    }
    Ok(format!(
        "in its smallest form (TEMPLATE_SEED={seed}, missing key is an error: {}):\n\
         template: {:?}\n          {}\ndata:     {} {}\n          {} {}\ntheirs:   {}\nours:     {}",
        pair.missing_error,
        print(&nodes),
        print(&nodes),
        pair.data[0].0,
        pair.data[0].1,
        pair.data[1].0,
        pair.data[1].1,
        described(&theirs),
        described(&ours)
    ))
}

/// The message of an error without its place: another message is another difference.
fn kind(result: &Rendered) -> Option<String> {
    let letters = |error: &String| error.chars().filter(|c| !c.is_ascii_digit()).collect();
    result.as_ref().err().map(letters)
}

fn described(result: &Rendered) -> String {
    match result {
        Ok(output) => format!("\"{}\"", readable(output)),
        Err(error) => format!("error: {error}"),
    }
}

/// The responses that the cases read, as a real Vault gives them.
fn responses() -> Result<Responses> {
    let mut all = Responses::new();
    for (path, data) in secrets()? {
        let data = data.get();
        match path.strip_prefix("secret/data/") {
            Some("app") => {
                all.insert(format!("{path}?version=2"), kv2_response(data, 2)?);
                all.insert("secret/app".to_owned(), kv2_response(data, 3)?);
                all.insert(path, kv2_response(data, 3)?);
            }
            Some(rest) => {
                all.insert(format!("secret/{rest}"), kv2_response(data, 1)?);
                all.insert(path, kv2_response(data, 1)?);
            }
            None if path.starts_with("leased/") => {
                all.insert(path, response(data, "leased/app/T1xZ", 60)?);
            }
            None => {
                all.insert(path, response(data, "", 2_764_800)?);
            }
        }
    }
    for path in ["secret/apps/", "secret/metadata/apps"] {
        all.insert(path.to_owned(), response("{\"keys\":[\"deep/\",\"one\",\"two\"]}", "", 0)?);
    }
    let directory = tempfile::tempdir()?;
    let authority = pki::Authority::new("template test CA", directory.path())?;
    let issued = authority.issue("app", "app.example.test", None, &["app.example.test"])?;
    let read = |file: &std::path::Path| std::fs::read_to_string(file).map(|text| text.trim_end().to_owned());
    let certificate = json!({
        "certificate": read(&issued.certificate)?,
        "private_key": read(&issued.key)?,
        "issuing_ca": read(&authority.file)?,
        "ca_chain": [read(&authority.file)?],
        "serial_number": "11:22",
        "expiration": 1_893_456_000,
        "private_key_type": "ec",
    });
    for arguments in [
        "common_name=app.example.test\nttl=24h",
        "common_name=app.example.test\nalt_names=a.example.test\nip_sans=127.0.0.1",
        "common_name=b.example.test",
    ] {
        all.insert(format!("pki/issue/app\n{arguments}"), response(&certificate.to_string(), "", 0)?);
    }
    let authority = json!({"certificate": read(&authority.file)?, "revocation_time": 0});
    all.insert("pki/cert/ca".to_owned(), response(&authority.to_string(), "", 0)?);
    let plaintext = "{\"plaintext\":\"aGVsbG8=\"}";
    all.insert("transit/decrypt/app\nciphertext=CIPHERTEXT".to_owned(), response(plaintext, "", 0)?);
    Ok(all)
}
