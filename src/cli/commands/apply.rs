//! `podctl apply`: keeps the objects of files, and starts their pods; shows and notes what was applied.

use serde_json::Value;

use crate::{
    cli::{
        Error, Namespace, UsageError,
        applied_files::{Manner, apply_files},
        last_applied::{is_noted, note_configuration, read_configuration},
        manifest_files::{FileArgs, LabeledFileArgs},
        object_selection::{NO_RESOURCES, Target, find_targets, target_of_object},
        output_formats::ChangeArgs,
        pod_selection::{FilterArgs, Told, Which},
        print, print_error,
        server_side_apply::ServerSideArgs,
    },
    engine::Engine,
    pod::LAST_APPLIED_ANNOTATION,
    state::Home,
    view::yaml,
};

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  podctl apply -f conf.yaml -f web.yaml
  podctl apply -R -f manifests/ --dry-run=server
  podctl apply -f https://example.com/pod.yaml
  podctl apply view-last-applied cm conf

What a file says no longer goes; what others have set stays. For that, what was applied is noted in an annotation of the
object, as kubectl notes it. A pod that runs takes labels, annotations and an earlier deadline; `podctl run -d --replace
FILE` gives it another spec."
)]
pub(super) struct Args {
    #[command(flatten)]
    labeled: LabeledFileArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server_side: ServerSideArgs,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(clap::Subcommand)]
enum What {
    /// Show what was applied last.
    #[command(name = "view-last-applied")]
    View(ViewArgs),
    /// Note what the files say as what was applied last, and change nothing else.
    #[command(name = "set-last-applied")]
    Set(SetArgs),
    /// Has no editor here: the file is applied anew.
    #[command(name = "edit-last-applied", hide = true)]
    Edit {
        /// `KIND NAME…` or `KIND/NAME…`.
        names: Vec<String>,
        #[command(flatten)]
        files: FileArgs,
    },
}

#[derive(clap::Args)]
struct ViewArgs {
    /// `KIND NAME…` or `KIND/NAME…`.
    names: Vec<String>,
    #[command(flatten)]
    labeled: LabeledFileArgs,
    /// Of every object of the kind.
    #[arg(long)]
    all: bool,
    /// `yaml` or `json`.
    #[arg(short, long, default_value = "yaml")]
    output: String,
}

#[derive(clap::Args)]
struct SetArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Also in objects in which nothing is noted yet.
    #[arg(long)]
    create_annotation: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    match &args.what {
        Some(What::View(args)) => view_last_applied(args, home, namespace),
        Some(What::Set(args)) => set_last_applied(args, home, namespace),
        Some(What::Edit { names, files }) if names.is_empty() && !files.is_given() => {
            Err(Error::missing(NO_RESOURCES))
        }
        Some(What::Edit { .. }) => Err(Error::not_done(
            "what was applied is what a file said: change the file and `podctl apply` it, or `podctl apply set-last-applied -f FILE`",
        )),
        None if args.server_side.server_side && args.labeled.files.is_given() => {
            args.server_side.check_manner(args.change.dry_run())?;
            let files = (&args.labeled.files, args.labeled.selector.as_str());
            args.server_side.apply_files(files, &args.change, home, namespace)
        }
        None => {
            args.server_side.check_manner(args.change.dry_run())?;
            let manner = Manner {
                fresh: false,
                save: true,
                selector: &args.labeled.selector,
                dry: args.change.dry_run(),
                output: &args.change.output,
                manager: args.change.manager(),
            };
            apply_files(&args.labeled.files, &manner, home, namespace)
        }
    }
}

fn view_last_applied(args: &ViewArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let show: fn(&Value) -> String = match args.output.as_str() {
        "yaml" => yaml::document,
        "json" => |value| serde_json::to_string_pretty(value).unwrap_or_default() + "\n",
        other => {
            return Err(Error::bad_value(format!(
                "Unexpected -o output mode: {other}, the flag 'output' must be one of yaml|json\nSee 'podctl apply view-last-applied -h' for help and examples"
            )));
        }
    };
    let selector = Some(args.labeled.selector.clone()).filter(|selector| !selector.is_empty());
    let filter = FilterArgs { selector, ..FilterArgs::default() };
    let which = Which { names: args.names.clone(), filter, files: args.labeled.files.clone() };
    let engine = Engine::over(home);
    for Target { kind, namespace, name } in
        find_targets(&Told { which, all: args.all }, &args.names, home, namespace)?
    {
        let object = engine.get_object(kind, &namespace, &name)?;
        match read_configuration(&object) {
            Some(text) => print(&show(&serde_json::from_str(text)?)),
            None => eprintln!("no last-applied-configuration annotation found on resource: {name}"),
        }
    }
    Ok(0)
}

fn set_last_applied(args: &SetArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if !args.files.is_given() {
        return Err(UsageError::Missing(NO_RESOURCES.into()).into());
    }
    let (engine, output) = (Engine::over(home), args.change.output.parse()?);
    let mut code = 0;
    for mut written in args.files.read_objects()? {
        let Target { kind, namespace, name } = target_of_object(&written, namespace)?;
        if kind.is_namespaced() {
            written["metadata"]["namespace"] = namespace.as_str().into();
        }
        let live = engine.get_object(kind, &namespace, &name)?;
        if !is_noted(&live) && !args.create_annotation {
            print_error(&Error::absent(format!(
                "no last-applied-configuration annotation found on resource: {name}, to create the annotation, run the command with --create-annotation"
            )));
            code = 1;
            continue;
        }
        let note = note_configuration(&written)["metadata"]["annotations"][LAST_APPLIED_ANNOTATION].take();
        let set = |object: &mut Value| {
            object["metadata"]["annotations"][LAST_APPLIED_ANNOTATION] = note.clone();
        };
        let changed = match args.change.dry_run().is_dry() {
            true => {
                let mut object = live;
                set(&mut object);
                object
            }
            false => engine.change_object(kind, &namespace, &name, set, &args.change.write_options())?,
        };
        args.change.print_change(&output, &changed, "configured")?;
    }
    Ok(code)
}
