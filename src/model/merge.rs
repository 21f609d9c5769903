//! Files that are merged from several sources.

use super::{KeySelection, SourceName};

/// One source of a merged file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeItem {
    /// The source.
    pub source: SourceName,
    /// The place of its keys in the file: names of mappings, from the outside in. Empty: at the top.
    pub under: Vec<String>,
    /// Keys to write, and their names at that place.
    pub keys: KeySelection,
}

/// The name of a variable for the value at `path`, whose parts are names of mappings and indexes of lists. A value at the top keeps
/// its name. The name of a nested value follows the rule of Spring Boot, which finds the property again by this name: parts are
/// joined with `_`, dots become `_`, dashes are removed, and letters are upper case
/// (<https://docs.spring.io/spring-boot/reference/features/external-config.html#features.external-config.typesafe-configuration-properties.relaxed-binding.environment-variables>).
#[must_use]
pub fn variable_of<'a>(path: impl IntoIterator<Item = &'a str>) -> String {
    let parts: Vec<&str> = path.into_iter().collect();
    match parts.as_slice() {
        [name] => (*name).to_owned(),
        parts => parts.join("_").replace('.', "_").replace('-', "").to_ascii_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_of_nested_value_is_named_as_in_spring_boot() {
        for (path, name) in [
            (&["db-password"][..], "db-password"),
            (&["spring", "datasource", "url"], "SPRING_DATASOURCE_URL"),
            (&["spring", "datasource", "driver-class-name"], "SPRING_DATASOURCE_DRIVERCLASSNAME"),
            (&["my", "service", "0", "other"], "MY_SERVICE_0_OTHER"),
            (&["spring.datasource", "url"], "SPRING_DATASOURCE_URL"),
        ] {
            assert_eq!(variable_of(path.iter().copied()), name);
        }
    }
}
