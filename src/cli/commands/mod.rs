//! The commands, one file or folder each: flags, one call of the engine, a view, an exit code. No command imports another;
//! what several share is in `cli/`, in files that are named after their subject.

mod apply;
mod attach;
mod auth;
mod cluster_info;
mod completion;
mod config;
mod cp;
mod create;
mod debug;
mod delete;
mod describe;
mod diff;
pub(crate) mod doctor;
mod edit;
mod enable;
mod events;
mod exec;
mod explain;
mod explain_file;
mod export;
mod expose;
mod get;
mod images;
mod inspect;
mod kustomize;
mod label;
mod login;
mod logs;
mod patch;
mod port_forward;
mod replace;
mod restart;
mod rollout;
mod run;
mod serve;
mod set;
mod stop;
mod system;
mod timeline;
mod top;
mod version;
mod volume;
mod wait;

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand, builder::Resettable};

use crate::{
    cli::{
        Error, Namespace,
        pod_selection::Named,
        usage_errors::{self, Refusal},
    },
    engine, network,
    pod::InvalidName,
    state::Home,
};

/// Runs Kubernetes pods on this machine: without root, daemon or cluster.
#[derive(Parser)]
#[command(
    version = version::describe_version(),
    about,
    args_override_self = true,
    max_term_width = 100,
    after_help = "First steps:
  podctl run web --image=nginx -p 8080:80      # an image as a pod
  podctl run pod.yaml                          # a manifest; its logs are shown, Ctrl-C ends it
  podctl get pods; podctl describe pod web; podctl logs web; podctl exec -it web -- sh; podctl delete pod web
  podctl doctor                                # what this machine offers"
)]
struct Cli<C: Subcommand = Command> {
    /// Whose pods are meant; a namespace is no more than a part of a pod's name here.
    #[arg(short, long, global = true, default_value = "default", value_parser = parse_namespace)]
    namespace: Namespace,
    #[command(subcommand)]
    command: C,
}

/// Reads `-n`; nothing is the namespace of who says nothing.
fn parse_namespace(text: &str) -> Result<Namespace, InvalidName> {
    if text.is_empty() { Ok(Namespace::default()) } else { Namespace::parse(text) }
}

/// Builds the parser of all commands, with the flags of each.
pub(super) fn build_parser() -> clap::Command {
    build_flags(Cli::<Command>::command())
}

/// Builds the parser as manual pages show it: without a command for help.
pub(super) fn build_manual() -> clap::Command {
    build_flags(Cli::<Command>::command().disable_help_subcommand(true))
}

/// Makes the flags of every command. What a command is about is what the list of commands says of it, not what the flags
/// that it shares with others say of themselves.
fn build_flags(mut command: clap::Command) -> clap::Command {
    let about = |sub: &clap::Command| (sub.get_about().cloned(), sub.get_long_about().cloned());
    let said: Vec<_> = command.get_subcommands().map(about).collect();
    command.build();
    for (sub, (about, long_about)) in command.get_subcommands_mut().zip(said) {
        *sub = std::mem::take(sub).about(Resettable::from(about)).long_about(Resettable::from(long_about));
    }
    command
}

/// The command line that has been understood.
pub(super) struct CommandLine(Cli);

/// Parses a command line, the frequent commands faster than others.
///
/// # Errors
/// The refusal of one that is not understood, to be printed.
pub(super) fn parse_line(args: Vec<OsString>) -> Result<CommandLine, Refusal> {
    parse_frequent(&args).map_or_else(|| usage_errors::parse(args), Ok).map(CommandLine)
}

/// Names what scripts call again and again: a parser of all commands takes longer, though it makes the flags only of the
/// one that is called.
#[derive(Subcommand)]
#[command(defer = true)]
enum Frequent {
    Run(Box<run::Args>),
    Apply(apply::Args),
    Get(get::Args),
    Describe(describe::Args),
    Wait(wait::Args),
    Logs(logs::Args),
    Delete(delete::Args),
    Exec(exec::Args),
    Version(version::Args),
}

#[derive(Subcommand)]
#[command(defer = true)]
enum Command {
    /// Run the pods of manifest files.
    Run(Box<run::Args>),
    /// Keep the objects of manifest files, and start their pods.
    Apply(apply::Args),
    /// Keep objects made of flags: ConfigMaps, Secrets, Services, namespaces.
    Create(Box<create::Args>),
    /// Put objects of files in the place of those of their names.
    Replace(replace::Args),
    /// Change a part of an object.
    Patch(patch::Args),
    /// Edit an object in an editor.
    Edit(edit::Args),
    /// Set images, variables or resources of containers.
    Set(Box<set::Args>),
    /// Show how objects of files differ from those that are there.
    Diff(diff::Args),
    /// Make a Service for pods.
    Expose(Box<expose::Args>),
    /// Start or end pods of a workload.
    Scale(rollout::ScaleArgs),
    /// Start the pods of a workload anew, or wait for them.
    Rollout(Below<rollout::RolloutCommand>),
    /// The local volumes behind persistent volume claims.
    Volume(Below<volume::Command>),
    /// Show the fields of a kind.
    Explain(explain::Args),
    /// Print what a run would do, without doing it.
    ExplainFile(explain_file::Args),
    /// Check what this machine offers, and how to mend what is missing.
    Doctor(doctor::Args),
    /// Show pods, or what `create` and `apply` keep.
    Get(get::Args),
    /// Show objects in full.
    Describe(describe::Args),
    /// Show what happened to pods.
    Events(events::Args),
    /// Set or take away labels of objects.
    Label(label::Args),
    /// Set or take away annotations of objects.
    Annotate(label::Args),
    /// Wait until objects are as they should be.
    Wait(wait::Args),
    /// Show a pod's start as a picture.
    Timeline(timeline::Args),
    /// Print pods, and what they refer to, as YAML for a cluster.
    Export(export::Args),
    /// Print the logs of a container.
    Logs(logs::Args),
    /// End pods and forget them; delete kept objects.
    Delete(delete::Args),
    /// End pods and keep them, to be started again.
    Stop(stop::Args),
    /// Start pods that have ended, anew.
    Start(Named),
    /// Start every container of pods anew, init containers first.
    Restart(Named),
    /// Run a command in a container.
    Exec(exec::Args),
    /// Attach to a container's first process.
    Attach(attach::Args),
    /// Add a debug container to a pod, or start a changed copy of it.
    Debug(Box<debug::Args>),
    /// Copy files out of and into containers.
    Cp(cp::Args),
    /// Forward local ports to a pod.
    PortForward(port_forward::Args),
    /// Show what pods use.
    Top(top::Args),
    /// Show what containers use, again and again with -w.
    Stats(top::StatsArgs),
    /// Fetch images.
    Pull(images::PullArgs),
    /// List images.
    Images(images::ListArgs),
    /// Remove images.
    Rmi(images::RemoveArgs),
    /// Give an image one name more.
    Tag(images::TagArgs),
    /// Write images into an archive.
    Save(images::SaveArgs),
    /// Show how an image was built: commands and layers.
    History(images::HistoryArgs),
    /// Images: list, pull, remove, prune, load, save, tag.
    Image(Below<images::ImageCommand>),
    /// Keep who to be at a registry.
    Login(login::LoginArgs),
    /// Forget who to be at a registry.
    Logout(login::LogoutArgs),
    /// Show pods: the same as `get pods`.
    Ps(get::PsArgs),
    /// Show pods and images as JSON: what `get pod NAME -o json` prints, and an image's configuration.
    Inspect(inspect::InspectArgs),
    /// Remove what nothing uses any more.
    System(Below<system::SystemCommand>),
    /// Load images from a docker-archive, an oci-archive or an OCI layout directory.
    Load(images::LoadArgs),
    /// Serve the Kubernetes API to kubectl and other clients.
    Serve(serve::Args),
    /// Print the context by which kubectl finds podctl, or put it into its file.
    Kubeconfig(serve::KubeconfigArgs),
    /// Tell what may be done, and who the user is.
    Auth(Below<auth::Command>),
    /// Show where the Kubernetes API is served.
    ClusterInfo(cluster_info::Args),
    /// Build a kustomization.
    Kustomize(kustomize::Args),
    /// Show the context by which kubectl finds podctl.
    Config(Below<config::Command>),
    /// Show the kinds of objects there are.
    ApiResources(version::ResourcesArgs),
    /// Show the versions of the API there are.
    ApiVersions,
    /// Show podctl's version, and that of the API.
    Version(version::Args),
    /// Let systemd start the pods of manifest files, or a pod, at boot.
    Enable(enable::Args),
    /// Let systemd start them no longer.
    Disable(enable::Args),
    /// Print what lets systemd run pods.
    Generate(Below<enable::Generate>),
    /// Print a script that completes podctl's command line in a shell.
    Completion(completion::Args),
    /// Write manual pages.
    Man(completion::ManArgs),
}

// The commands below a command: only those of the one that is called are made. Documented here, or help would show it.
#[derive(clap::Args)]
struct Below<C: Subcommand> {
    #[command(subcommand)]
    command: C,
}

impl Command {
    /// Tells whether it looks at all that there is, and so finds all that killed commands have left. Others are
    /// called often.
    fn lists_names(&self) -> bool {
        use Command::{Delete, Doctor, Get, Images, Pull, Rmi};
        match self {
            Get(args) => args.lists_names(),
            other => matches!(other, Delete(_) | Doctor(_) | Images(_) | Pull(_) | Rmi(_)),
        }
    }
}

/// Returns what was called, if it is one of the frequent commands and nothing is wrong with it; what is wrong,
/// the whole parser says.
fn parse_frequent(args: &[OsString]) -> Option<Cli> {
    args.get(1).filter(|name| Frequent::has_subcommand(&name.to_string_lossy()))?;
    let Cli { namespace, command } = Cli::<Frequent>::try_parse_from(args).ok()?;
    let command = match command {
        Frequent::Run(args) => Command::Run(args),
        Frequent::Apply(args) => Command::Apply(args),
        Frequent::Get(args) => Command::Get(args),
        Frequent::Describe(args) => Command::Describe(args),
        Frequent::Wait(args) => Command::Wait(args),
        Frequent::Logs(args) => Command::Logs(args),
        Frequent::Delete(args) => Command::Delete(args),
        Frequent::Exec(args) => Command::Exec(args),
        Frequent::Version(args) => Command::Version(args),
    };
    Some(Cli { namespace, command })
}

/// Does what a command line says; returns the exit code.
///
/// # Errors
/// What a command could not do, to be shown once by the caller.
pub(super) fn run_command(CommandLine(cli): CommandLine) -> Result<i32, Error> {
    // They need no place for pods.
    match &cli.command {
        Command::Completion(args) => {
            completion::print_script(args);
            return Ok(0);
        }
        Command::Man(args) => return completion::write_manual(args),
        Command::Login(args) => return login::log_in(args),
        Command::Logout(args) => return login::log_out(args),
        Command::Version(args) => return version::run(args),
        Command::ApiResources(args) => return version::list_resources(args),
        Command::ApiVersions => return version::list_versions(),
        Command::Explain(args) => return explain::run(args),
        Command::Kustomize(args) => return kustomize::run(args),
        _ => {}
    }
    let home = Home::of_user()?;
    network::keeper_guard::mend_network(&home);
    match cli.command.lists_names() {
        true => engine::sweep::sweep_left(&home),
        // Of all that killed commands have left only what any command may name.
        false => engine::sweep::sweep_records(&home),
    }
    let namespace = &cli.namespace;
    match cli.command {
        Command::Run(args) => run::run(&args, &home, namespace),
        Command::Apply(args) => apply::run(&args, &home, namespace),
        Command::Create(args) => create::run(&args, &home, namespace),
        Command::Volume(Below { command }) => volume::run(&command, &home, namespace),
        Command::ExplainFile(args) => explain_file::run(&args, &home, namespace),
        Command::Doctor(args) => doctor::run(&args, &home),
        Command::Get(args) => get::run(&args, &home, namespace),
        Command::Describe(args) => describe::run(&args, &home, namespace),
        Command::Events(args) => events::run(&args, &home, namespace),
        Command::Label(args) => label::label(&args, &home, namespace),
        Command::Annotate(args) => label::run_annotate(&args, &home, namespace),
        Command::Wait(args) => wait::run(&args, &home, namespace),
        Command::Timeline(args) => timeline::run(&args, &home, namespace),
        Command::Export(args) => export::run(&args, &home, namespace),
        Command::Logs(args) => logs::run(&args, &home, namespace),
        Command::Delete(args) => delete::run(&args, &home, namespace),
        Command::Stop(args) => stop::run(&args, &home, namespace),
        Command::Start(args) => restart::start(&args, &home, namespace),
        Command::Restart(args) => restart::restart(&args, &home, namespace),
        Command::Exec(args) => exec::run(&args, &home, namespace),
        Command::Attach(args) => attach::run(&args, &home, namespace),
        Command::Debug(args) => debug::run(&args, &home, namespace),
        Command::Cp(args) => cp::run(&args, &home, namespace),
        Command::PortForward(args) => port_forward::run(&args, &home, namespace),
        Command::Top(args) => top::run(&args, &home, namespace),
        Command::Stats(args) => top::stats(&args, &home, namespace),
        Command::Pull(args) => images::pull(&args, &home),
        Command::Images(args) => images::list(&args, &home),
        Command::Rmi(args) => images::remove(&args, &home),
        Command::Tag(args) => images::tag_image(&args, &home),
        Command::Save(args) => images::save_images(&args, &home),
        Command::History(args) => images::show_history(&args, &home),
        Command::Image(Below { command }) => images::run(&command, &home),
        Command::Ps(args) => get::list_pods(args, &home, namespace),
        Command::Inspect(args) => inspect::inspect(&args, &home, namespace),
        Command::System(Below { command: system::SystemCommand::Prune(args) }) => {
            system::prune_system(&args, &home)
        }
        Command::Load(args) => images::load(&args, &home),
        Command::Serve(args) => serve::run(&args, &home),
        Command::Kubeconfig(args) => serve::write_kubeconfig(&args, &home, namespace),
        Command::Replace(args) => replace::run(&args, &home, namespace),
        Command::Patch(args) => patch::run(&args, &home, namespace),
        Command::Edit(args) => edit::run(&args, &home, namespace),
        Command::Set(args) => set::run(&args, &home, namespace),
        Command::Diff(args) => diff::run(&args, &home, namespace),
        Command::Expose(args) => expose::run(&args, &home, namespace),
        Command::Scale(args) => rollout::scale(&args, &home, namespace),
        Command::Rollout(Below { command }) => rollout::rollout(&command, &home, namespace),
        Command::Auth(Below { command }) => auth::run(&command, &home),
        Command::ClusterInfo(args) => cluster_info::run(&args, &home, namespace),
        Command::Config(Below { command }) => config::run(&command, &home, namespace),
        Command::Completion(_)
        | Command::Man(_)
        | Command::Login(_)
        | Command::Logout(_)
        | Command::Version(_)
        | Command::ApiResources(_)
        | Command::ApiVersions
        | Command::Kustomize(_)
        | Command::Explain(_) => unreachable!("handled before"),
        Command::Enable(args) => enable::enable(&args, &home, namespace),
        Command::Disable(args) => enable::disable(&args, &home, namespace),
        Command::Generate(Below { command }) => enable::generate(&command, &home, namespace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_tells_what_a_command_is_about_and_not_what_its_flags_are() {
        let (listed, whole) = (Cli::<Command>::command(), build_parser());
        for sub in listed.get_subcommands() {
            let own = whole.find_subcommand(sub.get_name()).and_then(|sub| sub.get_about());
            assert_eq!(own.map(ToString::to_string), sub.get_about().map(ToString::to_string));
        }
        let get = whole.find_subcommand("get").unwrap();
        assert!(get.get_about().unwrap().to_string().starts_with("Show pods"));
        assert!(get.get_arguments().any(|arg| arg.get_long() == Some("watch")), "its flags are made");
    }

    #[test]
    fn frequent_commands_are_parsed_as_the_others() {
        let args = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let parsed = parse_frequent(&args("podctl get pods -n space -o wide")).unwrap();
        assert_eq!(parsed.namespace.as_str(), "space");
        assert!(matches!(parsed.command, Command::Get(_)));
        assert!(parse_frequent(&args("podctl get --help")).is_none(), "help is the whole parser's");
        assert!(parse_frequent(&args("podctl images")).is_none());
    }
}
