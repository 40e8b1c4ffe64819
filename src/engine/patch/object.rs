//! A patch of an object that is kept: the same for a server's clients and for the command line.

use serde_json::Value;

use super::{Error as PatchError, apply_json_patch, apply_merge_patch, apply_strategic_patch};
use crate::engine::{
    Engine, Error, ErrorKind, ObjectKind, Preconditions, WriteOptions, fields::message_name,
};

/// The number of times a patch is tried on an object that others change meanwhile.
const TRIES: u32 = 5;

/// Tells how a patch is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902: a list of operations.
    Json,
    /// RFC 7386: what is given takes the place of what there is, `null` takes it away.
    Merge,
    /// The merge patch that knows which lists are merged by which key.
    Strategic,
}

impl PatchType {
    /// The type that a request's `Content-Type` names.
    pub fn of_content_type(word: &str) -> Option<PatchType> {
        match word {
            "application/json-patch+json" => Some(PatchType::Json),
            "application/merge-patch+json" => Some(PatchType::Merge),
            "application/strategic-merge-patch+json" => Some(PatchType::Strategic),
            _ => None,
        }
    }
}

/// Applies a patch to an object, of which `apiVersion` and `kind` say how its lists are merged.
///
/// # Errors
/// [`PatchError`]
pub fn apply_patch(type_: PatchType, object: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    match type_ {
        PatchType::Json => apply_json_patch(object, patch),
        PatchType::Merge => apply_merge_patch(object, patch),
        PatchType::Strategic => {
            apply_strategic_patch(object, patch, &message_name(text("apiVersion"), text("kind")))
        }
    }
}

impl Engine {
    /// Patches an object as it then is, whoever else changes it meanwhile; returns it as it was and as it becomes.
    ///
    /// # Errors
    /// [`Error::Patch`]; those of [`Engine::update_object`].
    pub fn patch_object(
        &self,
        kind: ObjectKind,
        key: (&str, &str),
        patch: (PatchType, &[u8]),
        options: &WriteOptions,
    ) -> Result<(Value, Value), Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let known = self.get_object(kind, key.0, key.1)?;
            let new = apply_patch(patch.0, &known, patch.1)?;
            if new == known {
                return Ok((known.clone(), known));
            }
            check_identity(kind, key.1, &known, &new)?;
            let seen = Preconditions::still(&known);
            match self.update_object(kind, key.0, &new, &seen, options) {
                Err(e) if e.kind() == ErrorKind::Conflict && tries < TRIES => {}
                done => return Ok((known, done?)),
            }
        }
    }
}

/// Refuses a patch that makes another object of one: another name or kind, or a version that it no longer has.
fn check_identity(kind: ObjectKind, name: &str, known: &Value, new: &Value) -> Result<(), Error> {
    let refuse = |why: String| Err(PatchError::Unlike(why).into());
    if let Some(given) = new["kind"].as_str().filter(|given| *given != kind.name()) {
        return refuse(format!(
            "the kind in the data ({given}) does not match the expected kind ({})",
            kind.name()
        ));
    }
    let (before, after) = (&known["metadata"], &new["metadata"]);
    if let Some(given) = after["name"].as_str().filter(|given| !given.is_empty() && *given != name) {
        return refuse(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        ));
    }
    let is_other =
        |field: &str| after[field].as_str().is_some_and(|given| !given.is_empty() && before[field] != given);
    match is_other("resourceVersion") || is_other("uid") {
        true => Err(Error::Conflict {
            kind,
            name: name.to_owned(),
            why:
                "the object has been modified; please apply your changes to the latest version and try again"
                    .into(),
        }),
        false => Ok(()),
    }
}
