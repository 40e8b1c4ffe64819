//! Which hosts to ask for an image: containers' `registries.conf` (version 2), and who to be there.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::PathBuf;

use docker_credential::DockerCredential;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

use crate::{Error, Reference};

/// One place that may have the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) registry: String,
    pub(crate) repository: String,
    /// Plain HTTP, or HTTPS whose certificate nobody vouches for.
    pub(crate) insecure: bool,
}

#[derive(Default, Deserialize)]
struct Conf {
    #[serde(default)]
    registry: Vec<Registry>,
    #[serde(skip)]
    path: PathBuf,
}

#[derive(Deserialize)]
struct Registry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Deserialize)]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
}

/// Mirrors in order, then the registry itself.
pub(crate) fn endpoints(reference: &Reference) -> Result<Vec<Endpoint>, Error> {
    read()?.endpoints(reference)
}

/// Whether the user's `registries.conf` can be read; its path, when there is one.
///
/// # Errors
/// [`Error::Conf`] with the place in the file, [`Error::Io`].
pub fn registries_conf() -> Result<Option<PathBuf>, Error> {
    Ok(Some(read()?.path).filter(|path| !path.as_os_str().is_empty()))
}

fn read() -> Result<Conf, Error> {
    let config_home = || {
        let xdg = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        xdg.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".config")))
    };
    let named = env::var_os("CONTAINERS_REGISTRIES_CONF").map(PathBuf::from);
    let candidates = match named {
        Some(path) => vec![path],
        None => {
            let own = config_home().map(|dir| dir.join("containers/registries.conf"));
            own.into_iter().chain(["/etc/containers/registries.conf".into()]).collect()
        }
    };
    for path in candidates {
        match fs::read_to_string(&path) {
            Ok(text) => {
                let conf = toml::from_str(&text);
                let conf: Conf = conf.map_err(|e| Error::Conf { path: path.clone(), source: Box::new(e) })?;
                return Ok(Conf { path, ..conf });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("read", &path)(error)),
        }
    }
    Ok(Conf::default())
}

impl Conf {
    fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, Error> {
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let prefix = |r: &Registry| r.prefix.clone().or(r.location.clone()).unwrap_or_default();
        let matching = self.registry.iter().filter_map(|r| {
            let prefix = prefix(r);
            let length = matched(&prefix, &name, reference.registry())?;
            Some((prefix.len(), length, r))
        });
        let Some((_, length, registry)) = matching.max_by_key(|(specific, ..)| *specific) else {
            return Ok(vec![endpoint(&name, is_loopback(reference.registry()))]);
        };
        if registry.blocked {
            return Err(Error::Blocked { reference: reference.to_string(), conf: self.path.clone() });
        }
        let at = |location: &str, insecure| endpoint(&format!("{location}{}", &name[length..]), insecure);
        let mirrors = registry.mirror.iter().map(|mirror| at(&mirror.location, mirror.insecure));
        let own = registry.location.as_deref().unwrap_or(&name[..length]);
        let own = at(own, registry.insecure || is_loopback(own.split('/').next().unwrap_or_default()));
        Ok(mirrors.chain([own]).collect())
    }
}

/// How much of `name` the prefix stands for, if it matches.
fn matched(prefix: &str, name: &str, registry: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix("*.") {
        return registry.strip_suffix(domain)?.ends_with('.').then_some(registry.len());
    }
    let rest = name.strip_prefix(prefix)?;
    (!prefix.is_empty() && (rest.is_empty() || rest.starts_with('/'))).then_some(prefix.len())
}

fn endpoint(name: &str, insecure: bool) -> Endpoint {
    let (registry, repository) = name.split_once('/').unwrap_or((name, ""));
    Endpoint { registry: registry.to_owned(), repository: repository.to_owned(), insecure }
}

/// As Docker has it: a port on the machine's own loopback needs no certificate.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map(|(host, _)| host);
    host.is_some_and(|host| host == "localhost" || host == "[::1]" || host.starts_with("127."))
}

/// Credentials from containers' auth.json or Docker's config.json; none configured is anonymous.
pub(crate) fn credentials(registry: &str) -> RegistryAuth {
    let server = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    let auth_file = env::var_os("REGISTRY_AUTH_FILE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("XDG_RUNTIME_DIR")?).join("containers/auth.json")));
    let from_file = auth_file.and_then(|path| File::open(path).ok()).and_then(|file| {
        let names = [registry, server];
        let text = io::read_to_string(BufReader::new(file)).ok()?;
        names
            .iter()
            .find_map(|name| docker_credential::get_credential_from_reader(text.as_bytes(), name).ok())
    });
    match from_file.or_else(|| docker_credential::get_credential(server).ok()) {
        Some(DockerCredential::UsernamePassword(user, password)) => RegistryAuth::Basic(user, password),
        Some(DockerCredential::IdentityToken(token)) => RegistryAuth::Bearer(token),
        None => RegistryAuth::Anonymous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(conf: &str, reference: &str) -> Result<Vec<Endpoint>, Error> {
        toml::from_str::<Conf>(conf).unwrap().endpoints(&reference.parse().unwrap())
    }

    #[test]
    fn mirrors_come_before_the_location_and_the_longest_prefix_wins() {
        let conf = r#"
            [[registry]]
            prefix = "docker.io"
            location = "proxy.example/hub"
            [[registry.mirror]]
            location = "127.0.0.1:5000"
            insecure = true
            [[registry]]
            prefix = "docker.io/evil"
            blocked = true
        "#;
        let found = ask(conf, "busybox").unwrap();
        assert_eq!(found[0], endpoint("127.0.0.1:5000/library/busybox", true));
        assert_eq!(found[1], endpoint("proxy.example/hub/library/busybox", false));
        assert!(matches!(ask(conf, "evil/x"), Err(Error::Blocked { .. })));
    }

    #[test]
    fn only_loopback_with_a_port_is_insecure_unasked() {
        assert!(ask("", "localhost:5000/x").unwrap()[0].insecure);
        assert!(!ask("", "localhost/x").unwrap()[0].insecure);
        assert!(!ask("", "example.com:5000/x").unwrap()[0].insecure);
    }
}
