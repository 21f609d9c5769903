//! Helm, on a copy of the chart: it writes beside the charts that it builds, and the checkout must stay as it is.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::testbed::watchdog::Watchdog;
use crate::testbed::{binaries, skipped};

/// A Kubernetes that has all that the chart may use.
pub const NEWEST: &str = "1.37.0";
/// One without native sidecars.
pub const OLD: &str = "1.28.0";

/// The chart in this checkout.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/chart")
}

/// Which chart is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// keyferry's own: the parts of the namespace.
    Keyferry,
    /// The example that depends on it.
    Webapp,
}

/// Helm with its charts.
pub struct Helm {
    program: PathBuf,
    /// Removes what it wrote: a `TempDir` in a static would stay.
    watchdog: Watchdog,
}

static HELM: OnceLock<Result<Helm, String>> = OnceLock::new();

impl Helm {
    /// Found or built by whoever asks first. `None` where the user wants no servers, which is said.
    ///
    /// # Panics
    /// If it can be neither found nor built.
    pub fn shared(test: &str) -> Option<&'static Self> {
        if skipped(test) {
            return None;
        }
        let helm = HELM.get_or_init(|| Self::new().map_err(|error| format!("{error:#}")));
        Some(helm.as_ref().unwrap_or_else(|error| panic!("no helm: {error}")))
    }

    fn new() -> Result<Self> {
        let helm = Self { program: binaries::find_or_build("helm")?, watchdog: Watchdog::start()? };
        copy(&chart(), &helm.watchdog.directory.join("chart"))?;
        let webapp = helm.path(Of::Webapp);
        // From the directory beside it: needs no network.
        let built = helm.run(&["dependency", "build", &webapp])?;
        ensure!(built.status.success(), "failed to build the example's dependency: {}", said(&built));
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

    /// Runs it away from the user's own settings and repositories.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.watchdog.directory);
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(home, self.watchdog.directory.join("home"));
        }
        command.output().context("failed to run helm")
    }

    /// A file with a scenario's values, as this chart takes them.
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
        // Written whole, then renamed: tests run side by side.
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

    /// Renders.
    pub fn render(&self, of: Of, namespace: &str, version: &str, arguments: &[&str]) -> Result<Vec<Value>> {
        let path = self.path(of);
        let mut all = vec!["template", "rel", &path, "--namespace", namespace, "--kube-version", version];
        all.extend(arguments);
        let output = self.run(&all)?;
        ensure!(output.status.success(), "{}", said(&output));
        let objects: Vec<Value> = serde_saphyr::from_multiple(std::str::from_utf8(&output.stdout)?)?;
        Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
    }
}

/// What a program wrote.
pub fn said(output: &Output) -> String {
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

/// The one object of a kind.
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
        // What a person's own `helm dependency build` left may be old.
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
