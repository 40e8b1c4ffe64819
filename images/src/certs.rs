//! TLS: which cryptography it uses, and who vouches for a registry: containers' `certs.d` directories, beside
//! the machine's own certificates.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Certificate;

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

/// The CA certificates (`*.crt`) of the first directory that has some for this registry.
pub(crate) fn registry_authorities(registry: &str) -> Result<Vec<Certificate>, Error> {
    let own = env::var_os("HOME").map(|home| PathBuf::from(home).join(".config/containers/certs.d"));
    let shared = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    let mut places = own.into_iter().chain(shared).map(|dir| dir.join(registry));
    places.find(|dir| dir.is_dir()).map_or(Ok(Vec::new()), |dir| read(&dir))
}

fn read(dir: &Path) -> Result<Vec<Certificate>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => {
                let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
                let all = Certificate::from_pem_bundle(text.as_bytes());
                found.extend(
                    all.map_err(|e| Error::Certificate { path: path.clone(), reason: e.to_string() })?,
                );
            }
            Some("cert") => return Err(Error::ClientCertificate { path }),
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_of_a_bundle_counts_and_a_clients_own_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let one = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_owned();
        fs::write(dir.path().join("ca.crt"), one.repeat(2)).unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), 2);
        fs::write(dir.path().join("client.cert"), one).unwrap();
        assert!(matches!(read(dir.path()), Err(Error::ClientCertificate { .. })));
    }
}
