//! The command line: one file a command. Each reads its arguments, calls the library, prints.

mod delete;
mod exec;
mod get;
mod images;
mod logs;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    state::{self, Home, PodDir},
    supervisor,
};

/// Runs Kubernetes pods on this machine: without root, daemon or cluster.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    /// Namespaces are only names here.
    #[arg(short, long, global = true, default_value = "default")]
    namespace: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the pods of manifest files.
    Run(run::Args),
    /// Show pods.
    Get(get::Args),
    /// Print the logs of a container.
    Logs(logs::Args),
    /// End pods and forget them.
    Delete(delete::Args),
    /// Run a command in a container.
    Exec(exec::Args),
    /// Fetch images.
    Pull(images::PullArgs),
    /// List images.
    Images(images::ListArgs),
    /// Remove images.
    Rmi(images::RemoveArgs),
    /// Load images from a docker-archive, an oci-archive or an OCI layout directory.
    Load(images::LoadArgs),
    /// Not for people.
    #[command(hide = true)]
    Internal {
        /// Which role this process is to play.
        role: String,
    },
}

/// What goes wrong in a command; shown once, here.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    State(#[from] state::Error),
    #[error(transparent)]
    Start(#[from] supervisor::Error),
    #[error(transparent)]
    Images(#[from] podctl_images::Error),
    #[error(transparent)]
    Runtime(#[from] podctl_runtime::Error),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// The whole sentence.
    #[error("{0}")]
    Said(String),
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// The program's life.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Internal { role } = &cli.command {
        return exit_code(match role.as_str() {
            "supervise" => supervisor::main(),
            "pull-agent" => supervisor::pull::main(),
            "sweep" => supervisor::sweep::main(),
            "images" => images::inside(),
            _ => 2,
        });
    }
    match command(cli) {
        Ok(code) => exit_code(code),
        Err(e) => {
            anstream::eprintln!("{}: {e}", red("error"));
            ExitCode::FAILURE
        }
    }
}

fn command(cli: Cli) -> Result<i32, Error> {
    let home = Home::of_user()?;
    let namespace = &cli.namespace;
    match cli.command {
        Command::Run(args) => run::run(&args, &home, namespace),
        Command::Get(args) => get::run(&args, &home, namespace),
        Command::Logs(args) => logs::run(&args, &home, namespace),
        Command::Delete(args) => delete::run(&args, &home, namespace),
        Command::Exec(args) => exec::run(&args, &home, namespace),
        Command::Pull(args) => images::pull(&args, &home),
        Command::Images(args) => images::list(&args, &home),
        Command::Rmi(args) => images::remove(&args, &home),
        Command::Load(args) => images::load(&args, &home),
        Command::Internal { .. } => unreachable!("handled in main"),
    }
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// `pod/NAME`, `pods/NAME` and plain `NAME` are the same pod.
fn pod_dir(home: &Home, namespace: &str, name: &str) -> Result<PodDir, Error> {
    let plain = match name.split_once('/') {
        Some(("pod" | "pods" | "po", plain)) => plain,
        Some((kind, _)) => {
            return Err(Error::Said(format!("the server doesn't have a resource type {kind:?}")));
        }
        None => name,
    };
    Ok(home.pod(namespace, plain))
}

fn red(text: &str) -> String {
    let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
    format!("{style}{text}{style:#}")
}

fn warn(text: &str) {
    let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Yellow.into()));
    anstream::eprintln!("{style}warning{style:#}: {text}");
}
