//! Which hosts to ask for an image: containers' `registries.conf` (version 2) and its drop-ins.
//!
//! A name without a host is docker.io's here, as in Kubernetes; search lists and aliases, which would
//! make one manifest mean different images on different machines, are not consulted.

use std::env;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{Error, Reference};

/// A place that may have the image.
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
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    /// The place where this is written.
    #[serde(skip)]
    path: PathBuf,
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
    #[serde(default)]
    mirror_by_digest_only: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    /// `all`, `digest-only` or `tag-only`.
    pull_from_mirror: Option<String>,
    location: String,
    #[serde(default)]
    insecure: bool,
}

/// Mirrors in order, then the registry itself.
pub(crate) fn endpoints(reference: &Reference) -> Result<Vec<Endpoint>, Error> {
    read()?.endpoints(reference)
}

/// The number of registries the user's configuration names.
///
/// # Errors
/// [`Error::Conf`] with the place in the file, [`Error::Io`].
pub fn count_configured() -> Result<usize, Error> {
    Ok(read()?.registry.len())
}

/// The named file alone, or the user's file or else the machine's, and then the drop-ins of both.
fn read() -> Result<Conf, Error> {
    if let Some(named) = env::var_os("CONTAINERS_REGISTRIES_CONF") {
        return Ok(file(Path::new(&named))?.unwrap_or_default());
    }
    let xdg = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let own = xdg.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".config")));
    let own = own.map(|dir| dir.join("containers"));
    merge_files(own.as_deref(), Path::new("/etc/containers"))
}

fn merge_files(own: Option<&Path>, machine: &Path) -> Result<Conf, Error> {
    let mut conf = match own.map(|dir| file(&dir.join("registries.conf"))).transpose()?.flatten() {
        Some(conf) => conf,
        None => file(&machine.join("registries.conf"))?.unwrap_or_default(),
    };
    for dir in [Some(machine), own].into_iter().flatten() {
        for path in drop_ins(&dir.join("registries.conf.d"))? {
            let later = file(&path)?.unwrap_or_default();
            // A later word about the same prefix replaces the earlier one.
            conf.registry.retain(|old| later.registry.iter().all(|new| new.prefix() != old.prefix()));
            conf.registry.extend(later.registry);
        }
    }
    Ok(conf)
}

fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries.flatten(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", dir)(error)),
    };
    let mut paths: Vec<_> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "conf")).collect();
    paths.sort();
    Ok(paths)
}

fn file(path: &Path) -> Result<Option<Conf>, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let parsed: Result<Conf, _> = toml::from_str(&text);
    let mut conf = parsed.map_err(|e| Error::Conf { path: path.to_owned(), source: Box::new(e) })?;
    conf.registry.iter_mut().for_each(|registry| registry.path = path.to_owned());
    Ok(Some(conf))
}

impl Registry {
    fn prefix(&self) -> &str {
        self.prefix.as_deref().or(self.location.as_deref()).unwrap_or_default()
    }
}

impl Conf {
    fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, Error> {
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let matching = self.registry.iter().filter_map(|r| {
            let prefix = r.prefix();
            let length = match_length(prefix, &name, reference.registry())?;
            Some((prefix.len(), length, r))
        });
        let Some((_, length, registry)) = matching.max_by_key(|(specific, ..)| *specific) else {
            return Ok(vec![parse_endpoint(&name, is_loopback(reference.registry()))]);
        };
        if registry.blocked {
            return Err(Error::Blocked { reference: reference.to_string(), conf: registry.path.clone() });
        }
        let at =
            |location: &str, insecure| parse_endpoint(&format!("{location}{}", &name[length..]), insecure);
        let pinned = reference.digest().is_some();
        let serves = |mirror: &&Mirror| match mirror.pull_from_mirror.as_deref() {
            Some("digest-only") => pinned,
            Some("tag-only") => !pinned,
            _ => pinned || !registry.mirror_by_digest_only,
        };
        let mirrors =
            registry.mirror.iter().filter(serves).map(|mirror| at(&mirror.location, mirror.insecure));
        let own = registry.location.as_deref().unwrap_or(&name[..length]);
        let own = at(own, registry.insecure || is_loopback(own.split('/').next().unwrap_or_default()));
        Ok(mirrors.chain([own]).collect())
    }
}

/// The amount of `name` the prefix stands for, if it matches.
fn match_length(prefix: &str, name: &str, registry: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix("*.") {
        return registry.strip_suffix(domain)?.ends_with('.').then_some(registry.len());
    }
    let rest = name.strip_prefix(prefix)?;
    (!prefix.is_empty() && (rest.is_empty() || rest.starts_with('/'))).then_some(prefix.len())
}

fn parse_endpoint(name: &str, insecure: bool) -> Endpoint {
    let (registry, repository) = name.split_once('/').unwrap_or((name, ""));
    Endpoint { registry: registry.to_owned(), repository: repository.to_owned(), insecure }
}

/// Does as Docker has it: a port on the machine's own loopback needs no certificate. It is told by its
/// address; of names only `localhost` is this machine everywhere, and 127.example.org is anybody's.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let address = registry.parse::<SocketAddr>();
    address.is_ok_and(|address| address.ip().to_canonical().is_loopback())
        || registry.rsplit_once(':').is_some_and(|(host, _)| host == "localhost")
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
        assert_eq!(found[0], parse_endpoint("127.0.0.1:5000/library/busybox", true));
        assert_eq!(found[1], parse_endpoint("proxy.example/hub/library/busybox", false));
        assert!(matches!(ask(conf, "evil/x"), Err(Error::Blocked { .. })));
    }

    #[test]
    fn only_loopback_with_a_port_is_insecure_unasked() {
        assert!(ask("", "localhost:5000/x").unwrap()[0].insecure);
        assert!(!ask("", "localhost/x").unwrap()[0].insecure);
        for other in ["example.com:5000/x", "127.example.org:5000/x", "127.0.0.1.example.org:5000/x"] {
            assert!(!ask("", other).unwrap()[0].insecure, "{other}");
        }
        assert!(ask("", "127.8.0.1:5000/x").unwrap()[0].insecure);
        assert!(is_loopback("[::1]:5000") && !is_loopback("[::2]:5000"));
    }

    #[test]
    fn a_wildcard_stands_for_every_subdomain() {
        let conf = "[[registry]]\nprefix = \"*.example.com\"\nlocation = \"proxy.example:5000/all\"";
        assert_eq!(
            ask(conf, "a.b.example.com/x:1").unwrap()[0],
            parse_endpoint("proxy.example:5000/all/x", false)
        );
        assert_eq!(ask(conf, "example.com/x").unwrap()[0], parse_endpoint("example.com/x", false));
    }

    #[test]
    fn drop_ins_override_the_main_file_by_prefix_and_the_users_come_last() {
        let dir = tempfile::tempdir().unwrap();
        let (own, machine) = (dir.path().join("own"), dir.path().join("machine"));
        let write = |path: PathBuf, prefix: &str, location: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("[[registry]]\nprefix = {prefix:?}\nlocation = {location:?}")).unwrap();
        };
        write(machine.join("registries.conf"), "a.example", "main.example");
        write(machine.join("registries.conf.d/10.conf"), "b.example", "machine.example");
        write(machine.join("registries.conf.d/20.conf"), "a.example", "later.example");
        write(own.join("registries.conf.d/05.conf"), "b.example", "own.example");
        let conf = merge_files(Some(&own), &machine).unwrap();
        let first = |name: &str| conf.endpoints(&name.parse().unwrap()).unwrap()[0].registry.clone();
        assert_eq!((&*first("a.example/x"), &*first("b.example/x")), ("later.example", "own.example"));
    }

    #[test]
    fn mirrors_may_serve_digests_only() {
        let conf = r#"
            [[registry]]
            location = "r.example"
            [[registry.mirror]]
            location = "m.example"
            pull-from-mirror = "digest-only"
        "#;
        assert_eq!(ask(conf, "r.example/x:1").unwrap().len(), 1);
        let pinned = format!("r.example/x@sha256:{:064}", 0);
        assert_eq!(ask(conf, &pinned).unwrap()[0].registry, "m.example");
    }
}
