//! TLS: which cryptography it uses, who vouches for a registry, and what this client shows to it: containers' `certs.d`
//! directories, beside the machine's own certificates.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, Identity};

use crate::Error;

/// Chooses ring as the process's cryptography for TLS, unless the program has chosen another. The alternative,
/// aws-lc, takes a minute of C to compile.
pub fn choose_tls_provider() {
    // An embedding program that was first keeps its choice.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Tells whether this machine knows any authority. Reading them all takes 5 ms, so the usual bundle is
/// only looked at from outside.
pub(crate) fn machine_has_some() -> bool {
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| env::var_os(name).is_some());
    let bundle = fs::metadata("/etc/ssl/certs/ca-certificates.crt").is_ok_and(|file| file.len() > 0);
    !named && bundle || !rustls_native_certs::load_native_certs().certs.is_empty()
}

/// What a registry's directory in `certs.d` holds.
#[derive(Default)]
pub(crate) struct RegistryCertificates {
    /// Those who vouch for it: `*.crt`.
    pub(crate) authorities: Vec<Certificate>,
    /// The certificate that this client shows to it, with its key: `NAME.cert` and `NAME.key`.
    pub(crate) identity: Option<Identity>,
}

/// Reads the first directory that there is for this registry.
///
/// # Errors
/// [`Error::Io`]; [`Error::Certificate`] with the file that is no certificate or lacks its key.
pub(crate) fn read_registry_certificates(registry: &str) -> Result<RegistryCertificates, Error> {
    let own = env::var_os("HOME").map(|home| PathBuf::from(home).join(".config/containers/certs.d"));
    let shared = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    let mut places = own.into_iter().chain(shared).map(|dir| dir.join(registry));
    places.find(|dir| dir.is_dir()).map_or(Ok(RegistryCertificates::default()), |dir| read(&dir))
}

fn read(dir: &Path) -> Result<RegistryCertificates, Error> {
    let mut found = RegistryCertificates::default();
    let entries = fs::read_dir(dir).map_err(Error::io("list", dir))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(Error::io("list", dir))?;
    paths.sort();
    for path in paths {
        let wrong = |reason: String| Error::Certificate { path: path.clone(), reason };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => {
                let text = fs::read(&path).map_err(Error::io("read", &path))?;
                let all = Certificate::from_pem_bundle(&text).map_err(|error| wrong(error.to_string()))?;
                found.authorities.extend(all);
            }
            Some("cert") if found.identity.is_some() => {
                return Err(wrong("a second client certificate; only one can be shown".to_owned()));
            }
            Some("cert") => found.identity = Some(read_identity(&path)?),
            Some("key") if !path.with_extension("cert").exists() => {
                return Err(wrong("its certificate, of the same name and .cert, is missing".to_owned()));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Reads a client's certificate and, from the file beside it, its key.
fn read_identity(path: &Path) -> Result<Identity, Error> {
    let wrong = |reason: String| Error::Certificate { path: path.to_owned(), reason };
    let key = path.with_extension("key");
    if !key.exists() {
        return Err(wrong("its key, of the same name and .key, is missing".to_owned()));
    }
    let mut text = fs::read(path).map_err(Error::io("read", path))?;
    text.push(b'\n');
    text.extend(fs::read(&key).map_err(Error::io("read", &key))?);
    let unfit = |error: reqwest::Error| {
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        wrong(format!("with its key: {cause}"))
    };
    let identity = Identity::from_pem(&text).map_err(unfit)?;
    // Only a client that is made with it tells whether the two fit, and does not say of which file it speaks.
    reqwest::Client::builder().identity(identity.clone()).build().map_err(unfit)?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_authority_of_a_bundle_counts_and_a_client_needs_certificate_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let one = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_owned();
        fs::write(dir.path().join("ca.crt"), one.repeat(2)).unwrap();
        let found = read(dir.path()).unwrap();
        assert!(found.authorities.len() == 2 && found.identity.is_none());
        fs::write(dir.path().join("client.cert"), one).unwrap();
        let reason = || match read(dir.path()) {
            Err(Error::Certificate { path, reason }) => format!("{}: {reason}", path.display()),
            _ => panic!("it was taken"),
        };
        assert!(reason().ends_with("client.cert: its key, of the same name and .key, is missing"));
        fs::write(dir.path().join("client.key"), "no key").unwrap();
        assert!(reason().contains("client.cert: with its key: "));
        fs::remove_file(dir.path().join("client.cert")).unwrap();
        assert!(reason().ends_with("client.key: its certificate, of the same name and .cert, is missing"));
    }
}
