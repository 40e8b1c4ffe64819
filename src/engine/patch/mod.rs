//! Patches of the three kinds that clients send.
//!
//! Promises: the object is changed wholly or an error is given; what a patch makes is no larger than a body may be.

mod object;
mod strategic;
mod three_way;

pub use object::{PatchType, apply_patch};
pub use strategic::merge_strategically;
pub use three_way::merge_three_ways;

use serde_json::Value;

/// Number of operations that one JSON patch may have, as the API server bounds it.
const MOST_OPERATIONS: usize = 10_000;

/// Bytes that an object may have after a patch that copies.
const LARGEST: usize = 3 << 20;

/// The reason why a patch cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Means that it is not what its type says.
    #[error("the patch is not of its type: {0}")]
    Malformed(String),
    /// Means that it does not fit the object.
    #[error("the patch does not fit the object: {0}")]
    Unfitting(String),
    /// Means that it would make another object of the one it is for.
    #[error("{0}")]
    Unlike(String),
}

/// Applies the operations of an RFC 6902 patch, all or none.
///
/// # Errors
/// [`Error`]
pub fn apply_json_patch(object: &Value, patch: &[u8]) -> Result<Value, Error> {
    let malformed = |e: serde_json::Error| Error::Malformed(e.to_string());
    let operations: Vec<json_patch::PatchOperation> = serde_json::from_slice(patch).map_err(malformed)?;
    if operations.len() > MOST_OPERATIONS {
        let count = operations.len();
        return Err(Error::Unfitting(format!("it has {count} operations; {MOST_OPERATIONS} are allowed")));
    }
    let mut patched = object.clone();
    for operation in &operations {
        json_patch::patch(&mut patched, std::slice::from_ref(operation))
            .map_err(|e| Error::Unfitting(e.to_string()))?;
        // A few copies of copies could fill all memory.
        if matches!(operation, json_patch::PatchOperation::Copy(_)) && patched.to_string().len() > LARGEST {
            return Err(Error::Unfitting(format!("the object becomes larger than {LARGEST} bytes")));
        }
    }
    Ok(patched)
}

/// Applies an RFC 7386 merge patch.
///
/// # Errors
/// [`Error::Malformed`]
pub fn apply_merge_patch(object: &Value, patch: &[u8]) -> Result<Value, Error> {
    let mut patched = object.clone();
    json_patch::merge(&mut patched, &parse_object(patch)?);
    Ok(patched)
}

/// Applies a strategic merge patch to an object of that type.
///
/// # Errors
/// [`Error`]
pub fn apply_strategic_patch(object: &Value, patch: &[u8], message: &str) -> Result<Value, Error> {
    let mut patched = object.clone();
    merge_strategically(&mut patched, &parse_object(patch)?, message)?;
    Ok(patched)
}

fn parse_object(patch: &[u8]) -> Result<Value, Error> {
    match serde_json::from_slice(patch) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Error::Malformed("it is no object".into())),
        Err(e) => Err(Error::Malformed(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_patches_are_applied_wholly_or_not_at_all() {
        let object = json!({"metadata": {"labels": {"a": "b"}}});
        let patched = apply_json_patch(
            &object,
            br#"[{"op": "test", "path": "/metadata/labels/a", "value": "b"}, {"op": "add", "path": "/metadata/labels/c", "value": "d"}]"#,
        );
        assert_eq!(patched.unwrap(), json!({"metadata": {"labels": {"a": "b", "c": "d"}}}));
        let wrong = br#"[{"op": "remove", "path": "/nothing"}]"#;
        assert!(matches!(apply_json_patch(&object, wrong), Err(Error::Unfitting(_))));
        assert!(matches!(apply_json_patch(&object, b"{}"), Err(Error::Malformed(_))));
    }

    #[test]
    fn copies_of_copies_do_not_fill_the_memory() {
        let object = json!({"a": "x".repeat(1024), "list": []});
        let mut operations = vec![json!({"op": "copy", "from": "/a", "path": "/list/-"})];
        operations
            .extend((0..40).map(|at| json!({"op": "copy", "from": "/list", "path": format!("/list/{at}")})));
        let patch = serde_json::to_vec(&operations).unwrap();
        assert!(matches!(apply_json_patch(&object, &patch), Err(Error::Unfitting(_))));
    }

    #[test]
    fn merge_patches_remove_what_is_null() {
        let object = json!({"metadata": {"labels": {"a": "b", "c": "d"}}});
        let patched = apply_merge_patch(&object, br#"{"metadata": {"labels": {"a": null, "e": "f"}}}"#);
        assert_eq!(patched.unwrap(), json!({"metadata": {"labels": {"c": "d", "e": "f"}}}));
        assert!(matches!(apply_merge_patch(&object, b"[]"), Err(Error::Malformed(_))));
    }
}
