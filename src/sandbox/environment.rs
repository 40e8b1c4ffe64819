//! R-ENV-1: what a container's environment, command and arguments come to.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource};

use super::{Error, Objects, downward_api, env_file};
use crate::pod::{ServiceLink, kubernetes_versions::file_key};

/// The container's variables.
#[derive(Debug, Default)]
pub struct Environment {
    /// All of them, in order of definition: the image's, then envFrom, then env.
    pub all: Vec<(String, String)>,
    /// Those of envFrom and env alone, which `$(NAME)` expands to: a kubelet does not know the
    /// image's.
    pub declared: BTreeMap<String, String>,
}

impl Environment {
    fn set(&mut self, name: &str, value: String) {
        match self.all.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.all.push((name.to_owned(), value)),
        }
    }

    fn declare_variable(&mut self, name: &str, value: String) {
        self.set(name, value.clone());
        self.declared.insert(name.to_owned(), value);
    }
}

/// The environment: image, then envFrom (later wins), then env.
///
/// # Errors
/// [`Error::Config`] for a key that is missing and not optional, and for a field that has no value.
pub fn environment(
    image: &[String],
    container: &Container,
    objects: &Objects,
    facts: &downward_api::Facts,
) -> Result<Environment, Error> {
    let mut env = Environment::default();
    for entry in image {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        env.set(name, value.to_owned());
    }
    env.set("HOSTNAME", facts.hostname.clone());
    for (name, value) in facts.services.iter().flat_map(service_variables) {
        env.declare_variable(&name, value);
    }
    // Every key is a name that the API allows for a variable: none has to be skipped.
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or("");
        if let Some(map) = &source.config_map_ref
            && let Some(found) = objects.config_map(&map.name, map.optional)?
        {
            for (key, value) in found.data.iter().flatten() {
                env.declare_variable(&format!("{prefix}{key}"), value.clone());
            }
        }
        if let Some(secret) = &source.secret_ref
            && let Some(found) = objects.secret(&secret.name, secret.optional)?
        {
            for (key, value) in found.data.iter().flatten() {
                env.declare_variable(&format!("{prefix}{key}"), text(&value.0, key)?);
            }
        }
    }
    for var in container.env.iter().flatten() {
        let value = match &var.value_from {
            Some(source) => match value_from(source, container, objects, facts)? {
                Some(value) => value,
                None => continue,
            },
            None => expand(var.value.as_deref().unwrap_or(""), &env.declared),
        };
        env.declare_variable(&var.name, value);
    }
    Ok(env)
}

/// Returns the variables by which containers find a Service (enableServiceLinks): Docker's links among them, as a kubelet
/// has them.
fn service_variables(service: &ServiceLink) -> Vec<(String, String)> {
    let prefix = service.name.to_uppercase().replace('-', "_");
    let address = &service.address;
    let url = |number: i32, protocol: &str| {
        let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
        format!("{}://{host}:{number}", protocol.to_lowercase())
    };
    let mut all = vec![(format!("{prefix}_SERVICE_HOST"), address.clone())];
    if let Some((_, number, protocol)) = service.ports.first() {
        all.push((format!("{prefix}_SERVICE_PORT"), number.to_string()));
        all.push((format!("{prefix}_PORT"), url(*number, protocol)));
    }
    for (name, number, protocol) in &service.ports {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            let name = name.to_uppercase().replace('-', "_");
            all.push((format!("{prefix}_SERVICE_PORT_{name}"), number.to_string()));
        }
        let link = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        all.push((link.clone(), url(*number, protocol)));
        all.push((format!("{link}_PROTO"), protocol.to_lowercase()));
        all.push((format!("{link}_PORT"), number.to_string()));
        all.push((format!("{link}_ADDR"), address.clone()));
    }
    all
}

/// Expands `$(NAME)` from `env`; `$$` is a dollar sign, an unknown name stays as written.
pub fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    expand_with(text, |name| env.get(name).cloned().unwrap_or_else(|| format!("$({name})")))
}

/// Does as [`expand`], but every name has to be known, and to stand for something: what is meant to be
/// apart would else be one.
///
/// # Errors
/// The first name that is not or does not.
pub fn expand_all(text: &str, env: &BTreeMap<String, String>) -> Result<String, String> {
    let mut unknown = None;
    let expanded = expand_with(text, |name| {
        env.get(name).filter(|value| !value.is_empty()).cloned().unwrap_or_else(|| {
            unknown.get_or_insert_with(|| name.to_owned());
            String::new()
        })
    });
    unknown.map_or(Ok(expanded), Err)
}

fn expand_with(text: &str, mut value: impl FnMut(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            out.push_str(&value(name));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

fn value_from(
    source: &EnvVarSource,
    container: &Container,
    objects: &Objects,
    facts: &downward_api::Facts,
) -> Result<Option<String>, Error> {
    let absent = |kind: &str, name: &str, key: &str, optional: Option<bool>| match optional {
        Some(true) => Ok(None),
        _ => Err(Error::Config(format!("couldn't find key {key} in {kind} {}/{name}", facts.namespace))),
    };
    if let Some(r) = &source.config_map_key_ref {
        let found = objects.config_map(&r.name, r.optional)?;
        return match found.and_then(|m| m.data.as_ref()?.get(&r.key)) {
            Some(value) => Ok(Some(value.clone())),
            None => absent("ConfigMap", &r.name, &r.key, r.optional),
        };
    }
    if let Some(r) = &source.secret_key_ref {
        let found = objects.secret(&r.name, r.optional)?;
        return match found.and_then(|s| s.data.as_ref()?.get(&r.key)) {
            Some(value) => Ok(Some(text(&value.0, &r.key)?)),
            None => absent("Secret", &r.name, &r.key, r.optional),
        };
    }
    if let Some(r) = &source.field_ref {
        return downward_api::value(&r.field_path, facts).map(Some);
    }
    if let Some(r) = file_key(source) {
        let found = facts.volumes.get(r.volume_name).map(|volume| env_file::read_key(volume, r.path, r.key));
        return match found.unwrap_or(Ok(None)) {
            Ok(Some(value)) => Ok(Some(value)),
            Ok(None) if r.optional => Ok(None),
            Ok(None) => {
                let (key, path, volume) = (r.key, r.path, r.volume_name);
                Err(Error::Config(format!(
                    "environment variable key {key:?} not found in file {path:?} of volume {volume:?}"
                )))
            }
            Err(message) => Err(Error::Volume { volume: r.volume_name.to_owned(), message }),
        };
    }
    if let Some(r) = &source.resource_field_ref {
        return downward_api::resource(r, Some(container), facts).map(Some);
    }
    Ok(None)
}

fn text(bytes: &[u8], key: &str) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| {
        Error::Config(format!("the value of key {key} is not text and cannot be in an environment variable"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_env_1_dollar_parentheses_expand_and_unknown_names_stay() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (given, wanted) in [
            ("$(A)", "1"),
            ("$$(A)", "$(A)"),
            ("$(B)-$(A)", "$(B)-1"),
            ("$A", "$A"),
            ("x$", "x$"),
            ("$(A", "$(A"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(given, &env), wanted, "{given}");
        }
    }
    #[test]
    fn r_env_1_later_wins_and_only_what_stands_before_is_expanded() {
        use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapEnvSource, EnvFromSource, EnvVar};
        let map = |name: &str, value: &str| ConfigMap {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                name: Some(name.into()),
                ..Default::default()
            },
            data: Some([("K".to_owned(), value.to_owned())].into()),
            ..ConfigMap::default()
        };
        let from = |name: &str| EnvFromSource {
            config_map_ref: Some(ConfigMapEnvSource { name: name.into(), optional: None }),
            prefix: Some("P_".into()),
            ..EnvFromSource::default()
        };
        let var = |name: &str, value: &str| EnvVar {
            name: name.into(),
            value: Some(value.into()),
            value_from: None,
        };
        let container = Container {
            env_from: Some(vec![from("one"), from("two")]),
            env: Some(vec![var("A", "$(P_K)-$(B)-$(IMAGE)"), var("B", "$(A)"), var("IMAGE", "own")]),
            ..Container::default()
        };
        let objects = Objects { config_maps: vec![map("one", "1"), map("two", "2")], ..Objects::default() };
        let env = environment(&["IMAGE=image".into()], &container, &objects, &downward_api::Facts::default())
            .unwrap();
        let get = |name: &str| env.all.iter().find(|(n, _)| n == name).unwrap().1.as_str();
        assert_eq!(get("P_K"), "2");
        assert_eq!(get("A"), "2-$(B)-$(IMAGE)");
        assert_eq!(get("B"), "2-$(B)-$(IMAGE)");
        assert_eq!(get("IMAGE"), "own");
    }
}
