//! `podctl edit`: an object in an editor, and back.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{
    cli::{
        Error, Namespace, io,
        manifest_files::FileArgs,
        object_selection::{Target, Words, named_targets, parse_words, read_targets},
        output_formats::{Output, OutputArgs},
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
    for (target, known) in found {
        match edit_object(&engine, &target, &known, json)? {
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
fn edit_object(engine: &Engine, target: &Target, known: &Value, json: bool) -> Result<Option<Value>, Error> {
    let mut shown = known.clone();
    if let Some(meta) = shown["metadata"].as_object_mut() {
        meta.remove("managedFields");
    }
    let original = match json {
        true => serde_json::to_string_pretty(&shown).unwrap_or_default() + "\n",
        false => yaml::document(&shown),
    };
    let file = EditedFile::make(target, if json { "json" } else { "yaml" })?;
    let (mut text, mut failure): (String, Option<String>) = (original.clone(), None);
    loop {
        let why = failure.iter().flat_map(|why| why.lines()).map(|line| format!("# {line}\n"));
        let notes: String = why.collect();
        file.write(&format!("{HEAD}{notes}{text}"))?;
        run_editor(&file.path)?;
        let edited = strip_comments(&file.read()?);
        if edited.trim().is_empty() || edited == original {
            return Ok(None);
        }
        if failure.is_some() && edited == text {
            let path = file.keep();
            eprintln!("A copy of your changes has been stored to {path:?}");
            return Err(Error::unmet("Edit cancelled, no valid changes were saved."));
        }
        let done = crate::manifest::parse_yaml(&edited).map_err(Error::bad_value).and_then(|new| {
            let seen = Preconditions::still(known);
            let changed =
                engine.update_object(target.kind, &target.namespace, &new, &seen, &WriteOptions::default());
            Ok(changed?)
        });
        match done {
            Ok(object) => return Ok(Some(object)),
            Err(e) => (text, failure) = (edited, Some(e.to_string())),
        }
    }
}

fn strip_comments(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Runs the user's editor, which may have words of its own.
fn run_editor(path: &std::path::Path) -> Result<(), Error> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("KUBE_EDITOR").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // As kubectl has it: a shell splits the words.
    let status = Command::new("sh").args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(path).status();
    match status.map_err(io(format!("cannot run the editor {editor:?}")))? {
        status if status.success() => Ok(()),
        _ => Err(Error::unmet(format!(
            "there was a problem with the editor {editor:?}; set KUBE_EDITOR or EDITOR to another"
        ))),
    }
}

/// The file that is in the editor; it may hold a Secret, so nobody else reads it.
struct EditedFile {
    path: PathBuf,
    kept: std::cell::Cell<bool>,
}

impl EditedFile {
    fn make(target: &Target, kind: &str) -> Result<EditedFile, Error> {
        use std::os::unix::fs::OpenOptionsExt;
        let name = format!("podctl-edit-{}-{}.{kind}", target.name, uuid::Uuid::new_v4().simple());
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

    /// Leaves the file where it is.
    fn keep(&self) -> &PathBuf {
        self.kept.set(true);
        &self.path
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
