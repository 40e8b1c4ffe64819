//! Names as types: what becomes part of a path, or of a request, is one of these.
//!
//! Promises: a value of these types holds neither `/` nor NUL, is neither empty nor `.` nor `..`, and is as
//! long as the API server allows at most. They are made at the borders: the command line, manifests, the
//! library, state that is read back from disk.

use std::{fmt, ops::Deref, str::FromStr};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Deserialize, Serialize};

use super::PodExt;

/// Most characters of an RFC 1123 label.
const LONGEST_LABEL: usize = 63;
/// Most characters of an RFC 1123 subdomain.
const LONGEST_SUBDOMAIN: usize = 253;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc')";
/// The rule for the parts of a subdomain, in the API server's words.
pub const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')";

/// Tells whether a text is a lowercase RFC 1123 label of whatever length.
pub fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Checks a lowercase RFC 1123 label of at most 63 characters.
///
/// # Errors
/// What the API server would say of it.
pub fn check_label(text: &str) -> Result<(), String> {
    check_name(text, LONGEST_LABEL, is_label(text), LABEL)
}

/// Checks a lowercase RFC 1123 subdomain, labels with dots between them, of at most 253 characters.
///
/// # Errors
/// What the API server would say of it.
pub fn check_subdomain(text: &str) -> Result<(), String> {
    check_name(text, LONGEST_SUBDOMAIN, text.split('.').all(is_label), SUBDOMAIN)
}

fn check_name(text: &str, longest: usize, well_formed: bool, rule: &str) -> Result<(), String> {
    match text.len() {
        0 => Err("may not be empty".to_owned()),
        length if length > longest => Err(format!("must be no more than {longest} characters")),
        _ if !well_formed => Err(rule.to_owned()),
        _ => Ok(()),
    }
}

/// The text that is no name of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: {reason}")]
pub struct InvalidName {
    /// Holds what it was to name, such as `namespace`.
    pub what: &'static str,
    /// The text.
    pub value: String,
    /// The rule that it breaks, in the API server's words.
    pub reason: String,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a text and makes it a name.
            ///
            /// # Errors
            /// [`InvalidName`] with the rule that it breaks.
            pub fn parse(text: &str) -> Result<$name, InvalidName> {
                match $check(text) {
                    Ok(()) => Ok($name(text.to_owned())),
                    Err(reason) => Err(InvalidName { what: $what, value: text.to_owned(), reason }),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<$name, InvalidName> {
                $name::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<$name, InvalidName> {
                $name::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, text: &str) -> bool {
                self.0 == text
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, text: &&str) -> bool {
                self.0 == *text
            }
        }
    };
}

name_type!(
    /// The namespace: a label.
    Namespace,
    "namespace",
    check_label
);
name_type!(
    /// `metadata.name` of an object of any kind: a subdomain. Kinds may ask for more, as Services do.
    ObjectName,
    "name",
    check_subdomain
);
name_type!(
    /// The container's name: a label.
    ContainerName,
    "container name",
    check_label
);
name_type!(
    /// `metadata.uid`: what podctl gives is a UUID, and nothing else than a label is taken for one.
    Uid,
    "uid",
    check_label
);
name_type!(
    /// The name of a volume in a pod: a label.
    VolumeName,
    "volume name",
    check_label
);

impl Default for Namespace {
    fn default() -> Namespace {
        Namespace("default".to_owned())
    }
}

impl Namespace {
    /// The namespace that is written in an object's metadata, or else the other.
    ///
    /// # Errors
    /// [`InvalidName`].
    pub fn of_object(meta: &ObjectMeta, otherwise: &Namespace) -> Result<Namespace, InvalidName> {
        meta.namespace.as_deref().map_or_else(|| Ok(otherwise.clone()), Namespace::parse)
    }

    /// The namespace of a pod, `default` where none is written.
    ///
    /// # Errors
    /// [`InvalidName`].
    pub fn of_pod(pod: &Pod) -> Result<Namespace, InvalidName> {
        Namespace::parse(pod.namespace())
    }
}

impl ObjectName {
    /// The name that is written in an object's metadata.
    ///
    /// # Errors
    /// [`InvalidName`], also when it has none.
    pub fn of_object(meta: &ObjectMeta) -> Result<ObjectName, InvalidName> {
        ObjectName::parse(meta.name.as_deref().unwrap_or_default())
    }
}

impl Uid {
    /// The uid of a pod that was started.
    ///
    /// # Errors
    /// [`InvalidName`], also when it has none.
    pub fn of_pod(pod: &Pod) -> Result<Uid, InvalidName> {
        Uid::parse(pod.uid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that are no part of a path, whatever the kind.
    const NEVER: [&str; 12] = ["", ".", "..", "../x", "a/b", "/", "a\0b", "A", "a_b", "-a", "a b", "ä"];

    #[test]
    fn no_name_leaves_its_directory() {
        for text in NEVER {
            assert!(Namespace::parse(text).is_err(), "{text:?}");
            assert!(ObjectName::parse(text).is_err(), "{text:?}");
            assert!(ContainerName::parse(text).is_err(), "{text:?}");
            assert!(Uid::parse(text).is_err(), "{text:?}");
            assert!(VolumeName::parse(text).is_err(), "{text:?}");
        }
        assert!(ObjectName::parse("a..b").is_err());
    }

    #[test]
    fn names_are_as_long_as_the_api_server_allows() {
        let (longest, too_long) = ("a".repeat(253), "a".repeat(254));
        assert_eq!(ObjectName::parse(&longest).unwrap(), *longest);
        let wrong = ObjectName::parse(&too_long).unwrap_err();
        assert_eq!(wrong.reason, "must be no more than 253 characters");
        assert!(Namespace::parse(&longest[..63]).is_ok() && Namespace::parse(&longest[..64]).is_err());
    }

    #[test]
    fn a_name_that_is_read_back_is_checked() {
        assert!(serde_json::from_str::<Uid>("\"../../etc\"").is_err());
        assert_eq!(serde_json::from_str::<Uid>("\"0a-1\"").unwrap(), *"0a-1");
    }
}
