//! `podctl config`: the context by which kubectl finds podctl, shown as `kubectl config` shows contexts.

use serde_json::Value;

use crate::{
    cli::{Error, Namespace, io, output_formats::OutputArgs, print, print_error},
    engine::Engine,
    server::kubeconfig::{NAME, make_kubeconfig},
    state::Home,
    view::tab_stops,
};

/// podctl has one context; `podctl kubeconfig --merge` puts it beside those of clusters.
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Show the kubeconfig.
    View(ViewArgs),
    /// Show the context's name.
    CurrentContext,
    /// Show the context.
    GetContexts {
        /// Contexts by name; there is one.
        names: Vec<String>,
        /// `name` alone.
        #[arg(short, long, value_parser = ["name"])]
        output: Option<String>,
        /// Leave the table's first line out.
        #[arg(long)]
        no_headers: bool,
    },
    /// Show the cluster's name.
    GetClusters,
    /// Show the user's name.
    GetUsers,
    /// Switch to the context, which is the only one.
    #[command(alias = "use")]
    UseContext {
        /// The context's name.
        names: Vec<String>,
    },
}

#[derive(clap::Args)]
pub(super) struct ViewArgs {
    /// With what is secret in it.
    #[arg(long)]
    raw: bool,
    /// With the contents of files in the place of their names; there are no such files.
    #[arg(long)]
    flatten: bool,
    /// The current context alone; it is the only one.
    #[arg(long)]
    minify: bool,
    /// Kubeconfig files as one; there is one.
    #[arg(long, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    merge: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(command: &Command, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    match command {
        Command::CurrentContext => println!("{NAME}"),
        Command::UseContext { names } => match &names[..] {
            [name] if name == NAME => println!("Switched to context {NAME:?}."),
            [name] => {
                return Err(Error::absent(format!("no context exists with the name: {name:?}")));
            }
            names => return Err(Error::bad_value(format!("Unexpected args: [{}]", names.join(" ")))),
        },
        Command::GetClusters | Command::GetUsers => println!("NAME\n{NAME}"),
        Command::GetContexts { output: Some(_), .. } => println!("{NAME}"),
        Command::GetContexts { names, no_headers, .. } => {
            let missing: Vec<&String> = names.iter().filter(|name| *name != NAME).collect();
            let is_shown = names.is_empty() || missing.len() < names.len();
            let rows = [
                ["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"],
                ["*", NAME, NAME, NAME, namespace.as_str()],
            ];
            let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
            let rows = &rows[usize::from(*no_headers)..if is_shown { 2 } else { 1 }];
            print(&tab_stops::table(rows));
            for name in &missing {
                print_error(&Error::absent(format!("context {name} not found")));
            }
            return Ok(i32::from(!missing.is_empty()));
        }
        Command::View(args) => {
            let mut output = args.output.clone();
            if output.template.is_none() {
                output.output.get_or_insert_with(|| "yaml".into());
            }
            let program = std::env::current_exe().map_err(io("cannot find this program"))?;
            let mut config = make_kubeconfig(&Engine::over(home), &program, namespace)?;
            if !(args.raw || args.flatten) {
                hide_secrets(&mut config);
            }
            print(&output.format_objects(&output.parse()?, &[config], true)?);
        }
    }
    Ok(0)
}

/// Puts kubectl's word in the place of certificates and keys.
fn hide_secrets(config: &mut Value) {
    for list in ["clusters", "users"] {
        for entry in config[list].as_array_mut().into_iter().flatten() {
            let inner = entry.as_object_mut().into_iter().flat_map(|fields| fields.values_mut());
            for (name, value) in inner.filter_map(Value::as_object_mut).flatten() {
                if name.ends_with("-data") {
                    *value = "DATA+OMITTED".into();
                }
            }
        }
    }
}
