//! The processes of the pod, as `/proc` shows them in a shared process namespace (proc(5)).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Maximum length of `comm` in bytes. The kernel truncates longer names.
const COMM_LENGTH: usize = 15;

/// A view of `/proc`.
pub(super) struct Processes {
    root: PathBuf,
    own: u32,
    /// The cgroup of the agent.
    cgroup: Cgroups,
}

/// A process of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) uid: u32,
    parent: u32,
}

/// The cgroup of a process in each hierarchy, by the controllers of the hierarchy. With cgroup v2, there is one without a name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cgroups(BTreeMap<String, Vec<String>>);

impl Cgroups {
    /// Parses `/proc/<pid>/cgroup` (cgroups(7)). In a cgroup namespace, a path is relative to the cgroup of the reader and can
    /// start with `..` (`cgroup_namespaces(7)`).
    fn parse(text: &str) -> Option<Self> {
        let parsed: Option<BTreeMap<_, _>> = text
            .lines()
            .map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                let parts =
                    path.strip_prefix('/')?.split('/').filter(|part| !part.is_empty()).map(Into::into).collect();
                Some((controllers.to_owned(), parts))
            })
            .collect();
        parsed.filter(|all| !all.is_empty()).map(Self)
    }

    /// Whether `other` is in the same pod in every hierarchy. The container runtime makes one cgroup per container, and the
    /// kubelet one above them for the pod.
    fn is_same_pod(&self, other: &Self) -> bool {
        let is_sibling = |own: &[String], other: &[String]| match own.split_last() {
            // The root of the hierarchy or of a cgroup namespace. In the first case, nothing is above it.
            None => matches!(other, [up, name, ..] if up == ".." && name != ".."),
            // No pod is at the root of the hierarchy.
            Some((_, [])) => false,
            Some((_, parent)) => other.len() > parent.len() && other.starts_with(parent),
        };
        let is_same = |(name, own): (&String, &Vec<String>)| {
            other.0.get(name).is_some_and(|other| own == other || is_sibling(own, other))
        };
        self.0.len() == other.0.len() && self.0.iter().all(is_same)
    }
}

impl Processes {
    /// The processes below `/proc`.
    pub(super) fn of_system() -> Result<Self, String> {
        Self::below(Path::new("/proc"), std::process::id())
    }

    /// The processes below `root`, as the process `own` sees them. The error is a cause for a message.
    pub(super) fn below(root: &Path, own: u32) -> Result<Self, String> {
        let path = root.join(own.to_string()).join("cgroup");
        let text = fs::read_to_string(&path).map_err(|error| format!("failed to read {}: {error}", path.display()))?;
        let cgroup = Cgroups::parse(&text).ok_or_else(|| format!("{} has an unknown format", path.display()))?;
        Ok(Self { root: root.to_owned(), own, cgroup })
    }

    /// Whether the agent is the first process of its namespace, so that the pod does not share one.
    pub(super) fn is_alone(&self) -> bool {
        self.own == 1
    }

    /// The processes of the pod with this name. If a process and its parent have the name, only the parent counts.
    pub(super) fn named(&self, name: &str) -> io::Result<Vec<Process>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process that ends in the meantime is none.
            if pid != self.own && self.is_named(pid, name) {
                found.extend(self.get(pid));
            }
        }
        let pids: Vec<u32> = found.iter().map(|process| process.pid).collect();
        found.retain(|process| !pids.contains(&process.parent));
        found.sort_by_key(|process| process.pid);
        Ok(found)
    }

    /// Whether the process has this name: that of its program or, for a program that changes it, of its first argument.
    pub(super) fn is_named(&self, pid: u32, name: &str) -> bool {
        let directory = self.root.join(pid.to_string());
        let comm = fs::read(directory.join("comm")).unwrap_or_default();
        if name.len() <= COMM_LENGTH && comm.strip_suffix(b"\n").unwrap_or(&comm) == name.as_bytes() {
            return true;
        }
        let arguments = fs::read(directory.join("cmdline")).unwrap_or_default();
        let first = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
        first.rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes())
    }

    /// The process with this ID; `None` if it does not exist, has ended, or belongs to another pod.
    pub(super) fn get(&self, pid: u32) -> Option<Process> {
        let directory = self.root.join(pid.to_string());
        let cgroup = Cgroups::parse(&fs::read_to_string(directory.join("cgroup")).ok()?)?;
        let status = fs::read_to_string(directory.join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()
        };
        let is_zombie = matches!(field("State"), Some("Z" | "X"));
        if is_zombie || !self.cgroup.is_same_pod(&cgroup) {
            return None;
        }
        Some(Process { pid, uid: field("Uid")?.parse().ok()?, parent: field("PPid")?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(own: &str, other: &str) -> bool {
        let parse = |path: &str| Cgroups::parse(&format!("0::{path}\n")).expect("a cgroup");
        parse(own).is_same_pod(&parse(other))
    }

    #[test]
    fn cgroup_shows_which_processes_belong_to_the_pod() {
        // With a cgroup namespace, as container runtimes set it up on cgroup v2.
        assert!(same("/", "/"));
        assert!(same("/", "/../cri-containerd-1234.scope"));
        assert!(same("/", "/../cri-containerd-1234.scope/init"));
        assert!(!same("/", "/../../kubepods-pod5678.slice/cri-containerd-1234.scope"));
        assert!(!same("/", "/../.."));
        assert!(!same("/", "/.."));
        assert!(!same("/", "/system.slice"), "at the root of the hierarchy");
        // Without one.
        let pod = "/kubepods.slice/kubepods-pod1.slice";
        assert!(same(&format!("{pod}/a.scope"), &format!("{pod}/b.scope")));
        assert!(!same(&format!("{pod}/a.scope"), "/kubepods.slice/kubepods-pod10.slice/a.scope"));
        assert!(!same(&format!("{pod}/a.scope"), pod));
        assert!(!same("/a", "/b"), "not in a pod");
        assert!(same("/a", "/a"));
    }

    #[test]
    fn every_cgroup_hierarchy_counts() {
        let parse = |text: &str| Cgroups::parse(text).expect("cgroups");
        let own = parse("12:memory:/kubepods/pod1/a\n0::/\n");
        assert!(own.is_same_pod(&parse("12:memory:/kubepods/pod1/b\n0::/\n")));
        assert!(!own.is_same_pod(&parse("12:memory:/kubepods/pod2/b\n0::/\n")));
        assert!(!own.is_same_pod(&parse("0::/\n")));
        assert_eq!(Cgroups::parse(""), None);
        assert_eq!(Cgroups::parse("nonsense"), None);
    }

    struct Fake(tempfile::TempDir);

    impl Fake {
        /// A `/proc` with the agent as process 5.
        fn new() -> Self {
            let fake = Self(tempfile::tempdir().expect("a directory"));
            fake.add(5, 1, "keyferry", "/keyferry\0run\0", "/");
            fake
        }

        fn add(&self, pid: u32, parent: u32, comm: &str, cmdline: &str, cgroup: &str) {
            let directory = self.0.path().join(pid.to_string());
            fs::create_dir(&directory).expect("created");
            let status = format!("Name:\t{comm}\nState:\tS (sleeping)\nPPid:\t{parent}\nUid:\t101\t101\t101\t101\n");
            for (name, text) in [
                ("comm", format!("{comm}\n")),
                ("cmdline", cmdline.to_owned()),
                ("cgroup", format!("0::{cgroup}\n")),
                ("status", status),
            ] {
                fs::write(directory.join(name), text).expect("written");
            }
        }

        fn named(&self, name: &str) -> Vec<u32> {
            let processes = Processes::below(self.0.path(), 5).expect("readable");
            processes.named(name).expect("listed").iter().map(|process| process.pid).collect()
        }
    }

    #[test]
    fn process_is_found_by_program_or_first_argument() {
        let fake = Fake::new();
        fake.add(10, 1, "nginx", "nginx: master process nginx\0", "/../app");
        fake.add(11, 1, "java", "/opt/java/bin/java\0-jar\0app.jar\0", "/../app");
        fake.add(12, 1, "prometheus-conf", "/bin/prometheus-config-reloader\0", "/../app");
        assert_eq!(fake.named("nginx"), [10]);
        assert_eq!(fake.named("java"), [11]);
        assert_eq!(fake.named("prometheus-config-reloader"), [12]);
        assert_eq!(fake.named("app.jar"), [] as [u32; 0]);
        assert_eq!(fake.named("keyferry"), [] as [u32; 0], "not the agent itself");
    }

    #[test]
    fn workers_of_a_process_with_the_same_name_are_left_out() {
        let fake = Fake::new();
        fake.add(10, 1, "nginx", "nginx: master process\0", "/../app");
        fake.add(11, 10, "nginx", "nginx: worker process\0", "/../app");
        fake.add(12, 10, "nginx", "nginx: worker process\0", "/../app");
        fake.add(20, 1, "nginx", "nginx: master process\0", "/../other");
        assert_eq!(fake.named("nginx"), [10, 20]);
    }

    #[test]
    fn process_of_another_pod_is_not_found() {
        let fake = Fake::new();
        fake.add(10, 1, "nginx", "nginx\0", "/../../kubepods-pod2.slice/app");
        assert_eq!(fake.named("nginx"), [] as [u32; 0]);
    }

    #[test]
    fn zombie_is_not_found() {
        let fake = Fake::new();
        fake.add(10, 1, "nginx", "\0", "/../app");
        let status = "State:\tZ (zombie)\nPPid:\t1\nUid:\t1\t1\t1\t1\n";
        fs::write(fake.0.path().join("10/status"), status).expect("written");
        assert_eq!(fake.named("nginx"), [] as [u32; 0]);
    }
}
