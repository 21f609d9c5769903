//! Names that the publisher reserves in its directory. All start with `..`, which a [`FilePath`] cannot.
//!
//! [`FilePath`]: crate::model::FilePath

use jiff::Timestamp;

/// The link whose change makes a new set visible; the name that the kubelet uses for its own volumes.
pub const DATA_LINK: &str = "..data";

/// Small file beside the set in which the agent's own probe reads the state of the agent. Holds no secret.
pub const STATE_FILE: &str = "..keyferry-state";

/// File in the set that says what the set was made from, so that the next process can adopt it. It has no visible link.
pub const MANIFEST_FILE: &str = "..keyferry-manifest";

const LINK_PREFIX: &str = "..data_tmp.";

/// `..2026_11_24_16_05_37.0123456789`: the kubelet's form, so that tools which know it know ours.
pub(super) fn fresh_directory(now: Timestamp) -> String {
    format!("..{}.{:010}", now.strftime("%Y_%m_%d_%H_%M_%S"), fastrand::u32(..))
}

/// A name that no earlier try can have left behind: with a fixed one, a crash between link and rename would make every
/// later try fail with "file exists".
pub(super) fn temporary_link() -> String {
    format!("{LINK_PREFIX}{:010}", fastrand::u32(..))
}

/// Where the visible link `name` must point.
pub(super) fn visible_target(name: &str) -> String {
    format!("{DATA_LINK}/{name}")
}

/// Whether `name` is a directory of a set, ours or the kubelet's.
pub(super) fn is_set_directory(name: &str) -> bool {
    let Some((stamp, random)) = name.strip_prefix("..").and_then(|rest| rest.split_once('.')) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    stamp.split('_').count() == 6 && stamp.split('_').all(digits) && digits(random)
}

/// Whether `name` is a temporary link or small file that only a crash can leave.
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
