//! `podctl set`: images, environment and resources of an object's containers, in files and of what is kept.

mod env;

use serde_json::{Value, json};

use crate::{
    cli::{
        Error, Namespace,
        edited_objects::{Telling, change_objects, check_object_version, find_pod_spec, read_local_objects},
        kind_words::missing_object,
        object_selection::{NO_RESOURCES, Target, find_targets},
        output_formats::ChangeArgs,
        pod_selection::Told,
        warn_as_kubectl,
    },
    engine::{Engine, PodPart},
    pod::{
        ObjectKind,
        quantity::{canonicalize_quantities, quantity_millis},
    },
    state::Home,
    view::selectors::Labels,
};

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "A pod that runs takes another image and other resources; files can be changed before they are run:
  podctl set image -f web.yaml --local app=web:2 -o yaml | podctl run -d --replace -
  podctl set env -f web.yaml --local LEVEL=debug -o yaml | podctl apply -f -"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Set the images of containers: CONTAINER=IMAGE, `*` for every container.
    Image(ImageArgs),
    /// Set, list or take away variables of containers: NAME=VALUE, NAME-.
    Env(env::EnvArgs),
    /// Set the resources of containers.
    Resources(ResourcesArgs),
    /// Set the labels of the pods that a Service is for: `set selector svc/NAME KEY=VALUE,…`.
    Selector(SelectorArgs),
    /// Set the service account of pods, in files: `set serviceaccount -f FILE --local NAME`.
    #[command(visible_alias = "sa")]
    Serviceaccount(AccountArgs),
    /// Has no meaning here: there are no role bindings.
    #[command(hide = true)]
    Subject(SubjectArgs),
}

/// Holds what each of them has.
#[derive(clap::Args)]
struct Common {
    #[command(flatten)]
    told: Told,
    /// Change what the files hold, print it, and touch nothing else.
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(clap::Args)]
struct ImageArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct SelectorArgs {
    #[command(flatten)]
    common: Common,
    /// Change the object only if this is its version.
    #[arg(long, default_value = "")]
    resource_version: String,
}

#[derive(clap::Args)]
struct AccountArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct SubjectArgs {
    #[command(flatten)]
    common: Common,
    /// Users of the binding.
    #[arg(long)]
    user: Vec<String>,
    /// Groups of the binding.
    #[arg(long)]
    group: Vec<String>,
    /// Service accounts of the binding.
    #[arg(long)]
    serviceaccount: Vec<String>,
}

#[derive(clap::Args)]
struct ResourcesArgs {
    #[command(flatten)]
    common: Common,
    /// Which containers; `*` in a name stands for anything.
    #[arg(short, long, default_value = "*")]
    containers: String,
    /// Such as `cpu=200m,memory=512Mi`.
    #[arg(long, default_value = "")]
    limits: String,
    /// Such as `cpu=100m,memory=256Mi`.
    #[arg(long, default_value = "")]
    requests: String,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    match &args.what {
        What::Image(args) => set_image(args, home, namespace),
        What::Env(args) => env::set_env(args, home, namespace),
        What::Resources(args) => set_resources(args, home, namespace),
        What::Selector(args) => set_selector(args, home, namespace),
        What::Serviceaccount(args) => set_account(args, home, namespace),
        What::Subject(args) => refuse_subject(args),
    }
}

/// The words that name objects, and those that begin with the first that `is_change`.
fn split_words(words: &[String], is_change: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
    let at = words.iter().position(|word| is_change(word)).unwrap_or(words.len());
    (words[..at].to_vec(), words[at..].to_vec())
}

impl Common {
    /// Finds what is meant before anything is said of the change, as kubectl does.
    fn check_targets(&self, words: &[String], (home, namespace): (&Home, &Namespace)) -> Result<(), Error> {
        if self.local {
            return Ok(());
        }
        if words.is_empty() && !self.told.which.files.is_given() {
            return Err(Error::missing(NO_RESOURCES));
        }
        let engine = Engine::over(home);
        for Target { kind, namespace, name } in find_targets(&self.told, words, home, namespace)? {
            engine.get_object(kind, &namespace, &name)?;
        }
        Ok(())
    }

    /// Changes the objects that are meant by `words`.
    fn change(
        &self,
        words: &[String],
        (home, namespace): (&Home, &Namespace),
        (what, part): (&'static str, PodPart),
        change: &dyn Fn(&mut Value) -> Result<(), Error>,
    ) -> Result<i32, Error> {
        let engine = Engine::over(home);
        let targets = match self.local {
            true => Err(read_local_objects(&self.told.which.files)?),
            false => Ok(find_targets(&self.told, words, home, namespace)?),
        };
        let (output, dry) = (&self.change.output.parse()?, self.change.dry_run());
        change_objects(
            targets,
            &engine,
            &Telling { output, args: &self.change.output, dry, what, part, manager: self.change.manager() },
            &|object| {
                change(object)?;
                canonicalize_pod_spec(object);
                if self.local {
                    complete_local(object);
                }
                Ok(())
            },
        )
    }
}

/// Writes the quantities of an object's pods as an API server does, which kubectl does here, unlike with a patch.
fn canonicalize_pod_spec(object: &mut Value) {
    let Some(spec) = find_pod_spec(object) else { return };
    if let Ok(mut typed) = serde_json::from_value(spec.clone()) {
        canonicalize_quantities(&mut typed);
        *spec = json!(typed);
    }
}

/// Writes what an object of a file has not and kubectl, which reads it into its types, writes all the same.
fn complete_local(object: &mut Value) {
    let Some(spec) = find_pod_spec(object) else { return };
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if container["resources"].is_null() {
                container["resources"] = json!({});
            }
        }
    }
    if object["status"].is_null() {
        object["status"] = json!({});
    }
}

/// Tells whether a container is among those that `--containers` says.
fn is_container_meant(patterns: &str, name: &str) -> bool {
    patterns.split(',').any(|pattern| matches_pattern(pattern, name))
}

/// Tells that an object has no such container, which for kubectl is no error.
fn warn_of_no_container(object: &Value, containers: &str) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    warn_as_kubectl(&format!("{kind}/{name} does not have any containers matching {containers:?}"));
}

/// Calls `change` with each container of an object's pods that `is_meant`; `None` when there is none.
fn change_containers(
    object: &mut Value,
    is_meant: &dyn Fn(&str) -> bool,
    change: &mut dyn FnMut(&mut Value) -> Result<(), Error>,
) -> Result<Option<()>, Error> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let plural = ObjectKind::of_object(&kind).map_or_else(|| kind.to_lowercase(), |k| k.plural().to_owned());
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let spec = find_pod_spec(object).ok_or_else(|| {
        let what = "the object is not a pod or does not have a pod template";
        Error::not_done(format!("{plural}/{name} {what}: *v1.{kind}"))
    })?;
    let mut found = None;
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            if is_meant(container["name"].as_str().unwrap_or_default()) {
                change(container)?;
                found = Some(());
            }
        }
        // Indexing has made it.
        if spec[list].is_null()
            && let Some(fields) = spec.as_object_mut()
        {
            fields.remove(list);
        }
    }
    Ok(found)
}

/// Tells whether a name is what a pattern says, in which `*` stands for anything.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            after.is_empty()
                || (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches_pattern(after, &rest[at..]))
        }),
    }
}

fn set_image(args: &ImageArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let (words, changes) = split_words(&args.common.told.which.names, |word| word.contains('='));
    let pairs: Vec<(&str, &str)> = changes.iter().filter_map(|change| change.split_once('=')).collect();
    args.common.check_targets(&words, (home, namespace))?;
    if pairs.is_empty() || pairs.len() < changes.len() {
        return Err(Error::missing("at least one image update is required"));
    }
    args.common.change(&words, (home, namespace), ("image", PodPart::Object), &|object| {
        for (container, image) in &pairs {
            let found =
                change_containers(object, &|name| *container == "*" || *container == name, &mut |own| {
                    own["image"] = json!(image);
                    Ok(())
                })?;
            if found.is_none() {
                return Err(Error::absent(format!("unable to find container named {container:?}")));
            }
        }
        Ok(())
    })
}

fn set_resources(args: &ResourcesArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let parse = |text: &str| -> Result<Vec<(String, String)>, Error> {
        let pairs = text.split(',').filter(|pair| !pair.is_empty());
        let parse = |pair: &str| {
            let (name, amount) = pair.split_once('=').ok_or_else(|| {
                Error::bad_value(format!("invalid argument syntax {pair}, expected <resource>=<value>"))
            })?;
            if quantity_millis(amount).is_err() {
                return Err(Error::bad_value(
                    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                ));
            }
            Ok((name.to_owned(), amount.to_owned()))
        };
        pairs.map(parse).collect()
    };
    args.common.check_targets(&args.common.told.which.names, (home, namespace))?;
    let all = [("limits", parse(&args.limits)?), ("requests", parse(&args.requests)?)];
    if all.iter().all(|(_, amounts)| amounts.is_empty()) {
        return Err(Error::missing(
            "you must specify an update to requests or limits (in the form of --requests/--limits)",
        ));
    }
    let is_meant = |name: &str| is_container_meant(&args.containers, name);
    let words = &args.common.told.which.names;
    // Of a pod they are changed while it runs, which kubectl needs `patch --subresource=resize` for.
    let what = ("resource requirements", PodPart::Resources);
    args.common.change(words, (home, namespace), what, &|object| {
        let found = change_containers(object, &is_meant, &mut |container| {
            for (field, amounts) in &all {
                for (name, amount) in amounts {
                    let known = &mut container["resources"][*field];
                    match (amount.as_str(), known.as_object_mut()) {
                        // kubectl takes a limit away by a zero.
                        ("0", Some(known)) => drop(known.remove(name)),
                        ("0", None) => {}
                        _ => known[name.as_str()] = json!(amount),
                    }
                }
            }
            Ok(())
        })?;
        match found {
            Some(()) => Ok(()),
            None => Err(Error::absent(format!("unable to find container named {}", args.containers))),
        }
    })
}

fn set_selector(args: &SelectorArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let names = &args.common.told.which.names;
    let is_file = args.common.told.which.files.is_given();
    let Some((expression, words)) = names.split_last() else {
        return Err(Error::missing("one selector is required"));
    };
    if words.is_empty() && !is_file {
        return Err(Error::missing(NO_RESOURCES));
    }
    Labels::parse(expression).map_err(|why| {
        Error::bad_value(format!("couldn't parse the selector string {expression:?}: {why}"))
    })?;
    let labels = parse_match_labels(expression)?;
    args.common.change(words, (home, namespace), ("selector", PodPart::Object), &|object| {
        if object["kind"] != "Service" {
            return Err(Error::not_done("setting a selector is only supported for Services"));
        }
        check_object_version(ObjectKind::Service, object, &args.resource_version)?;
        object["spec"]["selector"] = labels.clone();
        Ok(())
    })
}

/// Reads the selector of a Service: labels with one value each.
fn parse_match_labels(expression: &str) -> Result<Value, Error> {
    let mut labels = json!({});
    for part in expression.split(',').filter(|part| !part.is_empty()) {
        let (key, value) = part
            .split_once("==")
            .or_else(|| part.split_once('='))
            .filter(|(key, _)| !key.is_empty() && !key.ends_with('!'))
            .ok_or_else(|| {
                let shown = match part.split_once("!=") {
                    Some((key, value)) => format!("{key} NotIn [{value}]"),
                    None => format!("{part} Exists []"),
                };
                Error::bad_value(format!("match expression [{{{shown}}}] not supported on this object"))
            })?;
        labels[key.trim()] = value.trim().into();
    }
    Ok(labels)
}

fn set_account(args: &AccountArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let Some((account, words)) = args.common.told.which.names.split_last() else {
        return Err(Error::missing("serviceaccount is required"));
    };
    args.common.change(words, (home, namespace), ("serviceaccount", PodPart::Object), &|object| {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let spec = find_pod_spec(object).ok_or_else(|| {
            Error::not_done(format!("the object is not a pod or does not have a pod template: *v1.{kind}"))
        })?;
        spec["serviceAccountName"] = json!(account);
        Ok(())
    })
}

/// Refuses to change a binding, which is of a kind that is not here, as kubectl does of a server without the kind.
fn refuse_subject(args: &SubjectArgs) -> Result<i32, Error> {
    if args.common.told.which.names.is_empty() && !args.common.told.which.files.is_given() {
        return Err(Error::missing(NO_RESOURCES));
    }
    let mut words = args.common.told.which.names.iter().flat_map(|word| word.split('/'));
    let kind = words.next().unwrap_or("rolebinding");
    match ObjectKind::of_word(kind) {
        Some(kind) => Err(Error::not_done(format!(
            "setting subject is only supported for RoleBinding/ClusterRoleBinding, not for {}",
            kind.name()
        ))),
        None => Err(missing_object(kind, words.next().unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, is) in [
            ("*", "app", true),
            ("a*", "app", true),
            ("*p", "app", true),
            ("a*x", "app", false),
            ("app", "app2", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), is, "{pattern} {name}");
        }
    }
}
