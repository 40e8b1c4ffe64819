//! `podctl set`: images, environment and resources of an object's containers, in files and of what is kept.

use serde_json::{Value, json};

use crate::{
    cli::{
        Error, Namespace,
        edited_objects::{Telling, change_objects, check_object_version, find_pod_spec, read_local_objects},
        object_selection::{NO_NAMED_RESOURCES, NO_RESOURCES, Target, find_targets, unknown_kind},
        output_formats::ChangeArgs,
        pod_selection::Told,
    },
    engine::{Engine, PodPart},
    pod::{
        ObjectKind,
        quantity::{canonicalize_quantities, quantity_millis},
    },
    state::Home,
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
    Env(EnvArgs),
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
struct EnvArgs {
    #[command(flatten)]
    common: Common,
    /// Which containers; `*` in a name stands for anything.
    #[arg(short, long, default_value = "*")]
    containers: String,
    /// NAME=VALUE, or NAME- to take it away.
    #[arg(short, long, allow_hyphen_values = true)]
    env: Vec<String>,
    /// A ConfigMap or Secret whose keys become variables: `configmap/NAME`, `secret/NAME`.
    #[arg(long)]
    from: Option<String>,
    /// With --from: these keys only.
    #[arg(long, value_delimiter = ',')]
    keys: Vec<String>,
    /// With --from: what the variables' names begin with.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Show the variables, and change nothing.
    #[arg(long)]
    list: bool,
    /// With --list: show what a reference leads to.
    #[arg(long)]
    resolve: bool,
    /// Without, a variable that is set already is an error.
    #[arg(long, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    overwrite: bool,
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
        What::Env(args) => set_env(args, home, namespace),
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

/// Refuses what can be no variable's name.
fn check_variable_name(name: &str) -> Result<(), Error> {
    let is_part = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    if name.bytes().all(is_part) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(());
    }
    Err(Error::bad_value(format!(
        "{name:?} is not a valid key name: a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '[-._a-zA-Z][-._a-zA-Z0-9]*')"
    )))
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
        (what, part): (&str, PodPart),
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
            &Telling { output, args: &self.change.output, dry, what, part },
            &|object| {
                change(object)?;
                canonicalize_pod_spec(object);
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
    args.common.change(&words, (home, namespace), ("image updated", PodPart::Object), &|object| {
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

/// The variable that is set, or taken away.
type Variable = (String, Option<Value>);

fn set_env(args: &EnvArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let is_change = |word: &str| word.contains('=') || (word.ends_with('-') && word.len() > 1);
    let (words, mut changes) = split_words(&args.common.told.which.names, is_change);
    changes.extend(args.env.iter().cloned());
    if words.is_empty() && !args.common.told.which.files.is_given() {
        return Err(Error::missing(NO_NAMED_RESOURCES));
    }
    args.common.check_targets(&words, (home, namespace))?;
    let mut variables: Vec<Variable> = Vec::new();
    for change in &changes {
        variables.push(match (change.split_once('='), change.strip_suffix('-')) {
            (Some((name, value)), _) if !name.is_empty() => {
                check_variable_name(name)?;
                (name.to_owned(), Some(json!({"name": name, "value": value})))
            }
            (None, Some(name)) => (name.to_owned(), None),
            _ => return Err(Error::bad_value(format!("{change:?} is neither NAME=VALUE nor NAME-"))),
        });
    }
    if let Some(from) = &args.from {
        variables.extend(find_referred_variables(args, from, home, namespace)?);
    }
    if args.list {
        return list_variables(args, &words, home, namespace);
    }
    // kubectl says nothing when there is nothing to set.
    if variables.is_empty() {
        return Ok(0);
    }
    let is_meant = |name: &str| args.containers.split(',').any(|pattern| matches_pattern(pattern, name));
    args.common.change(&words, (home, namespace), ("env updated", PodPart::Object), &|object| {
        let found = change_containers(object, &is_meant, &mut |container| {
            change_variables(container, &variables, args.overwrite)
        })?;
        match found {
            Some(()) => Ok(()),
            None => Err(Error::absent(format!("{} is not a container of the object", args.containers))),
        }
    })
}

fn change_variables(container: &mut Value, variables: &[Variable], overwrite: bool) -> Result<(), Error> {
    let mut all = container["env"].as_array().cloned().unwrap_or_default();
    for (name, value) in variables {
        let at = all.iter().position(|known| known["name"] == name.as_str());
        match (value, at) {
            (Some(_), Some(_)) if !overwrite => {
                return Err(Error::unmet(format!("'{name}' already has a value, and --overwrite is false")));
            }
            (Some(value), Some(at)) => all[at] = value.clone(),
            (Some(value), None) => all.push(value.clone()),
            (None, Some(at)) => drop(all.remove(at)),
            (None, None) => {}
        }
    }
    match (all.is_empty(), container.as_object_mut()) {
        (true, Some(fields)) => drop(fields.remove("env")),
        _ => container["env"] = all.into(),
    }
    Ok(())
}

/// Variables that refer to the keys of a kept ConfigMap or Secret.
fn find_referred_variables(
    args: &EnvArgs,
    from: &str,
    home: &Home,
    namespace: &Namespace,
) -> Result<Vec<Variable>, Error> {
    let (kind, name) = from.split_once('/').unwrap_or(("", from));
    let kind = ObjectKind::of_word(kind)
        .filter(|kind| matches!(kind, ObjectKind::ConfigMap | ObjectKind::Secret))
        .ok_or_else(|| Error::bad_value(format!("--from={from} must be configmap/NAME or secret/NAME")))?;
    let object = Engine::over(home).get_object(kind, namespace, name)?;
    let field = if kind == ObjectKind::Secret { "secretKeyRef" } else { "configMapKeyRef" };
    let keys = object["data"].as_object().into_iter().flatten().map(|(key, _)| key);
    let meant = keys.filter(|key| args.keys.is_empty() || args.keys.contains(key));
    let variable = |key: &String| {
        let name_of_key: String = key
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        let own = format!("{}{name_of_key}", args.prefix);
        let value = json!({"name": own, "valueFrom": {field: {"key": key, "name": name}}});
        (own, Some(value))
    };
    Ok(meant.map(variable).collect())
}

fn list_variables(
    args: &EnvArgs,
    words: &[String],
    home: &Home,
    namespace: &Namespace,
) -> Result<i32, Error> {
    let engine = Engine::over(home);
    let objects = match args.common.local {
        true => read_local_objects(&args.common.told.which.files)?,
        false => {
            let targets = find_targets(&args.common.told, words, home, namespace)?;
            let get = |t: &Target| engine.get_object(t.kind, &t.namespace, &t.name);
            targets.iter().map(get).collect::<Result<_, _>>()?
        }
    };
    let is_meant = |name: &str| args.containers.split(',').any(|pattern| matches_pattern(pattern, name));
    for mut object in objects {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let title = format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]));
        change_containers(&mut object, &is_meant, &mut |container| {
            println!("# {title}, container {}", container["name"].as_str().unwrap_or_default());
            for variable in container["env"].as_array().into_iter().flatten() {
                println!("{}", show_variable(args, variable, &engine, namespace));
            }
            if container["env"].is_null()
                && let Some(fields) = container.as_object_mut()
            {
                fields.remove("env");
            }
            Ok(())
        })?;
    }
    Ok(0)
}

fn show_variable(args: &EnvArgs, variable: &Value, engine: &Engine, namespace: &Namespace) -> String {
    let name = variable["name"].as_str().unwrap_or_default();
    let Some(from) = variable["valueFrom"].as_object() else {
        return format!("{name}={}", variable["value"].as_str().unwrap_or_default());
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, source) = match (from.get("configMapKeyRef"), from.get("secretKeyRef")) {
        (Some(source), _) => (ObjectKind::ConfigMap, source),
        (None, Some(source)) => (ObjectKind::Secret, source),
        (None, None) => {
            let path = text(&variable["valueFrom"]["fieldRef"]["fieldPath"]);
            return format!("# {name} from field path {path}");
        }
    };
    let (object, key) = (text(&source["name"]), text(&source["key"]));
    let found = engine.get_object(kind, namespace, &object).ok().filter(|_| args.resolve);
    match found.map(|found| found["data"][&key].clone()) {
        Some(Value::String(value)) if kind == ObjectKind::ConfigMap => format!("{name}={value}"),
        Some(Value::String(value)) => {
            let decoded = serde_json::from_value::<k8s_openapi::ByteString>(value.into());
            let decoded = decoded.map(|bytes| bytes.0).unwrap_or_default();
            format!("{name}={}", String::from_utf8_lossy(&decoded))
        }
        _ => format!("# {name} from {} {object}, key {key}", kind.singular()),
    }
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
    let is_meant = |name: &str| args.containers.split(',').any(|pattern| matches_pattern(pattern, name));
    let words = &args.common.told.which.names;
    // Of a pod they are changed while it runs, which kubectl needs `patch --subresource=resize` for.
    let what = ("resource requirements updated", PodPart::Resources);
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
            None => Err(Error::absent(format!("unable to find container named {:?}", args.containers))),
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
        return Err(Error::missing(NO_NAMED_RESOURCES));
    }
    let labels = parse_match_labels(expression)?;
    args.common.change(words, (home, namespace), ("selector updated", PodPart::Object), &|object| {
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
                Error::bad_value(format!("match expression {part:?} not supported on this object"))
            })?;
        labels[key.trim()] = value.trim().into();
    }
    Ok(labels)
}

fn set_account(args: &AccountArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let Some((account, words)) = args.common.told.which.names.split_last() else {
        return Err(Error::missing("serviceaccount is required"));
    };
    args.common.change(words, (home, namespace), ("serviceaccount updated", PodPart::Object), &|object| {
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
    if args.user.is_empty() && args.group.is_empty() && args.serviceaccount.is_empty() {
        return Err(Error::missing("you must specify at least one value of user, group or serviceaccount"));
    }
    let word = args.common.told.which.names.first().map_or("rolebinding", String::as_str);
    let kind = word.split('/').next().unwrap_or(word);
    match ObjectKind::of_word(kind) {
        Some(kind) => Err(Error::not_done(format!(
            "setting subject is only supported for RoleBinding/ClusterRoleBinding, not for {}",
            kind.name()
        ))),
        None => Err(unknown_kind(kind)),
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

    #[test]
    fn variables_are_set_and_taken_away() {
        let mut container = json!({"name": "a", "env": [{"name": "X", "value": "1"}]});
        let set = |name: &str, value: &str| (name.to_owned(), Some(json!({"name": name, "value": value})));
        change_variables(&mut container, &[set("X", "2"), set("Y", "3")], true).unwrap();
        assert_eq!(container["env"], json!([{"name": "X", "value": "2"}, {"name": "Y", "value": "3"}]));
        assert!(change_variables(&mut container, &[set("X", "2")], false).is_err());
        change_variables(&mut container, &[("X".into(), None), ("Y".into(), None)], true).unwrap();
        assert_eq!(container, json!({"name": "a"}));
    }
}
