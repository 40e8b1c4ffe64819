//! `podctl set env`: variables of an object's containers.

use serde_json::{Value, json};

use super::{Common, change_containers, is_container_meant, split_words, warn_of_no_container};
use crate::{
    cli::{
        Error, Namespace,
        edited_objects::read_local_objects,
        kind_words::unknown_kind,
        object_selection::{NO_NAMED_RESOURCES, Target, find_targets},
        warn_as_kubectl,
    },
    engine::{Engine, PodPart},
    pod::ObjectKind,
    state::Home,
};

#[derive(clap::Args)]
pub(super) struct EnvArgs {
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

/// The variable that is set, or taken away.
type Variable = (String, Option<Value>);

pub(super) fn set_env(args: &EnvArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
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
    let both = |(name, value): &&Variable| {
        value.is_none() && variables.iter().any(|(own, v)| own == name && v.is_some())
    };
    if variables.iter().any(|variable| both(&variable)) {
        return Err(Error::contradiction(
            "can not both modify and remove the same environment variable in the same command",
        ));
    }
    if let Some(from) = &args.from {
        variables.extend(find_referred_variables(args, from, home, namespace)?);
    }
    if args.list {
        return list_variables(args, &words, &variables, (home, namespace));
    }
    // kubectl says nothing when there is nothing to set.
    if variables.is_empty() {
        return Ok(0);
    }
    args.common.change(&words, (home, namespace), ("env", PodPart::Object), &|object| {
        let owner = name_owner(object, args.common.local);
        let found = change_containers(
            object,
            &|name| is_container_meant(&args.containers, name),
            &mut |container| change_variables(container, &variables, args.overwrite, &owner),
        )?;
        if found.is_none() {
            warn_of_no_container(object, &args.containers);
        }
        Ok(())
    })
}

/// Names an object as kubectl does in an error about it.
fn name_owner(object: &Value, is_local: bool) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    let plural = ObjectKind::of_object(kind).filter(|_| !is_local).map(|kind| kind.plural().to_owned());
    let word = plural.unwrap_or_else(|| kind.to_lowercase());
    format!("{word}/{}", object["metadata"]["name"].as_str().unwrap_or_default())
}

fn change_variables(
    container: &mut Value,
    variables: &[Variable],
    overwrite: bool,
    owner: &str,
) -> Result<(), Error> {
    let mut all = container["env"].as_array().cloned().unwrap_or_default();
    for (name, value) in variables {
        let at = all.iter().position(|known| known["name"] == name.as_str());
        match (value, at) {
            (Some(_), Some(at)) if !overwrite => {
                let known = all[at]["value"].as_str().unwrap_or_default();
                return Err(Error::unmet(format!(
                    "{owner} '{name}' already has a value ({known}), and --overwrite is false"
                )));
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
    let (kind, name) = from.split_once('/').unwrap_or((from, ""));
    let kind = ObjectKind::of_word(kind).ok_or_else(|| unknown_kind(kind))?;
    if !matches!(kind, ObjectKind::ConfigMap | ObjectKind::Secret) {
        return Err(Error::bad_value("unsupported resource specified in --from"));
    }
    let object = Engine::over(home).get_object(kind, namespace, name)?;
    let field = if kind == ObjectKind::Secret { "secretKeyRef" } else { "configMapKeyRef" };
    let keys = object["data"].as_object().into_iter().flatten().map(|(key, _)| key);
    let meant = keys.filter(|key| args.keys.is_empty() || args.keys.contains(key));
    let variable = |key: &String| {
        let name_of_key: String = key
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        if name_of_key != *key {
            warn_as_kubectl(&format!("key {key} transferred to {name_of_key}"));
        }
        let own = format!("{}{name_of_key}", args.prefix);
        let value = json!({"name": own, "valueFrom": {field: {"key": key, "name": name}}});
        (own, Some(value))
    };
    Ok(meant.map(variable).collect())
}

fn list_variables(
    args: &EnvArgs,
    words: &[String],
    variables: &[Variable],
    (home, namespace): (&Home, &Namespace),
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
    for mut object in objects {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let title = format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]));
        let owner = name_owner(&object, args.common.local);
        let is_meant = |name: &str| is_container_meant(&args.containers, name);
        let found = change_containers(&mut object, &is_meant, &mut |container| {
            change_variables(container, variables, args.overwrite, &owner)?;
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
        if found.is_none() {
            warn_of_no_container(&object, &args.containers);
        }
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
            let (field, resource) = (from.get("fieldRef"), from.get("resourceFieldRef"));
            return match (field, resource) {
                (_, Some(resource)) => {
                    format!("# {name} from resource field {}", text(&resource["resource"]))
                }
                (Some(field), None) => format!("# {name} from field path {}", text(&field["fieldPath"])),
                (None, None) => format!("# {name} from something else"),
            };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_set_and_taken_away() {
        let mut container = json!({"name": "a", "env": [{"name": "X", "value": "1"}]});
        let set = |name: &str, value: &str| (name.to_owned(), Some(json!({"name": name, "value": value})));
        change_variables(&mut container, &[set("X", "2"), set("Y", "3")], true, "pod/a").unwrap();
        assert_eq!(container["env"], json!([{"name": "X", "value": "2"}, {"name": "Y", "value": "3"}]));
        assert!(change_variables(&mut container, &[set("X", "2")], false, "pod/a").is_err());
        change_variables(&mut container, &[("X".into(), None), ("Y".into(), None)], true, "pod/a").unwrap();
        assert_eq!(container, json!({"name": "a"}));
    }
}
