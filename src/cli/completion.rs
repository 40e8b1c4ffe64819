//! `podctl completion`: what a shell needs to complete podctl's command line.

use clap::CommandFactory;
use clap_complete::Shell;

/// For bash, in this shell: `source <(podctl completion bash)`; for every new one, put that line
/// into ~/.bashrc. For zsh: `podctl completion zsh > "${fpath[1]}/_podctl"`. For fish:
/// `podctl completion fish > ~/.config/fish/completions/podctl.fish`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Tells which shell.
    shell: Shell,
}

pub(super) fn print(args: &Args) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut <super::Cli>::command(), "podctl", &mut script);
    super::print(&String::from_utf8_lossy(&script));
}
