//! The README and schema of the chart are generated from its values, and its copies of other files are exact.

use serde_json::Value;

use super::helm::chart;
use super::values;

const BEGIN: &str = "<!-- values: begin -->\n";
const END: &str = "<!-- values: end -->";

fn read(file: &str) -> String {
    std::fs::read_to_string(chart().join(file)).unwrap_or_default()
}

fn assert_current(file: &str, current: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(chart().join(file), current).expect("the chart can be written");
    } else {
        assert!(
            read(file) == current,
            "deploy/chart/{file} is not current; run: UPDATE_DOCS=1 cargo test --test chart docs"
        );
    }
}

fn current() -> (Vec<values::Entry>, Value) {
    let entries = values::entries(&read("values.yaml"));
    let schema = values::schema(&entries, &keyferry::config::schema());
    (entries, schema)
}

#[test]
fn values_schema_is_current() {
    assert_current("values.schema.json", &format!("{:#}\n", current().1));
}

#[test]
fn readme_table_lists_every_value() {
    let (entries, schema) = current();
    let text = read("README.md");
    let (before, rest) = text.split_once(BEGIN).expect("deploy/chart/README.md has the begin mark");
    let (_, after) = rest.split_once(END).expect("deploy/chart/README.md has the end mark");
    assert_current("README.md", &format!("{before}{BEGIN}\n{}\n{END}{after}", values::table(&entries, &schema)));
}

#[test]
fn values_are_described_and_maps_are_closed() {
    fn walk(node: &Value, path: &str) {
        let object = node.get("properties").is_some() || node["type"] == "object";
        // Helm and Kubernetes define these two maps.
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
        assert!(entry.meaning.ends_with('.'), "{} has no comment that describes it", entry.path);
    }
    walk(&schema, "");
}

#[test]
fn chart_policies_equal_deploy_policies() {
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
        assert_current(&format!("policies/{name}"), &text);
    }
    assert!(
        update || names(&directory) == names(&chart().join("policies")),
        "the chart contains a policy that deploy/policies does not contain"
    );
    // A file without a toggle is never rendered.
    let template = read("templates/policies.yaml");
    for name in names(&directory) {
        let name = name.to_string_lossy().replace(".yaml", "");
        assert!(template.contains(&format!("\"{name}\"")), "no toggle renders policies/{name}.yaml");
    }
}

#[test]
fn chart_version_equals_agent_version() {
    let version = env!("CARGO_PKG_VERSION");
    let chart: Value = serde_saphyr::from_str(&read("Chart.yaml")).expect("YAML");
    assert_eq!((chart["version"].as_str(), chart["appVersion"].as_str()), (Some(version), Some(version)));
    let example: Value = serde_saphyr::from_str(&read("examples/webapp/Chart.yaml")).expect("YAML");
    assert_eq!(example["dependencies"][0]["version"], version);
}

#[test]
fn readme_blocks_are_lines_of_the_example_chart() {
    let text = read("README.md");
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split_once("```").expect("a closed block").0).collect();
    let files = ["Chart.yaml", "templates/deployment.yaml", "values.yaml"];
    assert_eq!(blocks.len(), files.len(), "each block needs a file to compare it with");
    for (block, file) in blocks.into_iter().zip(files) {
        // The lines in this order; the example contains further lines.
        let whole = read(&format!("examples/webapp/{file}"));
        let mut rest = whole.lines();
        for line in block.lines() {
            assert!(
                rest.any(|other| other == line),
                "examples/webapp/{file} does not contain this line at this place: {line}"
            );
        }
    }
}
