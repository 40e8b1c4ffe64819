//! What a shell offers for the word that is being typed: commands, flags, kinds, names, formats. The scripts of
//! `podctl completion` ask `podctl __complete WORDS…` for it.
//!
//! Promises: nothing is changed, nothing waits; what cannot be read is not offered. A flag that is always refused is no
//! flag of the parser's, so it is never offered.

use clap::{Arg, ArgAction, Command};

use crate::{
    cli::{
        build_parser,
        object_selection::{Words, parse_words},
        output_formats::FORMATS,
    },
    engine::{Engine, ListOptions},
    pod::{Namespace, ObjectKind, ObjectName},
    state::Home,
};

/// The line that has the shell complete names of files.
const FILES: &str = ":files";

/// One thing that is offered, and what it is.
type Offer = (String, String);

/// Words so far, understood as far as they go.
struct Typed<'a> {
    command: &'a Command,
    /// The commands' names, from the top.
    verb: Vec<&'a str>,
    /// Words that are no flags and no flags' values.
    words: Vec<String>,
    /// The flag whose value is being typed.
    flag: Option<&'a Arg>,
    namespace: Namespace,
    /// `--image` is given.
    has_image: bool,
    /// `--` stands before: what follows is a container's.
    is_over: bool,
}

/// Prints what can stand in the place of the last word, one a line, with a tab and a description behind it. `bash`
/// splits words at `=` and `:`, and wants the rest of such a word only.
pub(super) fn print_offers(args: &[String]) {
    let (bash, args) = match args.split_first() {
        Some((first, rest)) if first == "--bash" => (true, join_pieces(rest)),
        _ => (false, args.to_vec()),
    };
    let command = build_parser();
    let Some((last, before)) = args.split_last() else { return };
    let typed = understand_words(&command, before);
    let (value_of, prefix) = match last.split_once('=').filter(|(flag, _)| flag.starts_with("--")) {
        Some((flag, value)) => (find_flag(typed.command, flag), value),
        None => (typed.flag, last.as_str()),
    };
    let joined = last.len() - prefix.len();
    let mut offers = Vec::new();
    match value_of {
        _ if typed.is_over => offers.push((FILES.to_owned(), String::new())),
        Some(flag) => offers = offer_values(&typed, flag),
        None if last.starts_with('-') => offers = offer_flags(typed.command),
        None => offers = offer_words(&typed, last),
    }
    let skipped = match bash {
        true => last.rfind(['=', ':']).map_or(0, |at| at + 1),
        false => 0,
    };
    for (offer, about) in offers {
        if offer == FILES {
            println!("{FILES}");
        } else if offer.starts_with(prefix) {
            let whole = format!("{}{offer}", &last[..joined]);
            let about = about.lines().next().unwrap_or_default();
            println!("{}\t{about}", whole.get(skipped..).unwrap_or_default());
        }
    }
}

/// Joins what bash has split: `--output`, `=`, `wi` to `--output=wi`, and `busybox`, `:`, `1` to `busybox:1`.
fn join_pieces(pieces: &[String]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut joins = false;
    for piece in pieces {
        let is_break = matches!(piece.as_str(), "=" | ":");
        match words.last_mut() {
            Some(word) if is_break || joins => *word += piece,
            _ => words.push(piece.clone()),
        }
        joins = is_break;
    }
    words
}

fn find_flag<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| match word.strip_prefix("--") {
        Some(long) => {
            arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|all| all.contains(&long))
        }
        None => {
            let mut letters = word.strip_prefix('-').unwrap_or_default().chars();
            // Of `-it` the last may take a value.
            arg.get_short().is_some_and(|short| letters.next_back() == Some(short))
        }
    })
}

fn understand_words<'a>(command: &'a Command, words: &[String]) -> Typed<'a> {
    let mut typed = Typed {
        command,
        verb: Vec::new(),
        words: Vec::new(),
        flag: None,
        namespace: Namespace::default(),
        has_image: false,
        is_over: false,
    };
    for word in words {
        if let Some(flag) = typed.flag.take() {
            if flag.get_long() == Some("namespace") {
                typed.namespace = Namespace::parse(word).unwrap_or_default();
            }
        } else if word == "--" {
            typed.is_over = true;
        } else if word.starts_with('-') && word.len() > 1 {
            let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
            typed.has_image |= name == "--image";
            if let (Some("--namespace" | "-n"), Some(value)) = (Some(name), value) {
                typed.namespace = Namespace::parse(value).unwrap_or_default();
            }
            let takes_value = |arg: &&Arg| {
                matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_require_equals_set()
            };
            typed.flag = find_flag(typed.command, name).filter(takes_value).filter(|_| value.is_none());
        } else if let Some(below) = typed.command.find_subcommand(word).filter(|_| typed.words.is_empty()) {
            typed.verb.push(below.get_name());
            typed.command = below;
        } else {
            typed.words.push(word.clone());
        }
    }
    typed
}

fn offer_flags(command: &Command) -> Vec<Offer> {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let about = |arg: &Arg| arg.get_help().map(ToString::to_string).unwrap_or_default();
    shown.filter_map(|arg| Some((format!("--{}", arg.get_long()?), about(arg)))).collect()
}

fn plain(all: impl IntoIterator<Item = impl Into<String>>) -> Vec<Offer> {
    all.into_iter().map(|value| (value.into(), String::new())).collect()
}

fn offer_values(typed: &Typed<'_>, flag: &Arg) -> Vec<Offer> {
    let possible = flag.get_possible_values();
    if !possible.is_empty() {
        let shown = possible.iter().filter(|value| !value.is_hide_set());
        let about = |value: &clap::builder::PossibleValue| value.get_help().map(ToString::to_string);
        return shown.map(|v| (v.get_name().to_owned(), about(v).unwrap_or_default())).collect();
    }
    match flag.get_long().unwrap_or_default() {
        "namespace" => offer_names(typed, ObjectKind::Namespace),
        "output" => {
            let with_tables = matches!(typed.verb.first(), Some(&("get" | "ps")));
            let all = FORMATS.split(',').filter(|format| {
                with_tables || !matches!(*format, "wide" | "custom-columns" | "custom-columns-file")
            });
            plain(all)
        }
        "container" | "target" | "containers" => {
            offer_containers(typed, typed.words.last().map(String::as_str))
        }
        "image" | "set-image" => offer_images(),
        "dry-run" => plain(["none", "client", "server"]),
        "for" if typed.verb == ["wait"] => plain(["condition=", "create", "delete", "jsonpath="]),
        "filename" | "file" | "input" | "kustomize" | "patch-file" | "from-file" | "from-env-file"
        | "cert" | "key" | "configmap" | "secret" | "custom" | "base-dir" => plain([FILES]),
        _ => Vec::new(),
    }
}

/// Returns what a word that is no flag can be.
fn offer_words(typed: &Typed<'_>, last: &str) -> Vec<Offer> {
    let below: Vec<&Command> = typed.command.get_subcommands().filter(|c| !c.is_hide_set()).collect();
    if !below.is_empty() && typed.words.is_empty() {
        let about = |command: &Command| command.get_about().map(ToString::to_string).unwrap_or_default();
        let all = below.iter().filter(|command| command.get_name() != "help");
        return all.map(|command| (command.get_name().to_owned(), about(command))).collect();
    }
    if let Some(position) = typed.command.get_positionals().nth(typed.words.len()) {
        let values = offer_values(typed, &position.clone().long("positional"));
        if !values.is_empty() {
            return values;
        }
    }
    let pods = || offer_names(typed, ObjectKind::Pod);
    match typed.verb[..] {
        ["get" | "describe" | "label" | "annotate" | "patch" | "edit" | "delete" | "wait" | "expose"]
        | ["set", _] => offer_objects(typed, last),
        ["logs"] if typed.words.len() == 1 => {
            offer_containers(typed, typed.words.first().map(String::as_str))
        }
        ["logs" | "exec" | "attach" | "debug" | "port-forward"] if typed.words.is_empty() => pods(),
        ["stop" | "start" | "restart" | "timeline" | "stats" | "ps"] => pods(),
        ["top"] if typed.words.is_empty() => plain(["pod", "node"]),
        ["top"] => pods(),
        ["cp"] => {
            let remote = pods().into_iter().map(|(name, about)| (format!("{name}:"), about));
            remote.chain(plain([FILES])).collect()
        }
        ["explain"] => offer_kinds(),
        ["scale"] | ["rollout", _] if typed.words.is_empty() => {
            plain(["deployment", "replicaset", "statefulset", "daemonset"])
        }
        ["rmi" | "history" | "save" | "tag" | "pull"] => offer_images(),
        ["inspect"] => pods().into_iter().chain(offer_images()).collect(),
        ["volume", _] => offer_names(typed, ObjectKind::PersistentVolumeClaim),
        ["run"] if typed.has_image => Vec::new(),
        ["run" | "explain-file" | "load" | "man"] => plain([FILES]),
        _ => Vec::new(),
    }
}

fn offer_kinds() -> Vec<Offer> {
    ObjectKind::all().map(|kind| (kind.plural().to_owned(), kind.short_names().join(", "))).collect()
}

/// Kinds, then the names of the kind; `KIND/NAME` as well.
fn offer_objects(typed: &Typed<'_>, last: &str) -> Vec<Offer> {
    if let Some((word, _)) = last.split_once('/') {
        let names = ObjectKind::of_word(word).map(|kind| offer_names(typed, kind)).unwrap_or_default();
        return names.into_iter().map(|(name, about)| (format!("{word}/{name}"), about)).collect();
    }
    let Some(first) = typed.words.first() else {
        // Without a kind, words are names of pods.
        return offer_kinds().into_iter().chain(offer_names(typed, ObjectKind::Pod)).collect();
    };
    let kinds: Vec<ObjectKind> = match first.split_once('/') {
        Some((word, _)) => ObjectKind::of_word(word).into_iter().collect(),
        None => match parse_words(std::slice::from_ref(first)) {
            Ok(Words::Kinds(kinds)) => kinds,
            _ => vec![ObjectKind::Pod],
        },
    };
    kinds.into_iter().flat_map(|kind| offer_names(typed, kind)).collect()
}

fn offer_names(typed: &Typed<'_>, kind: ObjectKind) -> Vec<Offer> {
    let Ok(home) = Home::of_user() else { return Vec::new() };
    let options = ListOptions { namespace: Some(typed.namespace.to_string()), ..ListOptions::default() };
    let all = Engine::over(&home).list_objects(kind, &options).unwrap_or_default();
    let name = |object: &serde_json::Value| object["metadata"]["name"].as_str().map(str::to_owned);
    let about =
        |object: &serde_json::Value| object["status"]["phase"].as_str().unwrap_or_default().to_owned();
    let taken = |name: &String| typed.words.contains(name);
    let named = all.iter().filter_map(|object| Some((name(object)?, about(object))));
    named.filter(|(name, _)| !taken(name)).collect()
}

fn offer_containers(typed: &Typed<'_>, pod: Option<&str>) -> Vec<Offer> {
    let name = pod.map(|pod| pod.rsplit('/').next().unwrap_or(pod));
    let (Ok(home), Some(Ok(name))) = (Home::of_user(), name.map(ObjectName::parse)) else {
        return Vec::new();
    };
    let found = Engine::over(&home).get_object(ObjectKind::Pod, &typed.namespace, &name);
    let spec = found.map(|pod| pod["spec"].clone()).unwrap_or_default();
    let mut all = Vec::new();
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let own = spec[list].as_array().into_iter().flatten();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        all.extend(own.map(|container| (text(&container["name"]), text(&container["image"]))));
    }
    all
}

fn offer_images() -> Vec<Offer> {
    let Ok(home) = Home::of_user() else { return Vec::new() };
    let all = Engine::over(&home).images().unwrap_or_default();
    let short = |reference: &str| {
        let plain = reference.strip_prefix("docker.io/").unwrap_or(reference);
        plain.strip_prefix("library/").unwrap_or(plain).to_owned()
    };
    all.iter().map(|image| (short(&image.reference), String::new())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bash_has_split_is_joined() {
        let pieces = ["get", "--output", "=", "wi", "busybox", ":", "1.36", "x"].map(str::to_owned);
        assert_eq!(join_pieces(&pieces), ["get", "--output=wi", "busybox:1.36", "x"]);
    }

    #[test]
    fn words_are_understood_as_far_as_they_go() {
        let command = super::super::build_parser();
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let typed = understand_words(&command, &words("-n space logs web -c"));
        assert_eq!(
            (typed.verb, typed.words, typed.namespace.as_str()),
            (vec!["logs"], vec!["web".to_owned()], "space")
        );
        assert_eq!(typed.flag.and_then(|flag| flag.get_long()), Some("container"));
        let flags: Vec<String> = offer_flags(typed.command).into_iter().map(|(flag, _)| flag).collect();
        assert!(
            flags.contains(&"--previous".to_owned()) && !flags.contains(&"--context".to_owned()),
            "{flags:?}"
        );
        let typed = understand_words(&command, &words("get pods -o"));
        let formats = offer_values(&typed, typed.flag.unwrap());
        assert!(formats.iter().any(|(format, _)| format == "wide"));
        assert!(understand_words(&command, &words("exec web --")).is_over);
        assert!(understand_words(&command, &words("run x --image=y")).has_image);
    }
}
