//! The entry of a kubeconfig that leads to the user's server, and its place in a file that has others. PURE but for
//! the credentials.

use std::path::Path;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::{
    serve::{Error, own_address},
    server_credentials::Credentials,
};
use crate::engine::Engine;

/// The name of the cluster, of its user and of the context.
pub(crate) const NAME: &str = "podctl";

/// Variables that say where podctl keeps things; the plugin needs them as well.
const VARIABLES: [&str; 2] = ["PODCTL_DATA_DIR", "PODCTL_RUNTIME_DIR"];

/// Returns a kubeconfig with the one context; `program` is podctl's own path.
///
/// # Errors
/// [`Error`]
pub(crate) fn make_kubeconfig(engine: &Engine, program: &Path, namespace: &str) -> Result<Value, Error> {
    let credentials = Credentials::open(&engine.server_dir())?;
    let authority = ByteString(credentials.authority.into_bytes());
    let set =
        VARIABLES.iter().filter_map(|name| Some(json!({"name": name, "value": std::env::var(name).ok()?})));
    let variables: Vec<Value> = set.collect();
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": program,
        "args": ["serve", "--credential"],
        "env": if variables.is_empty() { Value::Null } else { variables.into() },
        "interactiveMode": "Never",
        "provideClusterInfo": false,
    });
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": {
            "server": format!("https://{}", own_address(engine)?),
            "certificate-authority-data": authority,
        }}],
        "users": [{"name": NAME, "user": {"exec": exec}}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": namespace}}],
        "current-context": NAME,
    }))
}

/// Puts the entries of one kubeconfig into another, in the place of those of their names; its current context stays, if
/// it has one.
pub(crate) fn merge_kubeconfig(known: &mut Value, own: &Value) {
    if !known.is_object() {
        *known = json!({"apiVersion": "v1", "kind": "Config"});
    }
    for list in ["clusters", "users", "contexts"] {
        if !known[list].is_array() {
            known[list] = json!([]);
        }
        let entries = own[list].as_array().into_iter().flatten();
        for entry in entries {
            let Some(all) = known[list].as_array_mut() else { continue };
            match all.iter_mut().find(|known| known["name"] == entry["name"]) {
                Some(place) => *place = entry.clone(),
                None => all.push(entry.clone()),
            }
        }
    }
    if known["current-context"].as_str().is_none_or(str::is_empty) {
        known["current-context"] = own["current-context"].clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_keeps_what_it_has_of_others() {
        let own = json!({"clusters": [{"name": "podctl", "cluster": {"server": "new"}}], "users": [], "contexts": [{"name": "podctl"}],
            "current-context": "podctl"});
        let mut known = json!({"clusters": [{"name": "kind"}, {"name": "podctl", "cluster": {"server": "old"}}],
            "contexts": null, "current-context": "kind", "preferences": {}});
        merge_kubeconfig(&mut known, &own);
        assert_eq!(
            known["clusters"],
            json!([{"name": "kind"}, {"name": "podctl", "cluster": {"server": "new"}}])
        );
        assert_eq!(known["contexts"], json!([{"name": "podctl"}]));
        assert_eq!((&known["current-context"], &known["preferences"]), (&json!("kind"), &json!({})));
        let mut nothing = Value::Null;
        merge_kubeconfig(&mut nothing, &own);
        assert_eq!(nothing["current-context"], "podctl");
    }
}
