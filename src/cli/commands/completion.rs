//! `podctl completion` and `podctl man`: what a shell and a reader of manuals need.

use crate::cli::{Error, build_manual, io, print};
use std::{fs, path::PathBuf};

/// For bash, in this shell: `source <(podctl completion bash)`; for every new one, put that line
/// into ~/.bashrc. For zsh: `podctl completion zsh > "${fpath[1]}/_podctl"`. For fish:
/// `podctl completion fish > ~/.config/fish/completions/podctl.fish`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Tells which shell.
    shell: Shell,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

const BASH: &str = r#"# bash completion for podctl
_podctl() {
    local IFS=$'\n' line files=
    COMPREPLY=()
    for line in $("${COMP_WORDS[0]}" __complete --bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null); do
        if [[ $line == :files ]]; then files=1; else COMPREPLY+=("${line%%$'\t'*}"); fi
    done
    if [[ -n $files ]]; then
        compopt -o filenames 2>/dev/null
        COMPREPLY+=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
    elif [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=:/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _podctl podctl
"#;

const ZSH: &str = r#"#compdef podctl
_podctl() {
    local line files
    local -a offers
    for line in ${(f)"$(${words[1]} __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"}; do
        if [[ $line == :files ]]; then
            files=1
        else
            offers+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
        fi
    done
    _describe -t podctl podctl offers
    [[ -n $files ]] && _files
    return 0
}
if [[ ${funcstack[1]} == _podctl ]]; then _podctl "$@"; else compdef _podctl podctl; fi
"#;

const FISH: &str = r#"# fish completion for podctl
function __podctl_offers
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] __complete $words[2..-1] 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c podctl -f -a '(__podctl_offers)'
"#;

pub(super) fn print_script(args: &Args) {
    print(match args.shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
    });
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl man ~/.local/share/man/man1       # then: man podctl, man podctl-run")]
pub(super) struct ManArgs {
    /// The directory that the pages are written into.
    #[arg(value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,
}

/// Writes a manual page for podctl and for each of its commands, out of the parser's own definitions.
pub(super) fn write_manual(args: &ManArgs) -> Result<i32, Error> {
    let cannot = || io(format!("cannot write manual pages into {}", args.dir.display()));
    fs::create_dir_all(&args.dir).map_err(cannot())?;
    clap_mangen::generate_to(build_manual(), &args.dir).map_err(cannot())?;
    Ok(0)
}
