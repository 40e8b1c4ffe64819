//! Who may talk to the server: a certificate authority and a token of the user's own, in files for nobody else's eyes.
//!
//! The server's certificate is made anew at each start, for the addresses that it then has; its key is never written.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    version::{TLS12, TLS13},
};

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;

/// The reason why credentials cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Means that a file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// Holds what was tried.
        action: &'static str,
        /// The file it happened on.
        path: PathBuf,
        /// The reason why not.
        source: io::Error,
    },
    /// Means that a file does not hold what was written to it.
    #[error("{} is damaged ({why}); remove its directory and run `podctl kubeconfig --merge` again", path.display())]
    Damaged {
        /// Tells which file.
        path: PathBuf,
        /// Holds what is wrong with it.
        why: String,
    },
    /// Means that a certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
}

/// Holds what the user's server and clients share.
pub struct Credentials {
    /// The authority's certificate, PEM.
    pub authority: String,
    /// Sent with every request.
    pub token: String,
    authority_key: KeyPair,
}

impl Credentials {
    /// Reads them from a directory; makes what is missing.
    ///
    /// # Errors
    /// [`Error`]
    pub fn open(dir: &Path) -> Result<Credentials, Error> {
        make_private_dir(dir)?;
        let (key_file, cert_file) = (dir.join("ca.key"), dir.join("ca.crt"));
        let key_text = read_or_make(&key_file, || {
            let key = KeyPair::generate().map_err(|e| Error::Certificate(e.to_string()))?;
            Ok(key.serialize_pem())
        })?;
        let damaged = |path: &Path| {
            let path = path.to_owned();
            move |e: rcgen::Error| Error::Damaged { path, why: e.to_string() }
        };
        let authority_key = KeyPair::from_pem(&key_text).map_err(damaged(&key_file))?;
        let authority = read_or_make(&cert_file, || {
            let certificate = authority_params().self_signed(&authority_key);
            Ok(certificate.map_err(|e| Error::Certificate(e.to_string()))?.pem())
        })?;
        let token = read_or_make(&dir.join("token"), || random_text(TOKEN_BYTES))?;
        Ok(Credentials { authority, token: token.trim().to_owned(), authority_key })
    }

    /// Returns what TLS needs: a certificate for these addresses beside the loopback.
    ///
    /// # Errors
    /// [`Error::Certificate`]
    pub fn server_config(&self, addresses: &[IpAddr]) -> Result<Arc<ServerConfig>, Error> {
        let wrong = |e: &dyn std::fmt::Display| Error::Certificate(e.to_string());
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
        names.extend(
            addresses.iter().map(ToString::to_string).filter(|a| !names.contains(a)).collect::<Vec<_>>(),
        );
        let mut params = CertificateParams::new(names).map_err(|e| wrong(&e))?;
        params.distinguished_name = named("podctl");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(|e| wrong(&e))?;
        let issuer = Issuer::new(authority_params(), &self.authority_key);
        let certificate = params.signed_by(&key, &issuer).map_err(|e| wrong(&e))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|e| wrong(&e))?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(|e| wrong(&e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Tells whether an Authorization header holds the token; how long that takes says nothing about it.
    pub fn accept_header(&self, header: Option<&[u8]>) -> bool {
        let given = header.and_then(|h| h.strip_prefix(b"Bearer ").or_else(|| h.strip_prefix(b"bearer ")));
        given.is_some_and(|given| is_equal(given, self.token.as_bytes()))
    }
}

/// Compares in a time that depends on the lengths alone.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b))) == 0
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("podctl-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

fn random_text(length: usize) -> Result<String, Error> {
    let mut bytes = vec![0; length];
    let path = Path::new("/dev/urandom");
    let failed = |source| Error::Io { action: "read", path: path.to_owned(), source };
    File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).map_err(failed)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Makes the directory that credentials lie in, for the user alone.
fn make_private_dir(dir: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { action: "make directory", path: dir.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)
}

/// The text of a file; who comes first makes it, and all others read what that one made.
pub(super) fn read_or_make(
    path: &Path,
    make: impl FnOnce() -> Result<String, Error>,
) -> Result<String, Error> {
    let io = |action, source| Error::Io { action, path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        text => return text.map_err(|e| io("read", e)),
    }
    let beside = path.with_extension(format!("new{}", std::process::id()));
    let mut options = File::options();
    options.create(true).truncate(true).write(true).mode(0o600);
    let text = make()?;
    let written =
        options.open(&beside).and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()));
    written.map_err(|e| io("write", e))?;
    // A link does not replace what another process has put there meanwhile.
    let linked = fs::hard_link(&beside, path);
    let removed = fs::remove_file(&beside);
    match linked {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(io("write", e)),
        _ => {
            removed.map_err(|e| io("write", e))?;
            fs::read_to_string(path).map_err(|e| io("read", e))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn credentials_are_made_once_and_for_the_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = Credentials::open(&dir.path().join("server")).unwrap();
        let again = Credentials::open(&dir.path().join("server")).unwrap();
        assert_eq!((&first.token, &first.authority), (&again.token, &again.authority));
        for name in ["ca.key", "ca.crt", "token"] {
            let mode = fs::metadata(dir.path().join("server").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        again.server_config(&["192.0.2.1".parse().unwrap()]).unwrap();
    }

    #[test]
    fn only_the_token_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = Credentials::open(dir.path()).unwrap();
        let header = format!("Bearer {}", credentials.token);
        assert!(credentials.accept_header(Some(header.as_bytes())));
        for wrong in [None, Some(&b"Bearer "[..]), Some(&header.as_bytes()[..20]), Some(b"Basic x")] {
            assert!(!credentials.accept_header(wrong));
        }
    }

    #[test]
    fn damaged_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.key"), "nonsense").unwrap();
        assert!(matches!(Credentials::open(dir.path()), Err(Error::Damaged { .. })));
    }
}
