//! Flags that say what is in an object: `--overrides`, `--labels`.

use serde_json::{Value, json};

use super::Error;
use crate::engine::{
    self,
    patch::{PatchType, apply_patch},
};

/// Patches an object that a command has made with what `--overrides` says.
///
/// # Errors
/// A patch that is none, or does not fit.
pub(super) fn override_object(object: &Value, patch: &str, type_: &str) -> Result<Value, Error> {
    let type_ = match type_ {
        "json" => PatchType::Json,
        "strategic" => PatchType::Strategic,
        _ => PatchType::Merge,
    };
    let value = crate::manifest::parse_yaml(patch).map_err(|_| Error::bad_value("Invalid JSON Patch"))?;
    Ok(apply_patch(type_, object, value.to_string().as_bytes()).map_err(engine::Error::from)?)
}

/// Reads `a=b,c=d`, as `--labels` and `--selector` have it.
pub(super) fn parse_labels(text: &str) -> Result<Value, Error> {
    let mut all = json!({});
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Error::bad_value(format!("unexpected label spec: {pair}")))?;
        all[key] = value.into();
    }
    Ok(all)
}
