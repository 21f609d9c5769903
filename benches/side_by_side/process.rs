//! Data about a process from `/proc`: <https://docs.kernel.org/filesystems/proc.html>.

use std::time::Duration;

use super::Result;

/// Clock tick of `/proc/<pid>/stat`: `USER_HZ` is 100 on every supported architecture.
const TICK: Duration = Duration::from_millis(10);

/// Memory and threads of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// `VmRSS` in bytes: all resident pages, including those of the binary.
    pub resident: u64,
    /// `RssAnon` in bytes: pages that are not backed by a file.
    pub anonymous: u64,
    pub threads: u64,
}

pub fn memory(pid: u32) -> Result<Memory> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_status(&text).ok_or_else(|| format!("/proc/{pid}/status misses a field").into())
}

/// User and system time since the process started.
pub fn cpu(pid: u32) -> Result<Duration> {
    read_stat(&pid.to_string(), [14, 15])
}

/// User and system time of all children of this process that have exited. For many short processes it is more precise than
/// [`cpu`], which rounds each one down to a tick.
pub fn cpu_of_children() -> Result<Duration> {
    read_stat("self", [16, 17])
}

fn read_stat(process: &str, fields: [usize; 2]) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    parse_stat(&text, fields).ok_or_else(|| format!("/proc/{process}/stat misses a field").into())
}

/// `Pss` of a process in bytes: each shared page counts in proportion, so that the sum over many processes of one binary is
/// their real memory use. Only root can read it for a process that is not dumpable, such as the agent.
pub fn proportional(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("failed to read {path}: {error}; run as root"))?;
    parse_rollup(&text).ok_or_else(|| format!("{path} misses a field").into())
}

fn parse_rollup(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn parse_status(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Memory { resident: field("VmRSS")? * 1024, anonymous: field("RssAnon")? * 1024, threads: field("Threads")? })
}

/// The sum of two fields, which are numbered from 1, as in proc(5).
fn parse_stat(text: &str, numbers: [usize; 2]) -> Option<Duration> {
    // The process name is in parentheses and can contain any character, so count fields after it: the state is field 3.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u32>().ok();
    Some(TICK * (field(numbers[0])? + field(numbers[1])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_status_finds_fields_by_name() {
        let text = "Name:\tx\nVmPeak:\t9 kB\nVmRSS:\t    5000 kB\nRssAnon:\t 700 kB\nThreads:\t2\n";
        assert_eq!(parse_status(text), Some(Memory { resident: 5_120_000, anonymous: 716_800, threads: 2 }));
        assert_eq!(parse_status("Name:\tx\n"), None);
    }

    #[test]
    fn parse_rollup_ignores_partial_pss_fields() {
        let text = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 5000 kB\nPss_Anon: 9 kB\nPss:    570 kB\n";
        assert_eq!(parse_rollup(text), Some(583_680));
    }

    #[test]
    fn parse_stat_accepts_process_name_with_spaces_and_parentheses() {
        let text = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 150 50 30 70 20 0 1 0 5\n";
        assert_eq!(parse_stat(text, [14, 15]), Some(Duration::from_secs(2)));
        assert_eq!(parse_stat(text, [16, 17]), Some(Duration::from_secs(1)));
    }

    #[test]
    fn memory_and_cpu_time_are_readable_for_own_process() {
        let own = memory(std::process::id()).expect("/proc is mounted");
        assert!(own.resident > own.anonymous && own.threads >= 1);
        assert!(cpu(std::process::id()).is_ok() && cpu_of_children().is_ok());
    }
}
