//! Starts the process: the order of the start, and the exit code.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

use keyferry::config::{self, ProcessEnvironment};
use keyferry::runtime::Work;

use cli::{Arguments, Command, ConfiguredCommand, check, configuration, probe, refresh, render, run, schema};

fn main() -> ExitCode {
    start().unwrap_or_else(|code| code)
}

/// Runs the subcommand. The error is the exit code after a failure that is already reported.
fn start() -> Result<ExitCode, ExitCode> {
    let environment = ProcessEnvironment;
    let Arguments { config: file, log, command } = Arguments::read(environment)?;
    let command = match command.unwrap_or_default() {
        Command::Schema => return Ok(schema::run()),
        Command::Configured(command) => command,
    };
    let errors = cli::start_log(&command, log, environment)?;
    let source = configuration::find(file, &command, environment).map_err(|message| errors.report(&message))?;
    let settings = match config::load_with(&environment, source.text(), source.templates()) {
        Ok(settings) => settings,
        Err(error) => {
            return Err(match command {
                ConfiguredCommand::Probe { what } => probe::run_without_settings(what, environment, source.text()),
                ConfiguredCommand::Refresh { new_leases } => {
                    refresh::run_without_settings(environment, source.text(), new_leases)
                }
                _ => errors.report_all(&error),
            });
        }
    };
    // Only for the commands that use it: a probe must not fail because of a checkpoint file.
    let checkpoint_file =
        |flag| config::checkpoint_file(&environment, flag, &settings).map_err(|message| errors.report(&message));
    Ok(match command {
        ConfiguredCommand::Run { checkpoint, app_container } => {
            let checkpoint = checkpoint_file(checkpoint)?;
            run::run(settings, source, environment, Work::Run { app_container }, checkpoint)
        }
        ConfiguredCommand::Once { timeout, checkpoint } => {
            let checkpoint = checkpoint_file(checkpoint)?;
            run::run(settings, source, environment, Work::Once(timeout), checkpoint)
        }
        ConfiguredCommand::Check => {
            checkpoint_file(None)?;
            check::run()
        }
        ConfiguredCommand::Render { data, show } => render::run(settings, data.as_deref(), show),
        ConfiguredCommand::Probe { what } => probe::run(what, settings.listener, &settings.directory.path),
        ConfiguredCommand::Refresh { new_leases } => refresh::run(&settings.directory.path, new_leases),
    })
}
