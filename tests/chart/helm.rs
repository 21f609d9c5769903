//! Helm, on a copy of the chart: Helm writes next to the charts that it builds, and the checkout must stay unchanged.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::testbed::watchdog::Watchdog;
use crate::testbed::{binaries, skipped};

/// A Kubernetes version with all features that the chart uses.
pub const NEWEST: &str = "1.37.0";
/// A Kubernetes version without native sidecars.
pub const OLD: &str = "1.28.0";

/// The chart in this checkout.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/chart")
}

/// The chart to render.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// keyferry's chart: the objects of the namespace.
    Keyferry,
    /// The example chart that depends on it.
    Webapp,
}

/// Helm with copies of the charts.
pub struct Helm {
    program: PathBuf,
    /// Removes the copies. A `TempDir` in a static would not be dropped.
    watchdog: Watchdog,
}

static HELM: OnceLock<Result<Helm, String>> = OnceLock::new();

impl Helm {
    /// Finds or builds Helm on the first call. Returns `None`, and prints that the test is skipped, if `KEYFERRY_SKIP_SERVERS`
    /// is set.
    ///
    /// # Panics
    /// If Helm can be neither found nor built.
    pub fn shared(test: &str) -> Option<&'static Self> {
        if skipped(test) {
            return None;
        }
        let helm = HELM.get_or_init(|| Self::new().map_err(|error| format!("{error:#}")));
        Some(helm.as_ref().unwrap_or_else(|error| panic!("failed to prepare helm: {error}")))
    }

    fn new() -> Result<Self> {
        let helm = Self { program: binaries::find_or_build("helm")?, watchdog: Watchdog::start()? };
        copy(&chart(), &helm.watchdog.directory.join("chart"))?;
        let webapp = helm.path(Of::Webapp);
        // The dependency is in a local directory, so this needs no network.
        let built = helm.run(&["dependency", "build", &webapp])?;
        ensure!(built.status.success(), "failed to build the example's dependency: {}", text_of(&built));
        Ok(helm)
    }

    /// Directory of the chart's copy.
    pub fn path(&self, of: Of) -> String {
        let own = self.watchdog.directory.join("chart");
        match of {
            Of::Keyferry => own.display().to_string(),
            Of::Webapp => own.join("examples/webapp").display().to_string(),
        }
    }

    /// Runs Helm without the user's settings and repositories.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.watchdog.directory);
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(home, self.watchdog.directory.join("home"));
        }
        command.output().context("failed to run helm")
    }

    /// Writes a scenario's values for this chart to a file; returns its path.
    pub fn values(&self, of: Of, scenario: &str) -> Result<String> {
        let text = std::fs::read_to_string(chart().join(format!("ci/{scenario}-values.yaml")))?;
        let text = match of {
            Of::Keyferry => text,
            Of::Webapp => {
                let indented: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
                format!("keyferry:\n{}\n", indented.join("\n"))
            }
        };
        let file = self.watchdog.directory.join(format!("{scenario}-{of:?}.yaml"));
        // Rename a complete file, because tests run in parallel.
        let unique = tempfile::NamedTempFile::new_in(&self.watchdog.directory)?;
        std::fs::write(unique.path(), text)?;
        unique.persist(&file)?;
        Ok(file.display().to_string())
    }

    /// Renders a scenario into a namespace.
    pub fn scenario(&self, of: Of, scenario: &str, namespace: &str) -> Result<Vec<Value>> {
        let values = self.values(of, scenario)?;
        let version = if scenario == "classic" { OLD } else { NEWEST };
        self.render(of, namespace, version, &["--values", &values])
    }

    /// Renders a chart with these arguments.
    pub fn render(&self, of: Of, namespace: &str, version: &str, arguments: &[&str]) -> Result<Vec<Value>> {
        let path = self.path(of);
        let mut all = vec!["template", "rel", &path, "--namespace", namespace, "--kube-version", version];
        all.extend(arguments);
        let output = self.run(&all)?;
        ensure!(output.status.success(), "{}", text_of(&output));
        let objects: Vec<Value> = serde_saphyr::from_multiple(std::str::from_utf8(&output.stdout)?)?;
        Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
    }
}

/// The output of a program, stdout and stderr.
pub fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Names of the scenarios in `ci/`.
pub fn scenarios() -> Vec<String> {
    let entries = std::fs::read_dir(chart().join("ci")).expect("deploy/chart/ci is readable");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.map(|name| name.strip_suffix("-values.yaml").expect("ci/ holds values").to_owned()).collect();
    names.sort();
    names
}

/// The only object of a kind.
///
/// # Panics
/// If there is not exactly one.
pub fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<_> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}: {objects:#?}");
    found[0]
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        // Files of an earlier `helm dependency build` can be outdated.
        if entry.file_name() == "charts" || entry.file_name() == "Chart.lock" {
            continue;
        }
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
