//! `podctl edit`: an object in an editor, and back.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{
    cli::{
        Error, Namespace, io,
        manifest_files::FileArgs,
        object_selection::{Target, Words, named_targets, parse_words, read_targets},
        output_formats::{ManagerArgs, Output, OutputArgs},
        print_error,
    },
    engine::{Engine, ListOptions, Preconditions, WriteOptions},
    state::Home,
    view::yaml,
};

/// Names what stands above the object in the editor.
const HEAD: &str = "# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl edit cm conf                      # $KUBE_EDITOR, $EDITOR or vi
  EDITOR='sed -i s/info/debug/' podctl edit cm/conf")]
pub(super) struct Args {
    /// `KIND NAME…` or `KIND/NAME…`; a kind alone is all of its objects, one after another.
    names: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    manager: ManagerArgs,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let engine = Engine::over(home);
    let json = args.output.output.as_deref() == Some("json");
    let output = match args.output.output.as_deref() {
        // They are what is shown in the editor.
        Some("json" | "yaml") => Output::Table { wide: false },
        Some(other) if !["", "kyaml"].contains(&other) => {
            return Err(Error::bad_value(format!(
                "unable to match a printer suitable for the output format {other:?}, allowed formats are: json,kyaml,yaml"
            )));
        }
        _ => args.output.parse()?,
    };
    let targets = args.find_targets(&engine, home, namespace)?;
    if targets.is_empty() {
        return Err(Error::absent("edit cancelled, no objects found"));
    }
    let (found, code) = read_targets(&targets, &engine);
    if code != 0 {
        // Nothing is edited where not all of it can be.
        return Ok(code);
    }
    let manager = args.manager.name().map(str::to_owned);
    let options = WriteOptions { manager, ..WriteOptions::default() };
    for (target, known) in found {
        match edit_object((&engine, &options), &target, &known, json)? {
            Some(edited) => args.output.print_result(&output, &edited, "edited")?,
            None => eprintln!("Edit cancelled, no changes made."),
        }
    }
    Ok(code)
}

impl Args {
    /// The objects that are named, or all of the kinds that are.
    fn find_targets(
        &self,
        engine: &Engine,
        home: &Home,
        namespace: &Namespace,
    ) -> Result<Vec<Target>, Error> {
        let Words::Kinds(kinds) = parse_words(&self.names)? else {
            return named_targets(&self.names, &self.files, home, namespace);
        };
        if self.names.is_empty() {
            return named_targets(&self.names, &self.files, home, namespace);
        }
        let options = ListOptions { namespace: Some(namespace.to_string()), ..ListOptions::default() };
        let mut targets = Vec::new();
        for kind in kinds {
            let all = engine.list_objects(kind, &options)?;
            targets.extend(all.iter().filter_map(|object| Target::of_object(kind, object)));
        }
        Ok(targets)
    }
}

/// Has one object edited until it can be kept; `None` when nothing was changed.
fn edit_object(
    (engine, options): (&Engine, &WriteOptions),
    target: &Target,
    known: &Value,
    json: bool,
) -> Result<Option<Value>, Error> {
    let mut shown = known.clone();
    if let Some(meta) = shown["metadata"].as_object_mut() {
        meta.remove("managedFields");
    }
    // JSON has no comments.
    let (head, original) = match json {
        true => ("", Output::Json.print(&[shown], true, true, true)?),
        false => (HEAD, yaml::document(&shown)),
    };
    let file = EditedFile::make(if json { "json" } else { "yaml" })?;
    let (mut text, mut failure): (String, Option<String>) = (original.clone(), None);
    loop {
        let why = failure.iter().flat_map(|why| why.lines()).map(|line| format!("# {line}\n"));
        let notes: String = why.filter(|_| !json).collect();
        file.write(&format!("{head}{notes}{text}"))?;
        run_editor(&file.path)?;
        let edited = strip_comments(&file.read()?);
        if edited.trim().is_empty() || edited == original {
            return Ok(None);
        }
        if failure.is_some() && edited == text {
            return Err(file.keep("Edit cancelled, no valid changes were saved."));
        }
        let done = crate::manifest::parse_yaml(&edited).map_err(Error::bad_value).and_then(|new| {
            if IDENTITY.iter().any(|field| new.pointer(field) != known.pointer(field)) {
                return Err(file.keep("At least one of apiVersion, kind and name was changed"));
            }
            let seen = Preconditions::still(known);
            let changed = engine.update_object(target.kind, &target.namespace, &new, &seen, options);
            Ok(changed?)
        });
        match done {
            Ok(object) => return Ok(Some(object)),
            Err(e) if file.kept.get() => return Err(e),
            Err(e) => {
                print_error(&Error::unmet(format!(
                    "{} {:?} is invalid",
                    target.kind.plural(),
                    target.name.as_str()
                )));
                (text, failure) = (edited, Some(e.to_string()));
            }
        }
    }
}

/// The fields that say which object one is.
const IDENTITY: [&str; 3] = ["/apiVersion", "/kind", "/metadata/name"];

fn strip_comments(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Runs the user's editor, which may have words of its own.
fn run_editor(path: &std::path::Path) -> Result<(), Error> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("KUBE_EDITOR").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // As kubectl has it: a shell reads quotes.
    let mut words = editor.split_whitespace();
    let mut command = match editor.contains(['"', '\'', '\\']) {
        true => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{editor} \"$1\""), "sh"]);
            shell
        }
        false => {
            let mut command = Command::new(words.next().unwrap_or_default());
            command.args(words);
            command
        }
    };
    match command.arg(path).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Error::unmet(format!("there was a problem with the editor {editor:?}"))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::unmet(format!(
            "unable to launch the editor {editor:?}; set KUBE_EDITOR or EDITOR to another"
        ))),
        Err(e) => Err(io(format!("cannot run the editor {editor:?}"))(e)),
    }
}

/// The file that is in the editor; it may hold a Secret, so nobody else reads it.
struct EditedFile {
    path: PathBuf,
    kept: std::cell::Cell<bool>,
}

impl EditedFile {
    fn make(kind: &str) -> Result<EditedFile, Error> {
        use std::os::unix::fs::OpenOptionsExt;
        let name = format!("podctl-edit-{}.{kind}", uuid::Uuid::new_v4().as_u64_pair().0);
        let path = std::env::temp_dir().join(name);
        let made = fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
        made.map_err(io(format!("cannot make {}", path.display())))?;
        Ok(EditedFile { path, kept: std::cell::Cell::new(false) })
    }

    fn write(&self, text: &str) -> Result<(), Error> {
        fs::write(&self.path, text).map_err(io(format!("cannot write {}", self.path.display())))
    }

    fn read(&self) -> Result<String, Error> {
        fs::read_to_string(&self.path).map_err(io(format!("cannot read {}", self.path.display())))
    }

    /// Leaves the file where it is, and says so; returns the error of an edit that ends for this reason.
    fn keep(&self, why: &'static str) -> Error {
        self.kept.set(true);
        eprintln!("A copy of your changes has been stored to {:?}", self.path);
        Error::unmet(why)
    }
}

impl Drop for EditedFile {
    fn drop(&mut self) {
        if !self.kept.get() {
            // An editor may have moved it away.
            let _ = fs::remove_file(&self.path);
        }
    }
}
