//! Files of templates.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::files::{Rendered, entry, invalid};
use crate::model::{Failure, FilePath, Output, Reading, SourceName, Template};
use crate::template::{ExecutionError, execute};

/// Renders the file of a template. It has no file before all its configured sources have been read.
pub(super) fn render(
    output: &Output,
    path: &FilePath,
    template: &Template,
    readings: &BTreeMap<SourceName, Arc<Reading>>,
) -> Result<Rendered, Failure> {
    if !template.configured_sources().all(|name| readings.contains_key(name)) {
        return Ok(Rendered::default());
    }
    match execute(template, readings) {
        Ok(executed) => Ok(Rendered {
            files: BTreeMap::from([(path.clone(), entry(output, executed.content))]),
            calls: executed.calls,
            ..Rendered::default()
        }),
        Err(ExecutionError::Needs(needed)) => Ok(Rendered { needed, ..Rendered::default() }),
        Err(ExecutionError::Failed(problem)) => {
            let of = template.file.as_ref().map_or_else(|| "template".to_owned(), |file| file.display().to_string());
            Err(invalid(path.as_str(), &format!("{of}, {problem}")))
        }
    }
}
