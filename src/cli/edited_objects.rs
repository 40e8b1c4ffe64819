//! What commands that change parts of objects share: objects of files alone, their pod templates, the change itself.

use serde_json::Value;

use crate::{
    cli::{
        Error,
        manifest_files::FileArgs,
        object_selection::Target,
        output_formats::{DryRun, Output, OutputArgs},
        print_error,
    },
    engine::{self, Engine, ErrorKind, PodPart, Preconditions, WriteOptions},
    pod::ObjectKind,
};

/// The number of times a change is tried on an object that others change meanwhile.
const TRIES: u32 = 5;

/// The object as it was and as it becomes.
pub(super) struct EditedObject {
    pub before: Value,
    pub after: Value,
}

/// Holds what is said of a change, and whether it is only tried.
pub(super) struct Telling<'a> {
    pub output: &'a Output,
    pub args: &'a OutputArgs,
    pub dry: DryRun,
    /// What is updated: `image`.
    pub what: &'static str,
    /// Tells which part of a pod is changed.
    pub part: PodPart,
    /// Whose the fields that change become, where that is to be noted.
    pub manager: Option<&'a str>,
}

/// Reads the objects that files hold, for `--local`: they need not be of a kind that podctl keeps.
///
/// # Errors
/// No files, or such as cannot be read.
pub(super) fn read_local_objects(files: &FileArgs) -> Result<Vec<Value>, Error> {
    match files.is_given() {
        true => files.read_objects(),
        false => Err(Error::missing(
            "can only use local files by -f pod.yaml or --filename=pod.json when --local=true is set",
        )),
    }
}

/// Checks that an object is of the version that `--resource-version` wants, if it wants one.
///
/// # Errors
/// The conflict of an object that somebody has changed.
pub(super) fn check_object_version(kind: ObjectKind, object: &Value, wanted: &str) -> Result<(), Error> {
    if wanted.is_empty() || object["metadata"]["resourceVersion"] == wanted {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Err(engine::Error::Conflict { kind, name, why: why.into() }.into())
}

/// Finds the spec of the pods that an object is or makes; `None` for objects without pods.
pub(super) fn find_pod_spec(object: &mut Value) -> Option<&mut Value> {
    let path = match object["kind"].as_str()? {
        "Pod" => "/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => {
            "/spec/template/spec"
        }
        "PodTemplate" => "/template/spec",
        _ => return None,
    };
    object.pointer_mut(path).filter(|spec| spec.is_object())
}

/// Changes objects and says so: those of `local` files, else the kept and running ones that are named. Gives the exit
/// code.
///
/// # Errors
/// Output that cannot be printed; what goes wrong with an object is said, and the others are changed.
pub(super) fn change_objects(
    targets: Result<Vec<Target>, Vec<Value>>,
    engine: &Engine,
    telling: &Telling<'_>,
    change: &dyn Fn(&mut Value) -> Result<(), Error>,
) -> Result<i32, Error> {
    let mut code = 0;
    let mut tell = |changed: Result<Option<Value>, Error>| -> Result<(), Error> {
        match changed {
            // Of what stays as it is kubectl says nothing.
            Ok(None) => {}
            Ok(Some(object)) => {
                let what = format!("{} updated{}", telling.what, telling.dry.suffix());
                telling.args.print_result(telling.output, &object, &what)?;
            }
            Err(e) => {
                print_error(&e);
                code = 1;
            }
        }
        Ok(())
    };
    match targets {
        Err(local) => {
            for mut object in local {
                tell(change(&mut object).map(|()| Some(object)))?;
            }
        }
        Ok(targets) => {
            for target in targets {
                tell(change_object(engine, &target, telling, change))?;
            }
        }
    }
    Ok(code)
}

/// Changes one object as it then is, whoever else changes it meanwhile; `None` when that changes nothing.
fn change_object(
    engine: &Engine,
    Target { kind, namespace, name }: &Target,
    &Telling { dry, part, what, manager, .. }: &Telling<'_>,
    change: &dyn Fn(&mut Value) -> Result<(), Error>,
) -> Result<Option<Value>, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let known = engine.get_object(*kind, namespace, name)?;
        let mut new = known.clone();
        change(&mut new)?;
        // kubectl sends the others whether or not they change anything.
        if new == known && !matches!(what, "selector" | "serviceaccount") {
            return Ok(None);
        }
        if dry == DryRun::Client {
            return Ok(Some(new));
        }
        let seen = Preconditions::still(&known);
        let manager = manager.map(str::to_owned);
        let options = WriteOptions { dry_run: dry.is_dry(), part, manager, ..WriteOptions::default() };
        match engine.update_object(*kind, namespace, &new, &seen, &options) {
            Err(e) if e.kind() == ErrorKind::Conflict && tries < TRIES => {}
            done => {
                let failed = |e| Error::NotPatched { what, source: Box::new(Error::about(*kind, name, e)) };
                return done.map(Some).map_err(failed);
            }
        }
    }
}
