//! `podctl diff`: how objects of files differ from those that are there.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    cli::{
        Error, Namespace, UsageError, io, last_applied,
        manifest_files::LabeledFileArgs,
        object_selection::{Target, target_of_object},
        print, print_error,
    },
    engine::{Engine, ErrorKind, Preconditions, WriteOptions},
    pod::ObjectKind,
    state::Home,
    view::yaml,
};

/// The exit code of trouble; 1 says that there are differences.
const TROUBLE: i32 = 2;

#[derive(clap::Args)]
#[command(after_help = "The exit code is 0 without differences, 1 with some, more when something went wrong.
$KUBECTL_EXTERNAL_DIFF names another program than `diff -u -N`; it is given two directories.")]
pub(super) struct Args {
    #[command(flatten)]
    labeled: LabeledFileArgs,
    /// With the note of who manages which field.
    #[arg(long)]
    show_managed_fields: bool,
    /// With the values of Secrets, and not only that they differ.
    #[arg(long)]
    show_secrets: bool,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    match compare_objects(args, home, namespace) {
        Err(e) => {
            print_error(&e);
            Ok(TROUBLE)
        }
        done => done,
    }
}

fn compare_objects(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if !args.labeled.files.is_given() {
        return Err(UsageError::NoFiles.into());
    }
    let engine = Engine::over(home);
    let labels = args.labeled.parse_selector()?;
    let made = || make_compared_files().map_err(io("cannot make a directory to compare in"));
    let (live, merged) = (made()?, made()?);
    for object in args.labeled.files.read_objects()? {
        if !labels.matches_object(&object) {
            continue;
        }
        let target = target_of_object(&object, namespace)?;
        let (before, after) = find_versions(&engine, &target, &object)?;
        let (mut before, mut after) = (before, after);
        if target.kind == ObjectKind::Secret && !args.show_secrets {
            mask_secrets(before.as_mut(), &mut after);
        }
        let file = format!(
            "{}.{}.{}.{}",
            target.kind.api_version().replace('/', "."),
            target.kind.name(),
            target.namespace,
            target.name
        );
        let show = |object: &Value| {
            let mut object = object.clone();
            if let Some(meta) = object["metadata"].as_object_mut().filter(|_| !args.show_managed_fields) {
                meta.remove("managedFields");
            }
            yaml::document(&object)
        };
        let write = |dir: &Path, text: String| {
            fs::write(dir.join(&file), text).map_err(io("cannot write a file to compare"))
        };
        if let Some(before) = &before {
            write(&live.path, show(before))?;
        }
        write(&merged.path, show(&after))?;
    }
    let program = std::env::var("KUBECTL_EXTERNAL_DIFF").ok().filter(|text| !text.trim().is_empty());
    let program = program.unwrap_or_else(|| "diff -u -N".to_owned());
    let mut words = program.split_whitespace();
    let name = words.next().unwrap_or("diff");
    let mut compare = Command::new(name);
    compare.args(words).args([&live.path, &merged.path]).stdout(Stdio::piped());
    let output = compare.spawn().and_then(podctl_runtime::collect_output);
    let output = output.map_err(io(format!("cannot run {name}, which compares the objects")))?;
    print(&String::from_utf8_lossy(&output.stdout));
    Ok(output.status.code().unwrap_or(TROUBLE))
}

/// Returns an object as it is, if it is, and as it would be.
fn find_versions(engine: &Engine, target: &Target, object: &Value) -> Result<(Option<Value>, Value), Error> {
    let Target { kind, namespace, name } = target;
    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let live = match engine.get_object(*kind, namespace, name) {
        Ok(live) => live,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let would = engine.create_object(*kind, namespace, object, &dry);
            return Ok((None, would.map_err(|e| Error::about(*kind, name, e))?));
        }
        Err(e) => return Err(e.into()),
    };
    let merged = last_applied::merge_for_comparison(&live, object)?;
    let would = engine.update_object(*kind, namespace, &merged, &Preconditions::default(), &dry);
    let mut after = would.map_err(|e| Error::about(*kind, name, e))?;
    // They are the object's, whatever the file says.
    for field in ["uid", "creationTimestamp", "resourceVersion", "generation", "managedFields"] {
        match (live["metadata"].get(field), after["metadata"].as_object_mut()) {
            (Some(value), Some(meta)) => drop(meta.insert(field.to_owned(), value.clone())),
            (None, Some(meta)) => drop(meta.remove(field)),
            _ => {}
        }
    }
    if let Some(status) = live.get("status") {
        after["status"] = status.clone();
    }
    if let Some(node) = live["spec"].get("nodeName") {
        after["spec"]["nodeName"] = node.clone();
    }
    Ok((Some(live), after))
}

/// Puts stars in the place of a Secret's values; whether they differ is still seen.
fn mask_secrets(before: Option<&mut Value>, after: &mut Value) {
    let known = before.as_ref().map(|before| before["data"].clone()).unwrap_or_default();
    for (key, value) in after["data"].as_object_mut().into_iter().flatten() {
        let same = known.get(key).is_none_or(|known| known == value);
        *value = if same { "***" } else { "*** (after)" }.into();
    }
    let new = after["data"].clone();
    for (key, value) in before.and_then(|before| before["data"].as_object_mut()).into_iter().flatten() {
        *value = if new.get(key).is_none_or(|new| new == "***") { "***" } else { "*** (before)" }.into();
    }
}

/// The directory that goes when it is dropped; only its owner may look into it.
struct ComparedFiles {
    path: std::path::PathBuf,
}

fn make_compared_files() -> std::io::Result<ComparedFiles> {
    use std::os::unix::fs::DirBuilderExt;
    let name = format!("podctl-diff-{}", uuid::Uuid::new_v4().simple());
    let path = std::env::temp_dir().join(name);
    fs::DirBuilder::new().mode(0o700).create(&path)?;
    Ok(ComparedFiles { path })
}

impl Drop for ComparedFiles {
    fn drop(&mut self) {
        // It is in the directory for what may be lost.
        let _ = fs::remove_dir_all(&self.path);
    }
}
