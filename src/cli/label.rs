//! `podctl label` and `podctl annotate`: what objects say of themselves, living pods too.

use serde_json::{Value, json};

use super::{
    Error, Namespace,
    selection::{Narrowing, Target, Words, check_flags, parse_words, targets_of_files},
    which::Told,
};
use crate::{engine::Engine, state::Home};

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
    /// Show what is set, and change nothing.
    #[arg(long)]
    list: bool,
    /// `client` or `server`: say what would be changed, and change nothing.
    #[arg(long, default_value = "none", value_parser = ["none", "client", "server"])]
    dry_run: String,
}

/// Tells which of an object's two maps is meant, and how kubectl words it.
struct Meaning {
    field: &'static str,
    set: &'static str,
    unset: &'static str,
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
    let (words, changes) = split_words(&args.objects.which.names)?;
    if changes.is_empty() && !args.list {
        let what = format!("at least one {} update is required", meaning.field.trim_end_matches('s'));
        return Err(Error::Said(what));
    }
    let mut code = 0;
    for target in find_targets(args, &words, &engine, home, namespace)? {
        match change_one(args, meaning, &changes, &engine, &target) {
            Ok(word) => super::print(&format!("{}/{} {word}\n", target.kind.singular(), target.name)),
            Err(e) => {
                super::print_error(&e);
                code = 1;
            }
        }
    }
    Ok(code)
}

/// The words that name objects, and the changes, which come after them.
fn split_words(words: &[String]) -> Result<(Vec<String>, Vec<Change>), Error> {
    let is_change = |word: &&String| word.contains('=') || (word.ends_with('-') && word.len() > 1);
    let at = words.iter().position(|word| is_change(&word)).unwrap_or(words.len());
    let parse = |word: &String| match (word.split_once('='), word.strip_suffix('-')) {
        (Some((key, value)), _) if !key.is_empty() => Ok((key.to_owned(), Some(value.to_owned()))),
        (None, Some(key)) => Ok((key.to_owned(), None)),
        _ => Err(Error::Said(format!(
            "{word:?} is neither KEY=VALUE nor KEY-; all changes come after the names"
        ))),
    };
    let changes = words[at..].iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    for (key, value) in &changes {
        if value.is_some() && changes.contains(&(key.clone(), None)) {
            return Err(Error::Said(format!("can not both modify and remove {key:?} in the same command")));
        }
    }
    Ok((words[..at].to_vec(), changes))
}

fn find_targets(
    args: &Args,
    words: &[String],
    engine: &Engine,
    home: &Home,
    namespace: &Namespace,
) -> Result<Vec<Target>, Error> {
    let which = &args.objects.which;
    let meant = parse_words(words)?;
    let given = Narrowing { all: args.objects.all, ..which.narrowing() };
    check_flags(words, &meant, given)?;
    if given.files {
        return targets_of_files(&which.filename, home, namespace);
    }
    match meant {
        Words::Objects(all) => {
            let target = |(kind, name)| Target { kind, namespace: namespace.clone(), name };
            Ok(all.into_iter().map(target).collect())
        }
        Words::Kinds(_) if !(given.all || given.labels || given.fields) => Err(Error::Said(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>".into(),
        )),
        Words::Kinds(kinds) => {
            let mut targets = Vec::new();
            for kind in kinds {
                let found = engine.list_objects(kind, &which.list_options(namespace))?;
                targets.extend(found.iter().filter_map(|object| Target::of_object(kind, object)));
            }
            Ok(targets)
        }
    }
}

/// Changes one object; returns the word for what became of it, or its pairs for `--list`.
fn change_one(
    args: &Args,
    meaning: &Meaning,
    changes: &[Change],
    engine: &Engine,
    target: &Target,
) -> Result<String, Error> {
    let Target { kind, namespace, name } = target;
    let known = engine.get_object(*kind, namespace, name)?;
    let before = known["metadata"][meaning.field].clone();
    if args.list {
        let pairs = before.as_object().into_iter().flatten();
        let pairs = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
        return Ok(pairs.collect::<Vec<_>>().join(","));
    }
    let after = apply_changes(&before, changes, args.overwrite)?;
    if after == before || (before.is_null() && after == json!({})) {
        return Ok(format!("not {}", meaning.set));
    }
    if args.dry_run == "none" {
        engine.change_object(*kind, namespace, name, |object| {
            let before = object["metadata"][meaning.field].take();
            object["metadata"][meaning.field] = apply_changes(&before, changes, true).unwrap_or(before);
        })?;
    }
    let removed = changes.iter().all(|(_, value)| value.is_none());
    let word = if removed { meaning.unset } else { meaning.set };
    let dry = match args.dry_run.as_str() {
        "none" => "",
        "server" => " (server dry run)",
        _ => " (dry run)",
    };
    Ok(format!("{word}{dry}"))
}

fn apply_changes(before: &Value, changes: &[Change], overwrite: bool) -> Result<Value, Error> {
    let mut after = before.as_object().cloned().unwrap_or_default();
    for (key, value) in changes {
        match (value, after.get(key)) {
            (None, _) => drop(after.remove(key)),
            (Some(value), Some(known)) if !overwrite && known != value.as_str() => {
                let known = known.as_str().unwrap_or_default();
                return Err(Error::Said(format!(
                    "'{key}' already has a value ({known}), and --overwrite is false"
                )));
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
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (names, changes) = split_words(&words("pod web tier=front old-")).unwrap();
        assert_eq!(names, ["pod", "web"]);
        assert_eq!(changes, [("tier".to_owned(), Some("front".to_owned())), ("old".to_owned(), None)]);
        assert!(split_words(&words("pod web a=b a-")).is_err());
        assert!(split_words(&words("pod a=b web")).is_err());
        let before = json!({"a": "b"});
        assert!(apply_changes(&before, &[("a".into(), Some("c".into()))], false).is_err());
        assert_eq!(apply_changes(&before, &[("a".into(), None)], false).unwrap(), json!({}));
    }
}
