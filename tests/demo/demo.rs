//! `cargo demo`: the reference scenario on a real Vault and a real Kubernetes API server, step by step. Each step checks what
//! it shows; the exit code is 0 only if all checks passed.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::print_stdout)]

mod screen;
mod steps;
#[path = "../testbed/mod.rs"]
mod testbed;

use std::process::ExitCode;

use anyhow::Result;
use screen::Screen;
use steps::Demo;

const HELP: &str = "cargo demo [--keep]

Finds or builds Vault, etcd and kube-apiserver, starts them on loopback ports, and runs the agent against them.

  --keep   keep everything running until Ctrl-C, and print commands to inspect it

The secret values are examples. The demo removes everything that it created, also after Ctrl-C.";

/// Exit code after Ctrl-C: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let keep = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--keep"] => true,
        ["--help" | "-h"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    let mut screen = Screen::new();
    let result = tokio::select! {
        biased;
        _ = interrupted(), if !keep => None,
        result = run_steps(&mut screen, keep) => Some(result),
    };
    match result {
        None => ExitCode::from(INTERRUPTED),
        Some(Ok(())) => {
            screen.summary();
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            screen.fail(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> Result<()> {
    tokio::signal::ctrl_c().await?;
    println!("\ninterrupted: cleaning up");
    Ok(())
}

async fn run_steps(screen: &mut Screen, keep: bool) -> Result<()> {
    let binaries = steps::find_servers(screen)?;
    steps::build_agent(screen)?;
    let servers = steps::start_servers(screen, &binaries).await?;
    let mut demo = Demo::seed(screen, &servers).await?;
    demo.start_agent(screen).await?;
    demo.show_files(screen)?;
    demo.show_secret(screen).await?;
    demo.show_conditions(screen).await?;
    demo.change_the_password(screen).await?;
    demo.try_other_paths_in_vault(screen).await?;
    demo.try_other_objects_in_kubernetes(screen).await?;
    if keep {
        demo.print_commands_to_inspect(screen);
        tokio::signal::ctrl_c().await?;
    }
    demo.stop_agent(screen).await
}
