//! `podctl label` and `podctl annotate`: what objects say of themselves, living pods too.

use serde_json::{Value, json};

use crate::{
    cli::{
        Error, Namespace,
        edited_objects::{check_object_version, read_local_objects},
        object_selection::{NO_NAMED_RESOURCES, Target, find_targets, names_one},
        output_formats::{ChangeArgs, DryRun, Output},
        output_streams::print_failures,
        pod_selection::Told,
    },
    engine::{self, Engine},
    state::Home,
    view::selectors::check_label_value,
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl label pod web tier=front          # a Service that selects it finds it at once
  podctl label pod web tier-               # takes it away
  podctl annotate cm conf note=checked --overwrite")]
pub(super) struct Args {
    #[command(flatten)]
    objects: Told,
    /// Change what is set already.
    #[arg(long)]
    overwrite: bool,
    /// Show what is set.
    #[arg(long)]
    list: bool,
    /// Change what the files hold, print it, and touch nothing else.
    #[arg(long)]
    local: bool,
    /// Change the object only if this is its version.
    #[arg(long, default_value = "")]
    resource_version: String,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Tells which of an object's two maps is meant, and how kubectl words it.
struct Meaning {
    field: &'static str,
    set: &'static str,
    unset: &'static str,
}

impl Meaning {
    /// Names one of the map's entries: `label`.
    fn one(&self) -> &'static str {
        self.field.trim_end_matches('s')
    }
}

const LABELS: Meaning = Meaning { field: "labels", set: "labeled", unset: "unlabeled" };
const ANNOTATIONS: Meaning = Meaning { field: "annotations", set: "annotated", unset: "annotated" };

/// `KEY=VALUE`, or `KEY-`, which has no value.
type Change = (String, Option<String>);

pub(super) fn label(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    change(args, &LABELS, home, namespace)
}

pub(super) fn run_annotate(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    change(args, &ANNOTATIONS, home, namespace)
}

fn change(args: &Args, meaning: &Meaning, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let engine = Engine::over(home);
    let (words, changes) = split_words(&args.objects.which.names, meaning)?;
    if words.is_empty() && !args.objects.which.files.is_given() {
        return Err(Error::missing(NO_NAMED_RESOURCES));
    }
    if args.list && args.change.output.output.is_some() {
        return Err(Error::contradiction("--list and --output may not be specified together"));
    }
    if changes.is_empty() && !args.list {
        let what = format!("at least one {} update is required", meaning.one());
        return Err(Error::missing(what));
    }
    let asked = Asked { args, meaning, changes, output: args.change.output.parse()?, engine };
    if args.local {
        let objects = read_local_objects(&args.objects.which.files)?;
        for mut object in objects {
            let before = object["metadata"][meaning.field].take();
            let after = apply_changes(&before, &asked.changes, true)?;
            object["metadata"][meaning.field] = after;
            asked.tell(&before, &object, false)?;
        }
        return Ok(0);
    }
    let alone = names_one(&args.objects.which, &words)?;
    if !alone && !args.resource_version.is_empty() {
        return Err(Error::contradiction("--resource-version may only be used with a single resource"));
    }
    let mut failed = Vec::new();
    for target in find_targets(&args.objects, &words, home, namespace)? {
        let done = asked.change_one(&target).and_then(|(before, object)| asked.tell(&before, &object, alone));
        failed.extend(done.err());
    }
    print_failures(&failed);
    Ok(i32::from(!failed.is_empty()))
}

/// Holds what is to be done with each object.
struct Asked<'a> {
    args: &'a Args,
    meaning: &'a Meaning,
    changes: Vec<Change>,
    output: Output,
    engine: Engine,
}

impl Asked<'_> {
    /// Changes one object; returns what was set before, and the object as it then is.
    fn change_one(&self, Target { kind, namespace, name }: &Target) -> Result<(Value, Value), Error> {
        let field = self.meaning.field;
        let mut known = self.engine.get_object(*kind, namespace, name)?;
        let wanted = &self.args.resource_version;
        let version = check_object_version(*kind, &known, wanted);
        let before = known["metadata"][field].take();
        let after =
            apply_changes(&before, &self.changes, self.args.overwrite).map_err(|own| match field {
                "labels" => Error::unmet(format!("{own}, and --overwrite is false")),
                _ => Error::unmet(format!(
                    "--overwrite is false but found the following declared {}(s): {own}",
                    self.meaning.one()
                )),
            })?;
        let same = after == before || (before.is_null() && after == json!({}));
        known["metadata"][field] = after;
        let options = self.args.change.write_options();
        match self.args.change.dry_run() {
            _ if self.args.list => Ok((before, known)),
            DryRun::None if !same => {
                version?;
                let change = |object: &mut Value| {
                    let before = object["metadata"][field].take();
                    object["metadata"][field] = apply_changes(&before, &self.changes, true).unwrap_or(before);
                };
                let changed = self.engine.change_object(*kind, namespace, name, change, &options);
                let changed = changed.map_err(|e| Error::about(*kind, name, e))?;
                Ok((before, changed))
            }
            DryRun::Server => {
                version?;
                let seen = engine::Preconditions::default();
                let tried = self.engine.update_object(*kind, namespace, &known, &seen, &options);
                tried.map_err(|e| Error::about(*kind, name, e))?;
                Ok((before, known))
            }
            _ => Ok((before, known)),
        }
    }

    /// Says what became of an object, or lists what is set.
    fn tell(&self, before: &Value, object: &Value, alone: bool) -> Result<(), Error> {
        let (meaning, args) = (self.meaning, self.args);
        let after = &object["metadata"][meaning.field];
        // Of annotations kubectl says neither that one is missing nor that nothing has changed.
        let is_label = meaning.field == "labels";
        let is_tried = args.list || args.local || args.change.dry_run() == DryRun::Client;
        for (key, _) in self.changes.iter().filter(|(_, value)| is_label && !is_tried && value.is_none()) {
            if before.get(key).is_none() {
                println!("{} {key:?} not found.", meaning.one());
            }
        }
        if args.list {
            let indent = if alone { "" } else { " " };
            if !alone {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let (version, name) = (text(&object["apiVersion"]), text(&object["metadata"]["name"]));
                let group = version.split_once('/').map_or("", |(group, _)| group);
                println!("Listing {} for {}.{group}/{name}:", meaning.field, text(&object["kind"]));
            }
            for (key, value) in after.as_object().into_iter().flatten() {
                println!("{indent}{key}={}", value.as_str().unwrap_or_default());
            }
            return Ok(());
        }
        let empty = |value: &Value| value.as_object().is_none_or(serde_json::Map::is_empty);
        let same = before == after || empty(before) && empty(after);
        let removed = self.changes.iter().all(|(_, value)| value.is_none());
        let word = match (same && is_label, removed) {
            (true, _) => format!("not {}", meaning.set),
            (false, true) => meaning.unset.to_owned(),
            (false, false) => meaning.set.to_owned(),
        };
        args.change.print_change(&self.output, object, &word)
    }
}

/// The words that name objects, and the changes, which come after them.
fn split_words(words: &[String], meaning: &Meaning) -> Result<(Vec<String>, Vec<Change>), Error> {
    let is_change =
        |word: &String| word.find('=').map_or(word.ends_with('-') && word.len() > 1, |sign| sign > 0);
    let at = words.iter().position(is_change).unwrap_or(words.len());
    if let Some(word) = words[at..].iter().find(|word| !is_change(word)) {
        let what = format!("all resources must be specified before {} changes: {word}", meaning.one());
        return Err(Error::bad_value(what));
    }
    let parse = |word: &String| match word.split_once('=') {
        Some((_, value)) if meaning.field == "labels" && value.contains('=') => {
            Err(Error::bad_value(format!("invalid label spec: {word}")))
        }
        Some((_, value)) if meaning.field == "labels" && check_label_value(value).is_err() => {
            let why = check_label_value(value).err().unwrap_or_default();
            Err(Error::bad_value(format!("invalid label value: {word:?}: {why}")))
        }
        Some((key, value)) => Ok((key.to_owned(), Some(value.to_owned()))),
        None => Ok((word.trim_end_matches('-').to_owned(), None)),
    };
    let mut changes = words[at..].iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    for (key, value) in &changes {
        if value.is_some() && changes.contains(&(key.clone(), None)) {
            return Err(Error::contradiction(match meaning.field {
                "labels" => "can not both modify and remove a label in the same command".to_owned(),
                _ => format!(
                    "can not both modify and remove the following annotation(s) in the same command: {key}"
                ),
            }));
        }
    }
    // The last of several of one key counts.
    let all = changes.clone();
    let mut seen = 0;
    changes.retain(|(key, _)| {
        seen += 1;
        !all[seen..].iter().any(|(later, _)| later == key)
    });
    Ok((words[..at].to_vec(), changes))
}

fn apply_changes(before: &Value, changes: &[Change], overwrite: bool) -> Result<Value, Error> {
    let mut after = before.as_object().cloned().unwrap_or_default();
    for (key, value) in changes {
        match (value, after.get(key)) {
            (None, _) => drop(after.remove(key)),
            (Some(value), Some(known)) if !overwrite && known != value.as_str() => {
                let known = known.as_str().unwrap_or_default();
                return Err(Error::unmet(format!("'{key}' already has a value ({known})")));
            }
            (Some(value), _) => drop(after.insert(key.clone(), json!(value))),
        }
    }
    Ok(Value::Object(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_after_the_names() {
        let (names, changes) = split_words(&["pod".to_owned(), "web".to_owned()], &LABELS).unwrap();
        assert_eq!((names.len(), changes.len()), (2, 0));
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (names, changes) = split_words(&words("pod web tier=front old-"), &LABELS).unwrap();
        assert_eq!(names, ["pod", "web"]);
        assert_eq!(changes, [("tier".to_owned(), Some("front".to_owned())), ("old".to_owned(), None)]);
        assert!(split_words(&words("pod web a=b a-"), &LABELS).is_err());
        assert!(split_words(&words("pod a=b web"), &LABELS).is_err());
        assert!(split_words(&words("pod web a=b=c"), &LABELS).is_err());
        assert!(split_words(&words("pod web a=b=c"), &ANNOTATIONS).is_ok());
        let (_, changes) = split_words(&words("pod web a=b a=c"), &LABELS).unwrap();
        assert_eq!(changes, [("a".to_owned(), Some("c".to_owned()))], "the last counts");
        let before = json!({"a": "b"});
        assert!(apply_changes(&before, &[("a".into(), Some("c".into()))], false).is_err());
        assert_eq!(apply_changes(&before, &[("a".into(), None)], false).unwrap(), json!({}));
    }
}
