//! Who to be at a registry: the pod's pull secrets, containers' auth.json, Docker's config.json.
//!
//! A registry may know several answers; they are tried in this order until one is let in. Nothing here
//! is ever printed.

use std::env;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use docker_credential::{DockerCredential, get_credential_from_reader};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::Identity;

/// The text of a Docker `config.json`: what a Secret of type kubernetes.io/dockerconfigjson holds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthFile(String);

impl AuthFile {
    /// Takes the `auths` of a `config.json` that came with a manifest. As with a kubelet the rest does not count:
    /// a helper that it names would be a program of this machine, at the word of whoever wrote the manifest.
    pub fn new(config_json: &str) -> Self {
        let file: Map<String, Value> = serde_json::from_str(config_json).unwrap_or_default();
        Self::of(file.into_iter().filter(|(key, _)| key == "auths").collect())
    }

    /// Takes the text of a `.dockercfg`, which is the inner part of the newer file.
    pub fn from_dockercfg(text: &str) -> Self {
        let auths: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
        Self::of(Map::from_iter([("auths".to_owned(), auths.into())]))
    }

    /// Takes all of a `config.json` or `auth.json` of the user's own. A helper's name is a word, from which the name of a
    /// program is made: with a slash it would be a path, to the working directory say.
    fn of_user(text: &str) -> Self {
        let is_word = |name: &Value| {
            let name = name.as_str().unwrap_or_default();
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        let mut file: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
        file.retain(|key, value| key != "credsStore" || is_word(value));
        if let Some(helpers) = file.get_mut("credHelpers").and_then(Value::as_object_mut) {
            helpers.retain(|_, name| is_word(name));
        }
        Self::of(file)
    }

    fn of(file: Map<String, Value>) -> Self {
        Self(Value::from(file).to_string())
    }

    /// Returns what it says about `repository` of `registry`: the longest key that matches wins.
    fn find_credential(&self, registry: &str, repository: &str) -> Option<Identity> {
        #[derive(Deserialize)]
        struct Auths {
            #[serde(default)]
            auths: Map<String, Value>,
        }
        let file: Auths = serde_json::from_str(&self.0).ok()?;
        let name = format!("{registry}/{repository}");
        let mut keys: Vec<_> = file.auths.keys().filter(|key| does_fit(key, registry, &name)).collect();
        keys.sort_by_key(|key| std::cmp::Reverse(key.len()));
        // A credential helper is asked by the host's name, which need not stand in the file.
        let hosts = [registry, if registry == "docker.io" { DOCKER_HUB } else { registry }];
        let asked = keys.into_iter().map(String::as_str).chain(hosts);
        let found = asked.filter_map(|key| get_credential_from_reader(self.0.as_bytes(), key).ok()).next()?;
        Some(match found {
            DockerCredential::UsernamePassword(user, password) => Identity::Password { user, password },
            DockerCredential::IdentityToken(token) => Identity::Token(token),
        })
    }
}

impl fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthFile(…)")
    }
}

/// Tells how Docker's files call docker.io.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Keys are hosts, hosts with a path, or URLs of old; Kubernetes lets a part of the host be `*`.
fn does_fit(key: &str, registry: &str, name: &str) -> bool {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    // `*` stands for a part of the host's name, never for a port.
    let with_port = |host: &'_ str| {
        host.rsplit_once(':').map_or((host.to_owned(), None), |(h, p)| (h.to_owned(), Some(p.to_owned())))
    };
    let ((host, port), (own, own_port)) = (with_port(host), with_port(registry));
    let same = port == own_port
        && host.split('.').count() == own.split('.').count()
        && host.split('.').zip(own.split('.')).all(|(key, part)| key == "*" || key == part);
    let rest = name.strip_prefix(registry).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    let below =
        rest.strip_prefix(path).is_some_and(|r| path.is_empty() || r.is_empty() || r.starts_with('/'));
    same && below
}

/// Everyone to be at this registry, best first, at last nobody.
pub(crate) fn candidates(secrets: &[AuthFile], registry: &str, repository: &str) -> Vec<Identity> {
    let files = files().into_iter().filter_map(|path| fs::read_to_string(path).ok());
    let files = files.map(|text| AuthFile::of_user(&text));
    let asked = secrets.iter().cloned().chain(files);
    let mut found: Vec<_> = asked.filter_map(|file| file.find_credential(registry, repository)).collect();
    found.push(Identity::Anonymous);
    found
}

/// Tells which file a login is written into: the first of those that are read; `None` without a home.
pub fn auth_file() -> Option<PathBuf> {
    files().into_iter().next()
}

/// Does as containers' tools look: a named file alone, else the usual places.
fn files() -> Vec<PathBuf> {
    if let Some(named) = env::var_os("REGISTRY_AUTH_FILE") {
        return vec![named.into()];
    }
    let below = |variable: &str, rest: &str| Some(PathBuf::from(env::var_os(variable)?).join(rest));
    [
        below("XDG_RUNTIME_DIR", "containers/auth.json"),
        below("XDG_CONFIG_HOME", "containers/auth.json")
            .or_else(|| below("HOME", ".config/containers/auth.json")),
        below("DOCKER_CONFIG", "config.json").or_else(|| below("HOME", ".docker/config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_img_1_the_most_specific_key_is_used() {
        let file = AuthFile::new(
            r#"{"auths":{"r.example":{"auth":"YTpi"},"r.example/team/app":{"auth":"Yzpk"},"*.w.example":{"auth":"ZTpm"}}}"#,
        );
        let user = |registry: &str, repository: &str| match file.find_credential(registry, repository) {
            Some(Identity::Password { user, .. }) => user,
            other => format!("{}", other.is_some()),
        };
        assert_eq!(user("r.example", "other"), "a");
        assert_eq!(user("r.example", "team/app"), "c");
        assert_eq!(user("r.example", "team/application"), "a");
        assert_eq!(user("x.w.example", "y"), "e");
        assert_eq!(user("elsewhere.example", "y"), "false");
    }

    #[test]
    fn docker_hub_has_old_names() {
        for key in [DOCKER_HUB, "docker.io", "index.docker.io", "https://index.docker.io/v1"] {
            assert!(does_fit(key, "docker.io", "docker.io/library/busybox"), "{key}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", AuthFile::new("password")), "AuthFile(…)");
    }

    #[test]
    fn a_secret_names_no_helper_and_a_users_helper_is_a_word() {
        let helpers =
            r#"{"credsStore":"x/evil","credHelpers":{"a.example":"../evil","b.example":"pass"},"auths":{}}"#;
        assert_eq!(AuthFile::new(helpers).0, r#"{"auths":{}}"#);
        let own: Value = serde_json::from_str(&AuthFile::of_user(helpers).0).unwrap();
        assert_eq!(own, serde_json::json!({"auths": {}, "credHelpers": {"b.example": "pass"}}));
    }

    #[test]
    fn a_wildcard_is_no_port() {
        assert!(!does_fit("*.example", "r.example:5000", "r.example:5000/app"));
        assert!(does_fit("*.example:5000", "r.example:5000", "r.example:5000/app"));
        assert!(!does_fit("*", "localhost:5000", "localhost:5000/app"));
    }
}
