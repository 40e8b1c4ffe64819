//! What a command's words mean: objects, each of its own kind, or all of some kinds. The whole is understood before
//! anything is touched.

use k8s_openapi::api::batch::v1::Job;
use serde_json::Value;

use crate::{
    cli::{
        Error, Namespace,
        kind_words::{find_empty_kind, is_kind, missing_object, unknown_kind},
        manifest_files::{FileArgs, parse_file_selector, parse_objects},
        pod_selection::{Told, Which},
        print_error,
    },
    engine::{self, Engine},
    manifest::Written,
    pod::{ObjectKind, ObjectName},
    state::{Home, PodDir},
};

/// Names what the words ask for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// Objects of these kinds; which, a selector or `--all` says.
    Kinds(Vec<ObjectKind>),
    /// These, whether or not there are such.
    Objects(Vec<(ObjectKind, ObjectName)>),
}

/// The words of kubectl's about a command line that names nothing.
pub(super) const NO_RESOURCES: &str = "You must provide one or more resources by argument or filename.
Example resource specifications include:
   '-f rsrc.yaml'
   '--filename=rsrc.json'
   '<resource> <name>'
   '<resource>'";

/// The words of kubectl's, for some verbs, about a command line that names nothing.
pub(super) const NO_NAMED_RESOURCES: &str =
    "one or more resources must be specified as <resource> <name> or <resource>/<name>";

/// The words of kubectl's about a kind without a name.
pub(super) const NO_NAME: &str = "resource(s) were provided, but no name was specified";

/// An object that is meant, whether or not there is such a one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub kind: ObjectKind,
    pub namespace: Namespace,
    pub name: ObjectName,
}

impl Target {
    /// The target that an object is.
    pub(super) fn of_object(kind: ObjectKind, object: &Value) -> Option<Target> {
        let meta = &object["metadata"];
        let namespace = meta["namespace"].as_str().map_or_else(|| Ok(Namespace::default()), Namespace::parse);
        Some(Target {
            kind,
            namespace: namespace.ok()?,
            name: ObjectName::parse(meta["name"].as_str()?).ok()?,
        })
    }
}

/// Reads `KIND NAME…`, `KIND/NAME…`, `KIND,KIND` and `all`; a first word that is no kind begins the names of pods, as
/// long as no cluster has a kind of that name. Without words, pods are meant.
///
/// # Errors
/// A kind that is not known, words that contradict each other, a name that is none.
pub(super) fn parse_words(words: &[String]) -> Result<Words, Error> {
    let Some((first, rest)) = words.split_first() else { return Ok(Words::Kinds(vec![ObjectKind::Pod])) };
    if words.iter().any(|word| word.contains('/')) {
        return words.iter().map(|word| parse_pair(word)).collect::<Result<_, _>>().map(Words::Objects);
    }
    let kinds = match parse_kinds(first)? {
        Some(kinds) => kinds,
        None => {
            let names = words.iter().map(|name| Ok((ObjectKind::Pod, parse_name(ObjectKind::Pod, name)?)));
            return names.collect::<Result<_, _>>().map(Words::Objects);
        }
    };
    if rest.is_empty() {
        return Ok(Words::Kinds(kinds));
    }
    if first == "all" {
        return Err(Error::bad_value("you must specify only one resource"));
    }
    // Nothing is done with the others either.
    if let Some(empty) = first.split(',').find(|word| find_empty_kind(word).is_some()) {
        return Err(missing_object(empty, &rest[0]));
    }
    let mut objects = Vec::new();
    for kind in kinds {
        for name in rest {
            objects.push((kind, parse_name(kind, name)?));
        }
    }
    Ok(Words::Objects(objects))
}

/// `KIND/NAME`
fn parse_pair(word: &str) -> Result<(ObjectKind, ObjectName), Error> {
    let refuse = |sentence: &'static str| Err(Error::bad_value(sentence));
    let Some((kind, name)) = word.split_once('/') else {
        return refuse(
            "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'podctl get resource/<resource_name>' instead of 'podctl get resource resource/<resource_name>'",
        );
    };
    if name.contains('/') {
        return refuse("arguments in resource/name form may not have more than one slash");
    }
    if kind.is_empty() || name.is_empty() {
        return refuse("arguments in resource/name form must have a single resource and name");
    }
    if kind.contains(',') {
        return refuse("arguments in resource/name form must have a single resource and name");
    }
    let kind = ObjectKind::of_word(kind).ok_or_else(|| missing_object(kind, name))?;
    Ok((kind, parse_name(kind, name)?))
}

/// `KIND,KIND` and `all`; `None` for what may be a pod's name. Kinds of which there never is an object are left out.
fn parse_kinds(word: &str) -> Result<Option<Vec<ObjectKind>>, Error> {
    let several = word.contains(',');
    let mut kinds = Vec::new();
    for word in word.split(',') {
        match ObjectKind::of_word(word) {
            _ if word == "all" => kinds.extend(ObjectKind::all().filter(|kind| kind.is_in_all())),
            Some(kind) => kinds.push(kind),
            None if find_empty_kind(word).is_some() => {}
            None if word.is_empty() || several || is_kind(word) => return Err(unknown_kind(word)),
            None => return Ok(None),
        }
    }
    let mut seen = Vec::new();
    kinds.retain(|kind| {
        !seen.contains(kind) && {
            seen.push(*kind);
            true
        }
    });
    Ok(Some(kinds))
}

/// Reads the name of an object that is to be found: what is no name, nothing has.
fn parse_name(kind: ObjectKind, name: &str) -> Result<ObjectName, Error> {
    match name {
        "" => Err(Error::bad_value("resource name may not be empty")),
        name => ObjectName::parse(name)
            .map_err(|_| engine::Error::NoObject { kind, name: name.to_owned() }.into()),
    }
}

/// Tells how a selection is narrowed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Narrowing {
    /// `-l`
    pub labels: bool,
    /// `--field-selector`
    pub fields: bool,
    /// `--all`
    pub all: bool,
    /// `-A`
    pub all_namespaces: bool,
    /// `-f`
    pub files: bool,
}

/// Refuses flags and words that contradict each other, in kubectl's words.
///
/// # Errors
/// The first contradiction.
pub(super) fn check_flags(words: &[String], meant: &Words, given: Narrowing) -> Result<(), Error> {
    let refuse = |sentence: &'static str| Err(Error::contradiction(sentence));
    let named = matches!(meant, Words::Objects(_));
    if given.files && !words.is_empty() {
        return refuse(
            "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well",
        );
    }
    if named && (given.labels || given.fields || given.all) {
        return match words.iter().any(|word| word.contains('/')) {
            true => refuse("selectors and the all flag cannot be used when passing resource/name arguments"),
            false => refuse("name cannot be provided when a selector is specified"),
        };
    }
    if named && given.all_namespaces {
        return refuse("a resource cannot be retrieved by name across all namespaces");
    }
    Ok(())
}

/// The objects that words or files name, for verbs that must be told each.
///
/// # Errors
/// As [`parse_words`] and [`targets_of_files`]; words that name none.
pub(super) fn named_targets(
    names: &[String],
    files: &FileArgs,
    home: &Home,
    namespace: &Namespace,
) -> Result<Vec<Target>, Error> {
    let which = Which { names: names.to_vec(), files: files.clone(), ..Default::default() };
    find_targets(&Told { which, all: false }, names, home, namespace)
}

/// Tells whether words or files can mean one object only, of which kubectl says less than of several.
///
/// # Errors
/// As [`parse_words`].
pub(super) fn names_one(which: &Which, words: &[String]) -> Result<bool, Error> {
    Ok(match parse_words(words)? {
        _ if which.files.is_given() => which.files.names_one(),
        Words::Objects(all) => all.len() == 1,
        Words::Kinds(_) => false,
    })
}

/// Reads objects that are named; each one that is not there is told of.
pub(super) fn read_targets(targets: &[Target], engine: &Engine) -> (Vec<(Target, Value)>, i32) {
    let (mut found, mut code) = (Vec::new(), 0);
    for target in targets {
        match engine.get_object(target.kind, &target.namespace, &target.name) {
            Ok(object) => found.push((target.clone(), object)),
            Err(e) => {
                print_error(&e.into());
                code = 1;
            }
        }
    }
    (found, code)
}

/// The objects that are meant: those that words or files name, or that a selector or `--all` finds.
///
/// # Errors
/// As [`parse_words`], [`check_flags`] and [`targets_of_files`]; words that say neither.
pub(super) fn find_targets(
    told: &Told,
    words: &[String],
    home: &Home,
    namespace: &Namespace,
) -> Result<Vec<Target>, Error> {
    let which = &told.which;
    let meant = parse_words(words)?;
    let given = Narrowing { all: told.all, ..which.narrowing() };
    check_flags(words, &meant, given)?;
    if given.all && (given.labels || given.fields) {
        let flag = if given.labels { "selector" } else { "field-selector" };
        return Err(Error::contradiction(format!("cannot set --all and --{flag} at the same time")));
    }
    if given.files {
        return targets_of_files(which, home, namespace);
    }
    match meant {
        Words::Objects(all) => {
            let target = |(kind, name)| Target { kind, namespace: namespace.clone(), name };
            Ok(all.into_iter().map(target).collect())
        }
        Words::Kinds(_) if words.is_empty() && !(given.all || given.labels || given.fields) => {
            Err(Error::missing(NO_RESOURCES))
        }
        Words::Kinds(_) if !(given.all || given.labels || given.fields) => Err(Error::missing(NO_NAME)),
        Words::Kinds(kinds) => which.find_in_kinds(&Engine::over(home), &kinds, namespace),
    }
}

/// The object of podctl's that an object of a file stands for.
///
/// # Errors
/// A kind that podctl keeps no objects of, a name that is none.
pub(super) fn target_of_object(object: &Value, namespace: &Namespace) -> Result<Target, Error> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let kind = ObjectKind::of_object(kind).ok_or_else(|| unknown_kind(kind))?;
    let namespace = namespace_of_object(object, namespace)?;
    let name = parse_name(kind, object["metadata"]["name"].as_str().unwrap_or_default())?;
    Ok(Target { kind, namespace, name })
}

fn namespace_of_object(object: &Value, namespace: &Namespace) -> Result<Namespace, Error> {
    let own = object["metadata"]["namespace"].as_str().filter(|own| !own.is_empty());
    Ok(own.map_or_else(|| Ok(namespace.clone()), Namespace::parse)?)
}

/// Returns what files name: objects of podctl's kinds, and the pods that were made of workloads; of those with the
/// labels that are asked for.
///
/// # Errors
/// A file that cannot be read, or is no YAML.
pub(super) fn targets_of_files(
    which: &Which,
    home: &Home,
    namespace: &Namespace,
) -> Result<Vec<Target>, Error> {
    let (found, failed) = targets_of_sources(which, home, namespace)?;
    match failed.is_empty() {
        true => Ok(found.into_iter().map(|(target, _)| target).collect()),
        false => Err(Error::Several(failed)),
    }
}

/// Objects of files, each with its file, and the errors about what can be nobody's here.
pub(super) type OfFiles = (Vec<(Target, String)>, Vec<Error>);

/// Returns what files name, each with its file, and the errors about objects that have no name, or of whose kind nobody
/// here knows.
///
/// # Errors
/// What is no YAML, or no object; an object of another namespace.
pub(super) fn targets_of_sources(
    which: &Which,
    home: &Home,
    namespace: &Namespace,
) -> Result<OfFiles, Error> {
    let labels = parse_file_selector(which.filter.selector.as_deref().unwrap_or_default())?;
    let (mut targets, mut failed) = (Vec::new(), Vec::new());
    for Written { file, object } in parse_objects(&which.files.read_sources()?)? {
        check_own_namespace(&object, namespace)?;
        if !labels.matches_object(&object) {
            continue;
        }
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (word_of_kind, name) = (word(&object["kind"]), word(&object["metadata"]["name"]));
        let known = ObjectKind::of_object(&word_of_kind);
        if known.is_none() && !is_kind(&word_of_kind) {
            failed.push(Error::absent(format!(
                "resource mapping not found for name: {name:?} namespace: {:?} from {file:?}: no matches for kind {word_of_kind:?} in version {:?}\nensure CRDs are installed first",
                word(&object["metadata"]["namespace"]),
                word(&object["apiVersion"]),
            )));
            continue;
        }
        let namespace = namespace_of_object(&object, namespace)?;
        match known.map(|kind| Ok((kind, parse_name(kind, &name)?))).transpose() {
            Err(e) => failed.push(e),
            Ok(Some((kind, name))) if kind != ObjectKind::Job || is_kept_job(home, &namespace, &name) => {
                targets.push((Target { kind, namespace, name }, file));
            }
            // The pods of a Job that is not kept, `run` has started.
            Ok(_) => {
                let all = home.pods()?.into_iter().filter(|dir| dir.namespace == namespace);
                let made = all.filter(|dir| is_of_workload(&word_of_kind, &name, &dir.name));
                let kind = ObjectKind::Pod;
                let target = |dir: PodDir| Target { kind, namespace: dir.namespace, name: dir.name };
                targets.extend(made.map(|dir| (target(dir), file.clone())));
            }
        }
    }
    Ok((targets, failed))
}

/// Refuses an object of a file that is in another namespace than the one that was asked for.
///
/// # Errors
/// In kubectl's words.
pub(super) fn check_own_namespace(object: &Value, namespace: &Namespace) -> Result<(), Error> {
    let own = object["metadata"]["namespace"].as_str().filter(|own| !own.is_empty());
    // Nobody has to ask for the default one.
    match own.filter(|own| namespace.as_str() != "default" && *own != namespace.as_str()) {
        Some(own) => Err(Error::contradiction(format!(
            "the namespace from the provided object {own:?} does not match the namespace {:?}. You must pass '--namespace={own}' to perform this operation.",
            namespace.as_str()
        ))),
        None => Ok(()),
    }
}

fn is_kept_job(home: &Home, namespace: &Namespace, name: &ObjectName) -> bool {
    // A damaged one is there as well.
    home.object::<Job>(namespace, name).map_or(true, |job| job.is_some())
}

/// Tells whether a pod of that name is one that was made of the workload.
pub(super) fn is_of_workload(kind: &str, workload: &str, pod: &str) -> bool {
    let Some(rest) = pod.strip_prefix(workload) else { return false };
    let mut parts = rest.strip_prefix('-').into_iter().flat_map(|rest| rest.split('-')).peekable();
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match kind {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "CronJob" => {
            parts.next_if(number);
            if matches!(kind, "Job" | "CronJob") && parts.next_if_eq(&"retry").is_some() {
                return parts.next().is_some_and(|part| number(&part)) && parts.next().is_none();
            }
            (rest.is_empty() || rest.starts_with('-') && rest.len() > 1) && parts.next().is_none()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match parse_words(&words) {
            Ok(Words::Kinds(kinds)) => Ok(kinds.iter().map(|k| k.plural()).collect::<Vec<_>>().join(",")),
            Ok(Words::Objects(all)) => {
                Ok(all.iter().map(|(k, n)| format!("{}/{n}", k.singular())).collect::<Vec<_>>().join(" "))
            }
            Err(e) => Err(e.to_string()),
        }
    }

    #[test]
    fn each_word_keeps_its_kind() {
        for (words, meant) in [
            (&["pvc/a", "svc/b", "pod/c"][..], "persistentvolumeclaim/a service/b pod/c"),
            (&["svc", "a", "b"], "service/a service/b"),
            (&["Pods,SVC", "x"], "pod/x service/x"),
            (&["ConfigMap", "x"], "configmap/x"),
            (&["endpointslices.discovery.k8s.io", "x"], "endpointslice.discovery.k8s.io/x"),
            (&["web", "db"], "pod/web pod/db"),
            (&["pods,svc"], "pods,services"),
            (&["all"], "pods,services,jobs"),
            (&[], "pods"),
        ] {
            assert_eq!(parsed(words).as_deref(), Ok(meant), "{words:?}");
        }
    }

    #[test]
    fn a_kind_that_is_not_known_is_no_pod() {
        for words in [
            &["deployment", "web"][..],
            &["Deployment", "web"],
            &["deployments.apps", "web"],
            &["deployments.v1.apps", "web"],
            &["pods,deploy"],
            &["podz/web"],
            &["pods.v1", "web"],
            &["pods.foo", "web"],
            &["podmetrics"],
        ] {
            let error = parsed(words).unwrap_err();
            assert!(error.contains("the server doesn't have a resource type"), "{words:?}: {error}");
        }
        for words in [&["ingress", "web"][..], &["Ingress", "web"], &["ing.networking.k8s.io/web"]] {
            assert_eq!(
                parsed(words).unwrap_err(),
                "ingresses.networking.k8s.io \"web\" not found",
                "{words:?}"
            );
        }
        assert_eq!(parsed(&["pv"]).as_deref(), Ok(""), "there never is one");
        assert_eq!(parsed(&["pods,pv"]).as_deref(), Ok("pods"));
        for (words, error) in [
            (&["pod/a/b"][..], "may not have more than one slash"),
            (&["pod/"], "must have a single resource and name"),
            (&["pod", "pod/a"], "no need to specify a resource type as a separate argument"),
            (&["pod", "A_b"], "pods \"A_b\" not found"),
            (&[""], "doesn't have a resource type \"\""),
            (&["pods,"], "doesn't have a resource type \"\""),
            (&["pod", ""], "may not be empty"),
            (&["po,svc/x"], "must have a single resource and name"),
            (&["all", "x"], "you must specify only one resource"),
        ] {
            let said = parsed(words).unwrap_err();
            assert!(said.contains(error), "{words:?}: {said}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let check = |words: &[&str], given: Narrowing| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            check_flags(&words, &parse_words(&words).unwrap(), given).map_err(|e| e.to_string())
        };
        let (labels, all) = (
            Narrowing { labels: true, ..Narrowing::default() },
            Narrowing { all: true, ..Narrowing::default() },
        );
        assert_eq!(
            check(&["cm", "a"], all).unwrap_err(),
            "name cannot be provided when a selector is specified"
        );
        assert_eq!(
            check(&["cm", "a"], labels).unwrap_err(),
            "name cannot be provided when a selector is specified"
        );
        assert!(check(&["cm/a"], all).unwrap_err().starts_with("selectors and the all flag cannot be used"));
        assert_eq!(check(&["cm"], all), Ok(()));
        assert_eq!(check(&["cm", "a"], Narrowing::default()), Ok(()));
    }

    #[test]
    fn pods_of_a_workload_are_known_by_their_names() {
        for (kind, pod, is) in [
            ("Deployment", "web", true),
            ("Deployment", "web-0", true),
            ("Deployment", "web-retry-1", false),
            ("Deployment", "web-api", false),
            ("Deployment", "website", false),
            ("Job", "web-1-retry-2", true),
            ("Job", "web-retry-2", true),
            ("Job", "web-retry", false),
            ("Service", "web", false),
        ] {
            assert_eq!(is_of_workload(kind, "web", pod), is, "{kind} {pod}");
        }
    }
}
