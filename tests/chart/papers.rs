//! What is written beside the templates is made from the same source as they are, or the same as elsewhere.

use serde_json::Value;

use super::helm::chart;
use super::values;

const BEGIN: &str = "<!-- values: begin -->\n";
const END: &str = "<!-- values: end -->";

fn read(file: &str) -> String {
    std::fs::read_to_string(chart().join(file)).unwrap_or_default()
}

fn must_be(file: &str, current: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(chart().join(file), current).expect("the chart can be written");
    } else {
        assert!(
            read(file) == current,
            "deploy/chart/{file} is not current; run: UPDATE_DOCS=1 cargo test --test chart papers"
        );
    }
}

fn current() -> (Vec<values::Entry>, Value) {
    let entries = values::entries(&read("values.yaml"));
    let schema = values::schema(&entries, &keyferry::config::schema());
    (entries, schema)
}

#[test]
fn the_schema_of_the_values_is_current() {
    must_be("values.schema.json", &format!("{:#}\n", current().1));
}

#[test]
fn the_readme_has_every_value_and_no_other() {
    let (entries, schema) = current();
    let text = read("README.md");
    let (before, rest) = text.split_once(BEGIN).expect("deploy/chart/README.md has the begin mark");
    let (_, after) = rest.split_once(END).expect("deploy/chart/README.md has the end mark");
    must_be("README.md", &format!("{before}{BEGIN}\n{}\n{END}{after}", values::table(&entries, &schema)));
}

#[test]
fn every_value_is_explained_and_every_map_is_closed() {
    fn walk(node: &Value, path: &str) {
        let object = node.get("properties").is_some() || node["type"] == "object";
        // Two maps of Helm's and Kubernetes' own.
        if object && !["global", "env[].valueFrom"].contains(&path) {
            assert!(node.get("additionalProperties").is_some(), "{path} is open");
        }
        for (name, inner) in node["properties"].as_object().into_iter().flatten() {
            walk(inner, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") });
        }
        let items = node.get("items").into_iter();
        for inner in items.chain(node["items"]["anyOf"].as_array().into_iter().flatten()) {
            walk(inner, &format!("{path}[]"));
        }
    }
    let (entries, schema) = current();
    assert!(entries.len() > 40, "only {} values were found", entries.len());
    for entry in &entries {
        assert!(entry.meaning.ends_with('.'), "{} has no comment that explains it", entry.path);
    }
    walk(&schema, "");
}

#[test]
fn the_policies_in_the_chart_are_those_of_deploy() {
    let directory = chart().join("../policies");
    let names = |directory: &std::path::Path| {
        let entries = std::fs::read_dir(directory).expect("policies are readable");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    for name in names(&directory) {
        let name = name.to_string_lossy().into_owned();
        let text = std::fs::read_to_string(directory.join(&name)).expect("a policy");
        must_be(&format!("policies/{name}"), &text);
    }
    assert!(
        update || names(&directory) == names(&chart().join("policies")),
        "the chart has a policy that deploy has not"
    );
    // A file that no toggle names would never be rendered.
    let template = read("templates/policies.yaml");
    for name in names(&directory) {
        let name = name.to_string_lossy().replace(".yaml", "");
        assert!(template.contains(&format!("\"{name}\"")), "no toggle renders policies/{name}.yaml");
    }
}

#[test]
fn the_chart_has_the_version_of_the_agent() {
    let version = env!("CARGO_PKG_VERSION");
    let chart: Value = serde_saphyr::from_str(&read("Chart.yaml")).expect("YAML");
    assert_eq!((chart["version"].as_str(), chart["appVersion"].as_str()), (Some(version), Some(version)));
    let example: Value = serde_saphyr::from_str(&read("examples/webapp/Chart.yaml")).expect("YAML");
    assert_eq!(example["dependencies"][0]["version"], version);
}

#[test]
fn what_the_readme_shows_is_in_the_example() {
    let text = read("README.md");
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split_once("```").expect("a closed block").0).collect();
    let files = ["Chart.yaml", "templates/deployment.yaml", "values.yaml"];
    assert_eq!(blocks.len(), files.len(), "the test does not know what each block is from");
    for (block, file) in blocks.into_iter().zip(files) {
        // In this order; the example has more.
        let whole = read(&format!("examples/webapp/{file}"));
        let mut rest = whole.lines();
        for line in block.lines() {
            assert!(rest.any(|other| other == line), "examples/webapp/{file} has no such line, or not here: {line}");
        }
    }
}
