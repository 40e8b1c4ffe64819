//! What can go wrong with an image, each with the reference or path it happened to.

use std::io;
use std::path::{Path, PathBuf};

use oci_client::errors::OciDistributionError;

use crate::UnpackError;

/// Why an image could not be found, fetched, stored or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no image reference.
    #[error("invalid image reference {text:?}: {reason}")]
    Reference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The store has no such image.
    #[error("image {reference} is not in the store")]
    NotFound {
        /// The image asked for.
        reference: String,
    },
    /// Images of several ids begin like that.
    #[error("{text}: several images begin like that; give more of the id")]
    Ambiguous {
        /// What was given.
        text: String,
    },
    /// An id that is to be removed has several names.
    #[error("{text} has several names ({names}); remove them by name, or all of them with --force")]
    SeveralNames {
        /// What was given.
        text: String,
        /// The references.
        names: String,
    },
    /// Some process holds a lease on the image.
    #[error("image {reference} is in use; what runs from it must end first")]
    InUse {
        /// The image to be removed.
        reference: String,
    },
    /// The registry refused, or could not be reached.
    #[error("{reference}: {}", words(.source))]
    Registry {
        /// The image asked for.
        reference: String,
        /// The registry's answer.
        source: OciDistributionError,
    },
    /// Neither the registry nor its mirrors had it.
    #[error("{source} (also tried: {others})")]
    Everywhere {
        /// What says most.
        source: Box<Error>,
        /// What the others said.
        others: String,
    },
    /// There is nothing on this machine to know a registry by.
    #[error(
        "{reference}: this machine has no CA certificates, and registries are reached with none but those; \
         install the package ca-certificates, or let SSL_CERT_FILE name a file of certificates"
    )]
    NoCertificates {
        /// The image asked for.
        reference: String,
    },
    /// A client's own certificate is configured, and cannot be shown.
    #[error("{}: client certificates are not supported; take the file away where the registry does without", .path.display())]
    ClientCertificate {
        /// The certificate.
        path: PathBuf,
    },
    /// registries.conf forbids this registry.
    #[error("{reference}: registry is blocked by {}", .conf.display())]
    Blocked {
        /// The image asked for.
        reference: String,
        /// The file that says so.
        conf: PathBuf,
    },
    /// registries.conf cannot be understood.
    #[error("{}: {source}", .path.display())]
    Conf {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        source: Box<toml::de::Error>,
    },
    /// No image for this machine.
    #[error("{reference}: no image for {wanted}; there is {offered}")]
    Platform {
        /// The image asked for.
        reference: String,
        /// This machine's os/architecture.
        wanted: String,
        /// What there is instead.
        offered: String,
    },
    /// The text is no platform.
    #[error(
        "invalid platform {text:?}: expected os/architecture or os/architecture/variant, as in linux/arm64"
    )]
    PlatformName {
        /// What was given.
        text: String,
    },
    /// Manifest or configuration is malformed.
    #[error("{reference}: invalid {what}: {reason}")]
    Invalid {
        /// The image.
        reference: String,
        /// Which document.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Content is not what its digest says.
    #[error("{reference}: {what}: content is {actual}, not {expected}")]
    Digest {
        /// The image.
        reference: String,
        /// Which content.
        what: &'static str,
        /// Digest promised.
        expected: String,
        /// Digest found.
        actual: String,
    },
    /// Content is shorter or longer than its descriptor says.
    #[error("{reference}: {digest}: expected {expected} bytes, got {actual}")]
    Size {
        /// The image.
        reference: String,
        /// The blob.
        digest: String,
        /// Bytes promised.
        expected: u64,
        /// Bytes found (one too many if the content goes on).
        actual: u64,
    },
    /// A layer could not be unpacked.
    #[error("{reference}: layer {digest}: {source}")]
    Unpack {
        /// The image.
        reference: String,
        /// The layer.
        digest: String,
        /// Which entry, and why.
        source: UnpackError,
    },
    /// The archive to load is not an image archive.
    #[error("{}: {reason}", .path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// Whether trying again without changing anything is futile.
    pub fn is_permanent(&self) -> bool {
        use OciDistributionError as Oci;
        match self {
            Self::Registry { source, .. } => match source {
                Oci::RequestError(_) | Oci::IoError(_) => false,
                Oci::ServerError { code, .. } => *code < 500 && !matches!(code, 408 | 429),
                Oci::RegistryError { envelope, .. } => {
                    use oci_client::errors::OciErrorCode::Toomanyrequests;
                    !envelope.errors.iter().any(|e| matches!(e.code, Toomanyrequests))
                }
                _ => true,
            },
            Self::InUse { .. } | Self::Size { .. } | Self::Digest { .. } | Self::Io { .. } => false,
            Self::Unpack { source, .. } => source.is_permanent(),
            Self::Everywhere { source, .. } => source.is_permanent(),
            _ => true,
        }
    }

    /// Whether nobody answered, or not in the protocol spoken (400 is what HTTPS says to HTTP).
    pub(crate) fn is_unreachable(&self) -> bool {
        use OciDistributionError::{RequestError, ServerError};
        matches!(self, Self::Registry { source: RequestError(_) | ServerError { code: 400, .. }, .. })
    }

    /// What was said, without the reference.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Registry { source, .. } => words(source),
            other => other.to_string(),
        }
    }

    /// Whether the registry wants someone else.
    pub(crate) fn is_unauthorized(&self) -> bool {
        use OciDistributionError as Oci;
        use oci_client::errors::OciErrorCode::{Denied, Unauthorized};
        let Self::Registry { source, .. } = self else { return false };
        match source {
            Oci::UnauthorizedError { .. } | Oci::AuthenticationFailure(_) => true,
            Oci::ServerError { code, .. } => matches!(code, 401 | 403),
            Oci::RegistryError { envelope, .. } => {
                envelope.errors.iter().any(|e| matches!(e.code, Denied | Unauthorized))
            }
            _ => false,
        }
    }

    /// Whether the same request may well succeed in a moment: the registry is busy or a transfer broke off.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            // Nobody listening, or an unknown certificate, is a matter for the next endpoint.
            Self::Registry { source: OciDistributionError::RequestError(error), .. } => !error.is_connect(),
            Self::Registry { .. } => !self.is_permanent(),
            Self::Size { expected, actual, .. } => actual < expected,
            _ => false,
        }
    }

    /// Whether the registry itself asks for patience.
    pub(crate) fn is_busy(&self) -> bool {
        use OciDistributionError as Oci;
        use oci_client::errors::OciErrorCode::Toomanyrequests;
        match self {
            Self::Registry { source: Oci::ServerError { code, .. }, .. } => *code == 429 || *code >= 500,
            Self::Registry { source: Oci::RegistryError { envelope, .. }, .. } => {
                envelope.errors.iter().any(|e| matches!(e.code, Toomanyrequests))
            }
            _ => false,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// The registry's own words, without the wrapping a library adds.
fn words(error: &OciDistributionError) -> String {
    use OciDistributionError as Oci;
    match error {
        Oci::RegistryError { envelope, .. } => {
            let said = envelope.errors.iter().map(|e| match e.message.as_str() {
                "" => format!("{:?}", e.code).to_lowercase(),
                message => message.to_owned(),
            });
            said.collect::<Vec<_>>().join("; ")
        }
        Oci::ImageManifestNotFoundError(_) => "manifest unknown".to_owned(),
        Oci::UnauthorizedError { url } => {
            format!(
                "unauthorized: {url} wants other credentials (an imagePullSecret, or `podman login` or `docker login`)"
            )
        }
        Oci::ServerError { code, message, .. } if message.trim().is_empty() => {
            let reason = http_reason(*code);
            format!("the registry answered {code} {reason}")
        }
        Oci::ServerError { code: 429, message, .. } => format!("429 too many requests: {message}"),
        Oci::RequestError(error) => {
            // reqwest's own text stops at "error sending request"; the cause is at the end of the chain.
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            text
        }
        other => other.to_string(),
    }
}

fn http_reason(code: u16) -> &'static str {
    match code {
        403 => "forbidden",
        404 => "not found",
        429 => "too many requests",
        500 => "internal server error",
        502 => "bad gateway",
        503 => "service unavailable",
        504 => "gateway timeout",
        _ => "",
    }
}
