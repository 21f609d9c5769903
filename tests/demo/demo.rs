//! `cargo demo`: the reference scenario on a real Vault and a real Kubernetes API server, step by step. Each step checks what it
//! shows; the exit code is 0 only if everything held.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::print_stdout)]

mod screen;
mod steps;
#[path = "../testbed/mod.rs"]
mod testbed;

use std::process::ExitCode;

use anyhow::Result;
use screen::Screen;
use steps::Story;

const HELP: &str = "cargo demo [--keep]

Builds or finds Vault, etcd and kube-apiserver, starts them on loopback ports, and shows the agent at work.

  --keep   leave everything running until Ctrl-C, and say how to look at it

The values that are shown are made up for this demo. Nothing is left behind, also after Ctrl-C.";

/// Exit code after Ctrl-C, as a shell reports it.
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
    let told = tokio::select! {
        biased;
        _ = interrupted(), if !keep => None,
        told = tell(&mut screen, keep) => Some(told),
    };
    match told {
        None => ExitCode::from(INTERRUPTED),
        Some(Ok(())) => {
            screen.summary();
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            screen.fails(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> Result<()> {
    tokio::signal::ctrl_c().await?;
    println!("\ninterrupted: cleaning up");
    Ok(())
}

async fn tell(screen: &mut Screen, keep: bool) -> Result<()> {
    let binaries = steps::find_servers(screen)?;
    steps::build_agent(screen)?;
    let servers = steps::start_servers(screen, &binaries).await?;
    let mut story = Story::seed(screen, &servers).await?;
    story.start_agent(screen).await?;
    story.look_at_files(screen)?;
    story.look_at_secret(screen).await?;
    story.look_at_conditions(screen).await?;
    story.change_the_password(screen).await?;
    story.try_other_paths_in_vault(screen).await?;
    story.try_other_rights_in_kubernetes(screen).await?;
    if keep {
        story.explain_how_to_look(screen);
        tokio::signal::ctrl_c().await?;
    }
    story.end(screen).await
}
