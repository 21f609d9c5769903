//! Functions on paths, as Go's package `path`. In a pod, those of the operating system are the same.

use gotmpl::Value;

use super::super::{Arguments, Function};
use super::text::changed;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("sprig_base", |arguments| changed(arguments, base)),
    ("sprig_clean", |arguments| changed(arguments, clean)),
    ("sprig_dir", |arguments| changed(arguments, directory)),
    ("sprig_ext", |arguments| changed(arguments, extension)),
    ("sprig_isAbs", is_absolute),
    ("sprig_osBase", |arguments| changed(arguments, base)),
    ("sprig_osClean", |arguments| changed(arguments, clean)),
    ("sprig_osDir", |arguments| changed(arguments, directory)),
    ("sprig_osExt", |arguments| changed(arguments, extension)),
    ("sprig_osIsAbs", is_absolute),
];

fn is_absolute(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    Ok(Value::Bool(arguments.text(0)?.starts_with('/')))
}

fn base(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        _ if path.is_empty() => ".".to_owned(),
        Some(base) if !base.is_empty() => base.to_owned(),
        _ => "/".to_owned(),
    }
}

fn directory(path: &str) -> String {
    clean(&path[..path.rfind('/').map_or(0, |at| at + 1)])
}

fn extension(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rfind('.').map_or_else(String::new, |at| name[at..].to_owned())
}

/// The shortest path without `.`, and without `..` except at its start.
fn clean(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            ".." if is_rooted => {}
            part => parts.push(part),
        }
    }
    let cleaned = parts.join("/");
    match (is_rooted, cleaned.is_empty()) {
        (true, _) => format!("/{cleaned}"),
        (false, true) => ".".to_owned(),
        (false, false) => cleaned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_clean() {
        for (path, cleaned) in [
            ("", "."),
            ("/", "/"),
            ("a/../b", "b"),
            ("../../a", "../../a"),
            ("/../a", "/a"),
            ("a//b/./c/", "a/b/c"),
            ("a/..", "."),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
        assert_eq!(base("a/b/"), "b");
        assert_eq!(directory("a/b"), "a");
        assert_eq!(directory("/a"), "/");
    }
}
