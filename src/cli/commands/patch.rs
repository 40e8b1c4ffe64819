//! `podctl patch`: a part of an object in the place of what it was.

use std::path::Path;

use serde_json::Value;

use crate::{
    cli::{
        Error, Namespace,
        edited_objects::{EditedObject, read_local_objects},
        manifest_files::{FileArgs, read_source},
        object_selection::{Target, named_targets},
        output_formats::ChangeArgs,
        print_error,
    },
    engine::{
        self, Engine, ObjectKind, PodPart, WriteOptions,
        patch::{PatchType, apply_patch},
    },
    server::raw_request::Refusal,
    state::Home,
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl patch cm conf -p '{\"data\":{\"level\":\"debug\"}}'      # pods that mount it see the new value
  podctl patch pod web --type=json -p '[{\"op\":\"remove\",\"path\":\"/metadata/labels/tier\"}]'
  podctl patch pod web --subresource=resize -p '{\"spec\":{\"containers\":[{\"name\":\"app\",\"resources\":{\"limits\":{\"memory\":\"1Gi\"}}}]}}'
  podctl patch -f deployment.yaml --local -p '{\"spec\":{\"replicas\":3}}' -o yaml | podctl run -")]
pub(super) struct Args {
    /// `KIND NAME…` or `KIND/NAME…`.
    names: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// The patch, in JSON or YAML.
    #[arg(short, long)]
    patch: Option<String>,
    /// A file with the patch.
    #[arg(long, value_name = "FILE")]
    patch_file: Option<String>,
    /// `json` (RFC 6902), `merge` (RFC 7386) or `strategic`.
    #[arg(long = "type", default_value = "strategic")]
    type_: String,
    /// `resize`: CPU and memory of a pod's containers, while they run; `status`: conditions that its readinessGates wait for.
    #[arg(long)]
    subresource: Option<String>,
    /// Patch what the files hold, print it, and touch nothing else.
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Args {
    /// The patch's type, and its text as JSON.
    fn read_patch(&self) -> Result<(PatchType, Vec<u8>), Error> {
        let text = match (&self.patch, &self.patch_file) {
            (Some(_), Some(_)) => {
                return Err(Error::contradiction("cannot specify --patch and --patch-file together"));
            }
            (Some(text), _) if !text.is_empty() => text.clone(),
            (None, Some(file)) if file != "-" && !Path::new(file).exists() => {
                return Err(Error::unreadable(format!(
                    "unable to read patch file: open {file}: no such file or directory"
                )));
            }
            (None, Some(file)) => read_source(file)?.text,
            _ => {
                let what = "must specify --patch or --patch-file containing the contents of the patch";
                return Err(Error::missing(what));
            }
        };
        let type_ = match self.type_.to_lowercase().as_str() {
            "json" => PatchType::Json,
            "merge" => PatchType::Merge,
            "strategic" | "" => PatchType::Strategic,
            _ => {
                let what = format!("--type must be one of [json merge strategic], not {:?}", self.type_);
                return Err(Error::bad_value(what));
            }
        };
        let value = crate::manifest::parse_yaml(&text)
            .map_err(|e| Error::bad_value(format!("unable to parse {text:?} as a patch: {e}")))?;
        Ok((type_, value.to_string().into_bytes()))
    }
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let (type_, patch) = args.read_patch()?;
    let output = args.change.output.parse()?;
    // kubectl says nothing of a dry run here.
    let say = |EditedObject { before, after }: &EditedObject| {
        let same = if before == after { " (no change)" } else { "" };
        args.change.output.print_result(&output, after, &format!("patched{same}"))
    };
    if args.local {
        for before in read_local_objects(&args.files)? {
            let patched = apply_patch(type_, &before, &patch).map_err(engine::Error::from)?;
            say(&EditedObject { before, after: patched })?;
        }
        return Ok(0);
    }
    let engine = Engine::over(home);
    let part = match args.subresource.as_deref() {
        Some("resize") => PodPart::Resources,
        Some("status") => PodPart::Status,
        Some(_) => {
            let message = "the server could not find the requested resource".to_owned();
            return Err(Refusal { reason: "NotFound".to_owned(), message }.into());
        }
        None => PodPart::Object,
    };
    let options = WriteOptions { part, ..args.change.write_options() };
    let mut code = 0;
    for Target { kind, namespace, name } in named_targets(&args.names, &args.files, home, namespace)? {
        if part != PodPart::Object && kind != ObjectKind::Pod {
            let what = format!("{} have no such subresource here; pods have", kind.plural());
            return Err(Error::not_done(what));
        }
        let key = (namespace.as_str(), name.as_str());
        match engine.patch_object(kind, key, (type_, &patch), &options) {
            Ok((before, after)) => {
                let unchanged = without_version(&before) == without_version(&after);
                let before = if unchanged { after.clone() } else { before };
                say(&EditedObject { before, after })?;
            }
            Err(e) => {
                print_error(&Error::about(kind, &name, e));
                code = 1;
            }
        }
    }
    Ok(code)
}

/// The object without what a server counts.
fn without_version(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.retain(|key, _| !matches!(key.as_str(), "resourceVersion" | "managedFields" | "generation"));
    }
    object
}
