//! Sends a signal to a process of the pod.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};

use super::file;
use super::processes::{Process, Processes};
use crate::model::{Failure, FailureClass, ProcessSelector, Reason, SignalName};

/// Sends `signal` to the selected process of the pod. Several processes of the same name all get it, except for children of
/// one of them.
///
/// Blocks as long as the file system of a PID file.
///
/// # Errors
/// `Local`/`ProcessNotFound` if there is no such process, `Denied`/`SignalDenied` if the kernel does not allow the signal,
/// `Invalid`/`NotifyFailed` if the processes of the pod cannot be recognized.
pub fn send_signal(process: &ProcessSelector, signal: SignalName) -> Result<(), Failure> {
    let processes = Processes::of_system().map_err(|why| {
        Failure::new(
            FailureClass::Invalid,
            Reason::NotifyFailed,
            format!("failed to send SIG{}: {why}", signal.as_str()),
        )
    })?;
    send(&processes, process, signal)
}

fn send(processes: &Processes, selector: &ProcessSelector, signal: SignalName) -> Result<(), Failure> {
    let what = match selector {
        ProcessSelector::Name(name) => format!("process {name}"),
        ProcessSelector::PidFile(path) => format!("the process of PID file {}", path.display()),
    };
    let failed = |class, reason, why: &str| {
        Failure::new(class, reason, format!("failed to send SIG{} to {what}: {why}", signal.as_str()))
    };
    let not_found = |why: &str| failed(FailureClass::Local, Reason::ProcessNotFound, why);
    let found = match selector {
        ProcessSelector::Name(name) => processes.named(name).map_err(|error| {
            failed(FailureClass::Local, Reason::NotifyFailed, &format!("failed to list /proc: {error}"))
        })?,
        ProcessSelector::PidFile(path) => {
            let bytes = file::read(path).map_err(|why| not_found(&why))?;
            let pid = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
            let pid: u32 = pid.ok_or_else(|| not_found("the file contains no process ID"))?;
            processes.get(pid).into_iter().collect()
        }
    };
    let mut sent = false;
    for process in found {
        match send_to(processes, &process, selector, signal) {
            Ok(()) => sent = true,
            // It has ended in the meantime.
            Err(Errno::SRCH) => {}
            Err(Errno::PERM) => {
                let (theirs, own) = (process.uid, geteuid().as_raw());
                let why = format!(
                    "not permitted, because process {} runs as UID {theirs} and keyferry as UID {own}; run both \
                     containers with the same UID",
                    process.pid
                );
                return Err(failed(FailureClass::Denied, Reason::SignalDenied, &why));
            }
            Err(errno) => return Err(failed(FailureClass::Local, Reason::NotifyFailed, &errno.to_string())),
        }
    }
    if sent {
        return Ok(());
    }
    Err(not_found(if processes.is_alone() {
        "the containers of the pod do not share their processes; set `shareProcessNamespace: true` in the pod"
    } else {
        "no such process runs in the pod; check the name with `ps`, and that the application is running"
    }))
}

/// Sends the signal through a descriptor of the process, so that another process that gets the same ID never receives it.
fn send_to(
    processes: &Processes,
    process: &Process,
    selector: &ProcessSelector,
    signal: SignalName,
) -> Result<(), Errno> {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
    // Only now is it certain that the descriptor is of the process that was found.
    let is_named = match selector {
        ProcessSelector::Name(name) => processes.is_named(process.pid, name),
        ProcessSelector::PidFile(_) => true,
    };
    if !is_named || processes.get(process.pid).is_none() {
        return Err(Errno::SRCH);
    }
    pidfd_send_signal(descriptor, number(signal))
}

fn number(signal: SignalName) -> Signal {
    match signal {
        SignalName::Hup => Signal::HUP,
        SignalName::Int => Signal::INT,
        SignalName::Quit => Signal::QUIT,
        SignalName::Kill => Signal::KILL,
        SignalName::Usr1 => Signal::USR1,
        SignalName::Usr2 => Signal::USR2,
        SignalName::Alrm => Signal::ALARM,
        SignalName::Term => Signal::TERM,
        SignalName::Cont => Signal::CONT,
        SignalName::Ttin => Signal::TTIN,
        SignalName::Ttou => Signal::TTOU,
        SignalName::Urg => Signal::URG,
        SignalName::Winch => Signal::WINCH,
        SignalName::Io => Signal::IO,
        SignalName::Pwr => Signal::POWER,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command};

    use super::*;

    /// A child of the test with a different name, in the cgroup of the test.
    fn child(name: &str) -> (tempfile::TempDir, Child) {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join(name);
        std::os::unix::fs::symlink("/bin/sleep", &program).expect("linked");
        let child = Command::new(program).arg("60").spawn().expect("started");
        (directory, child)
    }

    fn processes() -> Processes {
        Processes::of_system().expect("readable")
    }

    #[test]
    fn signal_reaches_the_process_of_the_name_only() {
        let processes = processes();
        let (_first, mut wanted) = child("kf-wanted");
        let (_second, mut other) = child("kf-other");
        let selector = ProcessSelector::Name("kf-wanted".into());
        send(&processes, &selector, SignalName::Usr1).expect("sent");
        assert_eq!(wanted.wait().expect("ended").signal(), Some(10), "SIGUSR1 ends a process without a handler");
        assert!(other.try_wait().expect("waited").is_none(), "still running");
        other.kill().expect("killed");
        other.wait().expect("ended");
    }

    #[test]
    fn signal_reaches_the_process_of_the_pid_file() {
        let processes = processes();
        let (directory, mut wanted) = child("kf-pid-file");
        let file = directory.path().join("app.pid");
        std::fs::write(&file, format!("{}\n", wanted.id())).expect("written");
        send(&processes, &ProcessSelector::PidFile(file.clone()), SignalName::Hup).expect("sent");
        assert_eq!(wanted.wait().expect("ended").signal(), Some(1));

        let failure = send(&processes, &ProcessSelector::PidFile(file.clone()), SignalName::Hup).expect_err("ended");
        assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::ProcessNotFound));
        std::fs::write(&file, "none").expect("written");
        let failure = send(&processes, &ProcessSelector::PidFile(file), SignalName::Hup).expect_err("no ID");
        assert!(failure.message.ends_with("the file contains no process ID"), "{failure}");
    }

    #[test]
    fn missing_process_is_a_failure_that_names_the_cause() {
        let processes = processes();
        let selector = ProcessSelector::Name("kf-absent".into());
        let failure = send(&processes, &selector, SignalName::Hup).expect_err("no such process");
        assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::ProcessNotFound));
        assert!(failure.message.starts_with("failed to send SIGHUP to process kf-absent: "), "{failure}");
    }
}
