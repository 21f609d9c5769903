//! Names that keyferry reserves in the output directory. All start with `..`, which is invalid in a [`FilePath`].
//!
//! [`FilePath`]: crate::model::FilePath

use jiff::Timestamp;

/// Symlink to the directory of the visible set, with the same name as in the kubelet's volumes.
pub const DATA_LINK: &str = "..data";

/// File in the output directory with the state of the agent, for `keyferry probe`. Contains no secret.
pub const STATE_FILE: &str = "..keyferry-state";

/// File in the directory of a set that records the sources of the files, so that the next process can adopt the set. It
/// has no visible symlink.
pub const MANIFEST_FILE: &str = "..keyferry-manifest";

const LINK_PREFIX: &str = "..data_tmp.";

/// Name of a new set directory, such as `..2026_11_24_16_05_37.0123456789`. The kubelet uses the same form, which other
/// tools recognize.
pub(super) fn fresh_directory(now: Timestamp) -> String {
    format!("..{}.{:010}", now.strftime("%Y_%m_%d_%H_%M_%S"), fastrand::u32(..))
}

/// A unique name. With a fixed name, a crash between symlink and rename would make every later attempt fail with "file
/// exists".
pub(super) fn temporary_link() -> String {
    format!("{LINK_PREFIX}{:010}", fastrand::u32(..))
}

/// Target of the visible symlink `name`.
pub(super) fn visible_target(name: &str) -> String {
    format!("{DATA_LINK}/{name}")
}

/// Whether `name` has the form of a set directory, of keyferry or of the kubelet.
pub(super) fn is_set_directory(name: &str) -> bool {
    let Some((stamp, random)) = name.strip_prefix("..").and_then(|rest| rest.split_once('.')) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    stamp.split('_').count() == 6 && stamp.split('_').all(digits) && digits(random)
}

/// Whether `name` is a temporary symlink or file, which remains only after a crash.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(LINK_PREFIX)
        || name.strip_prefix(STATE_FILE).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reserved_names_are_swept() {
        let now = "2026-11-24T16:05:37Z".parse().expect("timestamp");
        assert!(fresh_directory(now).starts_with("..2026_11_24_16_05_37."));
        assert!(is_set_directory(&fresh_directory(now)));
        assert!(is_temporary(&temporary_link()));
        assert!(is_temporary(&super::super::file::temporary_name(STATE_FILE)));
        for other in [DATA_LINK, STATE_FILE, "..", "..2026_11_24.1", "..a_b_c_d_e_f.1", "2026_11_24_16_05_37.1", "x"] {
            assert!(!is_set_directory(other) && !is_temporary(other), "{other}");
        }
    }
}
