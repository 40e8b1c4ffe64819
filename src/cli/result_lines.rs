//! The lines that say what became of an object, in kubectl's words.

use super::object_selection::Target;
use crate::{engine::Applied, pod::ObjectKind};

/// Says that an object is deleted, and from where.
pub(super) fn print_deleted(Target { kind, namespace, name }: &Target, how: &str, dry: &str) {
    let place = match kind.is_namespaced() {
        true => format!(" from {namespace} namespace"),
        false => String::new(),
    };
    println!("{} \"{name}\" {how}{place}{dry}", kind.singular());
}

/// Says what became of an object.
pub(super) fn print_applied(kind: ObjectKind, name: &str, applied: Applied) {
    let word = match applied {
        Applied::Created => "created",
        Applied::Configured => "configured",
        Applied::Unchanged => "unchanged",
    };
    println!("{}/{name} {word}", kind.singular());
}
