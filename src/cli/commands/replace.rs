//! `podctl replace`: objects of files in the place of those of their names.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;

use crate::{
    cli::{
        Error, Namespace, UsageError,
        durations::{parse_duration, parse_seconds},
        last_applied::SaveConfigArgs,
        manifest_files::{FileArgs, parse_objects},
        object_selection::{Target, check_own_namespace, target_of_object},
        output_formats::{ChangeArgs, DryRun},
        output_streams::print_failures,
        raw_requests::{RawArgs, send_raw},
        result_lines::print_deleted,
    },
    engine::{DeleteOptions, Deletion, Engine, ErrorKind, Preconditions},
    manifest::Written,
    pod::ObjectKind,
    state::Home,
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl replace -f conf.yaml
  podctl replace --force -f pod.yaml       # ends the pod of that name and starts the file's")]
pub(super) struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// Delete what is there, and create what the files hold.
    #[arg(long)]
    force: bool,
    /// With --force: seconds that a pod has to end.
    #[arg(long, value_parser = parse_seconds)]
    grace_period: Option<Duration>,
    /// With --force: how long to wait for the end, such as `30s`; without end else.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    raw: RawArgs,
    #[command(flatten)]
    save: SaveConfigArgs,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if let Some(path) = &args.raw.raw {
        return send_raw(Method::PUT, path, &args.files, home);
    }
    if !args.files.is_given() {
        return Err(UsageError::NoFiles.into());
    }
    if !args.force && (args.grace_period.is_some() || !args.timeout.is_zero()) {
        let flag = if args.timeout.is_zero() { "grace-period" } else { "timeout" };
        return Err(Error::contradiction(format!("--{flag} must have --force specified")));
    }
    let (engine, output, dry) = (Engine::over(home), args.change.output.parse()?, args.change.dry_run());
    if args.force && dry.is_dry() {
        return Err(Error::contradiction("--dry-run can not be used when --force is set"));
    }
    let (mut objects, mut targets) = (Vec::new(), Vec::new());
    for written in parse_objects(&args.files.read_sources()?)? {
        check_own_namespace(&written.object, namespace)?;
        targets.push(target_of_object(&written.object, namespace)?);
        objects.push(written);
    }
    let options = args.change.write_options();
    if args.force {
        delete_first(args, &engine, &targets)?;
    }
    let mut failed = Vec::new();
    for (Written { file, object }, Target { kind, namespace, name }) in objects.iter().zip(&targets) {
        if dry == DryRun::Client {
            // It is printed as it is written, when there is one to be replaced.
            match engine.get_object(*kind, namespace, name) {
                Ok(_) => {
                    let shown = args.save.note(with_namespace(object, *kind, namespace));
                    args.change.print_change(&output, &shown, "replaced")?;
                }
                Err(e) => {
                    failed.push(Error::from(e).in_file("replacing", file));
                }
            }
            continue;
        }
        let object = &match args.save.save_config {
            true => args.save.note(with_namespace(object, *kind, namespace)),
            false => object.clone(),
        };
        let replaced = match args.force {
            true => engine.create_object(*kind, namespace, object, &options),
            false => {
                // An object without a uid is any object of its name.
                let uid = object["metadata"]["uid"].as_str().map(str::to_owned);
                let wanted = Preconditions { uid, ..Preconditions::default() };
                engine.update_object(*kind, namespace, object, &wanted, &options)
            }
        };
        match replaced {
            Ok(object) => {
                args.change.print_change(&output, &object, "replaced")?;
            }
            Err(e) => {
                let doing = if args.force { "creating" } else { "replacing" };
                failed.push(Error::about(*kind, name, e).in_file(doing, file));
            }
        }
    }
    print_failures(&failed);
    Ok(i32::from(!failed.is_empty()))
}

/// Returns an object with the namespace in which it is.
fn with_namespace(object: &Value, kind: ObjectKind, namespace: &Namespace) -> Value {
    let mut object = object.clone();
    if kind.is_namespaced() {
        object["metadata"]["namespace"] = namespace.as_str().into();
    }
    object
}

/// Deletes what is there of the objects, and waits until it is gone.
fn delete_first(args: &Args, engine: &Engine, targets: &[Target]) -> Result<(), Error> {
    let options = DeleteOptions { grace_period: args.grace_period, ..DeleteOptions::default() };
    let deadline = (!args.timeout.is_zero()).then(|| Instant::now() + args.timeout);
    let mut ending = Vec::new();
    let mut batch = engine.begin_deletion();
    for target in targets {
        match batch.delete_object(target.kind, &target.namespace, &target.name, &options) {
            Ok(deletion) => {
                print_deleted(target, "deleted", "");
                if let Deletion::Pod(pod) = deletion {
                    ending.push((target, pod));
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
    }
    batch.finish()?;
    for (target, pod) in ending {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if !pod.wait(left)? {
            return Err(Error::TimedOut { pod: Some(target.name.to_string()) });
        }
    }
    Ok(())
}
