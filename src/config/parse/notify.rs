//! `notify`

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::defaults;
use super::super::diagnostics::{Diagnostics, suggestion};
use super::super::quantity::duration_as_text;
use super::super::raw_notify::{RawNotification, RawSignal, RawSignalName};
use super::mirrors::can_write;
use super::notify_http;
use super::{check_directory, duration};
use crate::model::{
    Directory, FilePath, Glob, Notification, NotificationName, NotificationTarget, Output, ProcessSelector, SignalName,
};

/// The keys of which each notification has exactly one.
const KINDS: &str = "`signal`, `http`, `file`, or `restart`";

pub(super) fn parse(
    raw: BTreeMap<String, RawNotification>,
    outputs: &[Output],
    directory: &Directory,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<NotificationName, Notification> {
    let names: Vec<String> = raw.keys().cloned().collect();
    let mut all = BTreeMap::new();
    let mut markers: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut restart: Option<String> = None;
    for (name, raw) in raw {
        let at = format!("notify.{name}");
        let valid = NotificationName::new(&name)
            .map_err(|error| diagnostics.invalid(&at, name.as_str(), error.to_string()))
            .ok();
        let found = notification(&at, raw, &names, outputs, directory, diagnostics);
        let (Some(valid), Some(found)) = (valid, found) else { continue };
        if let NotificationTarget::File(path) = &found.target
            && let Some(other) = markers.insert(path.clone(), name.clone())
        {
            let message = format!("file: notification {other} writes it too");
            diagnostics.duplicate(&format!("{at}.file"), path.display().to_string(), message);
        }
        if found.is_restart()
            && let Some(other) = restart.replace(name.clone())
        {
            let message = format!(
                "must not be set twice; add the `files` to notification {other}, which also restarts all containers"
            );
            diagnostics.forbidden(&format!("{at}.restart"), message);
        }
        all.insert(valid, found);
    }
    check_order(&all, diagnostics);
    all
}

fn notification(
    at: &str,
    raw: RawNotification,
    names: &[String],
    outputs: &[Output],
    directory: &Directory,
    diagnostics: &mut Diagnostics,
) -> Option<Notification> {
    let key = |key: &str| format!("{at}.{key}");
    let kinds = [raw.signal.is_some(), raw.http.is_some(), raw.file.is_some(), raw.restart.is_some()];
    match kinds.iter().filter(|is_set| **is_set).count() {
        0 => diagnostics.required(at, format!("must contain one of {KINDS}")),
        1 => {}
        _ => {
            let message = format!("must contain only one of {KINDS}; use a separate notification for each");
            diagnostics.forbidden(at, message);
        }
    }
    let is_restart = raw.restart.is_some();
    if is_restart && raw.at_start == Some(true) {
        let message = "must not be true with `restart`: containers that start after keyferry read the first set anyway";
        diagnostics.forbidden(&key("atStart"), message);
    }
    let signal = raw.signal.map(|raw| signal(&key("signal"), raw, diagnostics));
    let http = raw.http.map(|raw| notify_http::parse(&key("http"), raw, diagnostics));
    let file = raw.file.map(|path| marker(&key("file"), path, directory, diagnostics));
    let mut files = Vec::new();
    for (index, pattern) in raw.files.unwrap_or_default().into_iter().enumerate() {
        files.extend(pattern_of(&format!("{}[{index}]", key("files")), &pattern, outputs, diagnostics));
    }
    let mut after = BTreeSet::new();
    for (index, name) in raw.after.unwrap_or_default().into_iter().enumerate() {
        if names.contains(&name) {
            after.extend(NotificationName::new(&name).ok());
        } else {
            let message =
                format!("must be a notification in `notify`; {}", suggestion(&name, names.iter().map(String::as_str)));
            diagnostics.invalid(&format!("{}[{index}]", key("after")), name, message);
        }
    }
    let (jitter, interval) = if is_restart {
        (defaults::RESTART_JITTER, defaults::RESTART_MIN_INTERVAL)
    } else {
        (Duration::ZERO, Duration::ZERO)
    };
    let mut wait = |name: &str, raw, default| {
        let wait = duration(&key(name), raw, default, diagnostics);
        if wait > defaults::MAX_NOTIFY_WAIT {
            diagnostics.invalid(&key(name), duration_as_text(wait), "must be at most 1d");
        }
        wait
    };
    let debounce = wait("debounce", raw.debounce.as_ref(), defaults::NOTIFY_DEBOUNCE);
    let jitter = wait("jitter", raw.jitter.as_ref(), jitter);
    let min_interval = wait("minInterval", raw.min_interval.as_ref(), interval);
    if is_restart && min_interval < defaults::MIN_RESTART_INTERVAL {
        let message = "must be at least 10s with `restart`, because Kubernetes does not delay repeated restarts";
        diagnostics.invalid(&key("minInterval"), duration_as_text(min_interval), message);
    }
    let target = match (signal, http, file) {
        (Some(signal), ..) => signal?,
        (_, Some(http), _) => NotificationTarget::Http(Box::new(http?)),
        (_, _, Some(file)) => NotificationTarget::File(file?),
        _ if is_restart => NotificationTarget::RestartContainers,
        _ => return None,
    };
    let at_start = raw.at_start.unwrap_or(false);
    Some(Notification { target, files, after, at_start, debounce, jitter, min_interval })
}

fn signal(at: &str, raw: RawSignal, diagnostics: &mut Diagnostics) -> Option<NotificationTarget> {
    let process = match (raw.process, raw.pid_file) {
        (Some(_), Some(_)) => {
            diagnostics.forbidden(at, "must contain only one of `process` and `pidFile`");
            None
        }
        (Some(name), None) => {
            let is_plain = name.len() <= 255 && !name.contains('/') && !name.chars().any(char::is_control);
            if !is_plain {
                let message = "must be the name of a program without its directory, like \"nginx\"";
                diagnostics.invalid(&format!("{at}.process"), name.as_str(), message);
            }
            is_plain.then_some(ProcessSelector::Name(name))
        }
        (None, Some(path)) => {
            check_file(&format!("{at}.pidFile"), &path, "/run/app/app.pid", diagnostics).map(ProcessSelector::PidFile)
        }
        (None, None) => {
            diagnostics.required(at, "must contain one of `process` and `pidFile`");
            None
        }
    };
    let signal = match raw.name.unwrap_or(RawSignalName::Hup) {
        RawSignalName::Hup => SignalName::Hup,
        RawSignalName::Int => SignalName::Int,
        RawSignalName::Quit => SignalName::Quit,
        RawSignalName::Kill => SignalName::Kill,
        RawSignalName::Usr1 => SignalName::Usr1,
        RawSignalName::Usr2 => SignalName::Usr2,
        RawSignalName::Alrm => SignalName::Alrm,
        RawSignalName::Term => SignalName::Term,
        RawSignalName::Cont => SignalName::Cont,
        RawSignalName::Ttin => SignalName::Ttin,
        RawSignalName::Ttou => SignalName::Ttou,
        RawSignalName::Urg => SignalName::Urg,
        RawSignalName::Winch => SignalName::Winch,
        RawSignalName::Io => SignalName::Io,
        RawSignalName::Pwr => SignalName::Pwr,
    };
    Some(NotificationTarget::Signal { process: process?, signal })
}

/// The path of a file outside the output directory.
fn marker(at: &str, path: String, directory: &Directory, diagnostics: &mut Diagnostics) -> Option<PathBuf> {
    let file = check_file(at, &path, "/run/keyferry/notify/generation", diagnostics)?;
    if file.starts_with(&directory.path) || directory.path.starts_with(&file) {
        let message = "must be outside `directory.path`, which contains only the published files";
        diagnostics.invalid(at, path, message);
        return None;
    }
    Some(file)
}

/// Checks the path of a file; `None` if it is reported.
pub(super) fn check_file(at: &str, path: &str, example: &str, diagnostics: &mut Diagnostics) -> Option<PathBuf> {
    check_directory(at, path, example, diagnostics);
    (!diagnostics.contains(at)).then(|| Path::new(path).to_owned())
}

fn pattern_of(at: &str, pattern: &str, outputs: &[Output], diagnostics: &mut Diagnostics) -> Option<Glob> {
    let glob = Glob::new(pattern).map_err(|error| diagnostics.invalid(at, pattern, error.to_string())).ok()?;
    let is_written = |file: &FilePath| outputs.iter().any(|output| can_write(output, file));
    if glob.is_literal() && !diagnostics.contains_below("outputs") {
        match FilePath::new(pattern) {
            Ok(file) if is_written(&file) => {}
            Ok(_) => {
                let known: Vec<_> = outputs.iter().filter_map(super::outputs::file).map(FilePath::as_str).collect();
                let message = format!("must match a file of `outputs`; {}", suggestion(pattern, known.iter().copied()));
                diagnostics.invalid(at, pattern, message);
            }
            Err(error) => diagnostics.invalid(at, pattern, error.to_string()),
        }
    }
    Some(glob)
}

/// Reports notifications that wait for each other.
fn check_order(all: &BTreeMap<NotificationName, Notification>, diagnostics: &mut Diagnostics) {
    let mut done: BTreeSet<&NotificationName> = BTreeSet::new();
    loop {
        let ready = |(name, found): &(&NotificationName, &Notification)| {
            !done.contains(*name) && found.after.iter().all(|other| done.contains(other) || !all.contains_key(other))
        };
        let next: Vec<_> = all.iter().filter(ready).map(|(name, _)| name).collect();
        if next.is_empty() {
            break;
        }
        done.extend(next);
    }
    if let Some(name) = all.keys().find(|name| !done.contains(name)) {
        let others: Vec<_> = all.keys().filter(|name| !done.contains(name)).map(NotificationName::as_str).collect();
        let message = format!(
            "must not form a cycle ({}), because these notifications wait for each other; remove one of them from `after`",
            others.join(", ")
        );
        diagnostics.forbidden(&format!("notify.{name}.after"), message);
    }
}
