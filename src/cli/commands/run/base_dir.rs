//! `run --base-dir`: host paths that are relative, as compose-like projects in git have them.

use std::path::Path;

use serde_json::Value;

use crate::{
    cli::{Error, Namespace, io, manifest_files::refuse_files},
    manifest::{self, Diagnostic, Manifest, Source},
};

/// Puts a directory in front of the relative hostPaths of manifests. What else is wrong with the files is told with its
/// places before they are touched; files without such paths stay as they are.
///
/// # Errors
/// A directory that is not there; what is wrong with the files.
pub(super) fn resolve_host_paths(
    sources: Vec<Source>,
    base: &Path,
    stored: &Manifest,
    namespace: &Namespace,
) -> Result<Vec<Source>, Error> {
    let base = base.canonicalize().map_err(io(format!("cannot use --base-dir {}", base.display())))?;
    let Err(wrong) = manifest::load_beside(&sources, stored, namespace) else { return Ok(sources) };
    let is_relative =
        |d: &Diagnostic| d.path.ends_with("hostPath.path") && d.message.contains("must be an absolute path");
    let (relative, others): (Vec<_>, Vec<_>) = wrong.into_iter().partition(is_relative);
    if !others.is_empty() {
        return Err(refuse_files(&others, &sources));
    }
    let mut resolved = Vec::new();
    for source in sources {
        if !relative.iter().any(|d| d.file == source.name) {
            resolved.push(source);
            continue;
        }
        let documents = manifest::parse_documents(&source)?;
        // JSON is YAML, and its documents stand apart as those of YAML do.
        let texts = documents.into_iter().map(|mut document| {
            set_host_paths(&mut document, &base);
            format!("---\n{document}\n")
        });
        resolved.push(Source { text: texts.collect(), name: source.name });
    }
    Ok(resolved)
}

fn set_host_paths(value: &mut Value, base: &Path) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(|item| set_host_paths(item, base)),
        Value::Object(fields) => {
            if let Some(Value::String(path)) = fields.get_mut("hostPath").and_then(|own| own.get_mut("path"))
                && !path.is_empty()
                && !path.starts_with('/')
            {
                let below = path.trim_start_matches("./").to_owned();
                *path = base.join(below).display().to_string();
            }
            fields.values_mut().for_each(|inner| set_host_paths(inner, base));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn relative_paths_are_beneath_the_directory() {
        let mut value =
            json!({"spec": {"volumes": [{"hostPath": {"path": "./data"}}, {"hostPath": {"path": "/etc"}}]}});
        set_host_paths(&mut value, Path::new("/base"));
        assert_eq!(
            value,
            json!({"spec": {"volumes": [{"hostPath": {"path": "/base/data"}}, {"hostPath": {"path": "/etc"}}]}})
        );
    }
}
