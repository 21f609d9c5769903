//! The control group of a node. It is not in a namespace, so it is created here and removed at the end.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::super::watchdog::Watchdog;

const TOP: &str = "/sys/fs/cgroup";

/// Creates a group of this name in every hierarchy, as the kubelet expects. The watchdog removes it when its processes are
/// gone.
pub fn make(watchdog: &Watchdog, name: &str) -> Result<()> {
    // Deepest first. The kernel does not remove a group that contains a process, so a group in use stays.
    watchdog.undo(&format!(
        "n=0; while left=; for g in {TOP}/{name} {TOP}/*/{name}; do [ -d $g ] || continue; \
         find $g -depth -type d -exec rmdir {{}} ';' 2>/dev/null; [ ! -d $g ] || left=yes; done; \
         [ -n \"$left\" ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done"
    ));
    let top = Path::new(TOP);
    if top.join("cgroup.controllers").exists() {
        return make_unified(top, &top.join(name));
    }
    for hierarchy in hierarchies(top)? {
        let group = hierarchy.join(name);
        fs::create_dir_all(&group).with_context(|| format!("failed to create {}", group.display()))?;
        // A new cpuset is empty, and no process can run in an empty cpuset.
        for inherited in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read_to_string(hierarchy.join(inherited)) {
                fs::write(group.join(inherited), value.trim())?;
            }
        }
    }
    Ok(())
}

/// Version 2: one hierarchy. systemd already delegates most controllers; delegating the others can fail in a container. A
/// controller that is delegated here stays delegated.
fn make_unified(top: &Path, group: &Path) -> Result<()> {
    let hand_down = |from: &Path| -> Result<()> {
        for controller in fs::read_to_string(from.join("cgroup.controllers"))?.split_whitespace() {
            let _ = fs::write(from.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        Ok(())
    };
    hand_down(top)?;
    fs::create_dir_all(group).with_context(|| format!("failed to create {}", group.display()))?;
    hand_down(group)
}

/// The mounted hierarchies of version 1. Controllers that share a hierarchy have symlinks to it.
fn hierarchies(top: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(top)?.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(entries.filter(|path| !path.is_symlink() && path.join("tasks").exists()).collect())
}
