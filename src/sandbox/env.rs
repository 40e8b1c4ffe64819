//! R-ENV-1: what a container's environment, command and arguments come to.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource};

use super::{Error, Objects, field};

/// The environment in order of definition: image, then envFrom (later wins), then env.
///
/// # Errors
/// [`Error::Config`] for a key that is missing and not optional, and for a field that has no value.
pub fn environment(
    image: &[String],
    container: &Container,
    objects: &Objects,
    facts: &field::Facts,
) -> Result<Vec<(String, String)>, Error> {
    let mut env = Environment::default();
    for entry in image {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        env.set(name, value.to_owned());
    }
    env.set("HOSTNAME", facts.hostname.clone());
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or("");
        if let Some(map) = &source.config_map_ref
            && let Some(found) = objects.config_map(&map.name, map.optional)?
        {
            for (key, value) in found.data.iter().flatten() {
                env.set(&format!("{prefix}{key}"), value.clone());
            }
        }
        if let Some(secret) = &source.secret_ref
            && let Some(found) = objects.secret(&secret.name, secret.optional)?
        {
            for (key, value) in found.data.iter().flatten() {
                env.set(&format!("{prefix}{key}"), text(&value.0, key)?);
            }
        }
    }
    for var in container.env.iter().flatten() {
        let value = match &var.value_from {
            Some(source) => match value_from(source, container, objects, facts)? {
                Some(value) => value,
                None => continue,
            },
            None => expand(var.value.as_deref().unwrap_or(""), &env.values),
        };
        env.set(&var.name, value);
    }
    Ok(env.in_order())
}

/// Expands `$(NAME)` from `env`; `$$` is a dollar sign, an unknown name stays as written.
pub fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

#[derive(Default)]
struct Environment {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Environment {
    fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }

    fn in_order(mut self) -> Vec<(String, String)> {
        let take = |name: String| self.values.remove(&name).map(|value| (name, value));
        self.order.into_iter().filter_map(take).collect()
    }
}

fn value_from(
    source: &EnvVarSource,
    container: &Container,
    objects: &Objects,
    facts: &field::Facts,
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
        return field::value(&r.field_path, facts).map(Some);
    }
    if let Some(r) = &source.resource_field_ref {
        return field::resource(r, container).map(Some);
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
}
