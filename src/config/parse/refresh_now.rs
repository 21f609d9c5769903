//! `refreshNow`

use std::path::{Path, PathBuf};

use super::super::diagnostics::Diagnostics;
use super::super::raw_refresh_now::RawRefreshNow;
use super::check_directory;
use crate::model::{Directory, RefreshNow};

/// `listens`: whether `listen` is set.
pub(super) fn parse(
    raw: RawRefreshNow,
    listens: bool,
    directory: &Directory,
    diagnostics: &mut Diagnostics,
) -> RefreshNow {
    if raw.token_file.is_some() && !listens {
        let message = "is missing, but `refreshNow.tokenFile` requires it for `POST /refresh`; set it here or in \
                       KEYFERRY_LISTEN, or remove `refreshNow.tokenFile`";
        diagnostics.required("listen", message);
    }
    let mut file = |key: &str, path: Option<String>, example: &str| {
        let (at, path) = (format!("refreshNow.{key}"), path?);
        check_directory(&at, &path, example, diagnostics);
        if Path::new(&path).starts_with(&directory.path) {
            let message = "must be outside `directory.path`, which contains only the published files; mount its volume at another path";
            diagnostics.invalid(&at, path.as_str(), message);
        }
        Some(PathBuf::from(path))
    };
    RefreshNow {
        annotations_file: file("annotationsFile", raw.annotations_file, "/etc/keyferry/pod/annotations"),
        token_file: file("tokenFile", raw.token_file, "/etc/keyferry/refresh/token"),
    }
}
