//! Which objects files name, and nothing more: enough to find what was made of them, also when the files
//! would not be accepted any more.

use serde_json::Value;

use super::{
    Diagnostic, Report, Source,
    document_tree::{self, Kind, Node},
    typed::join,
};
use crate::pod::{Namespace, ObjectName};

/// The object by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Holds a text such as `Pod`.
    pub kind: String,
    /// Gives it as it is written, or else the one that was asked for.
    pub namespace: Namespace,
    /// `metadata.name`
    pub name: ObjectName,
}

/// The objects of files, in file order, those of a List among them. One without a kind or a name is
/// passed over: there is nothing of it to be found.
///
/// # Errors
/// The first file that is no YAML, and the first name that is none.
pub fn names(sources: &[Source], namespace: &Namespace) -> Result<Vec<Named>, Diagnostic> {
    let mut all = Vec::new();
    for source in sources {
        let documents = document_tree::parse(source).map_err(|diagnostic| *diagnostic)?;
        for document in documents {
            let mut report = Report { file: &source.name, root: &document, found: Vec::new() };
            add(&document, "", namespace, &mut all, &mut report);
            if let Some(wrong) = report.found.into_iter().next() {
                return Err(wrong);
            }
        }
    }
    Ok(all)
}

fn add(node: &Node, path: &str, namespace: &Namespace, all: &mut Vec<Named>, report: &mut Report<'_>) {
    add_as(node, "", path, namespace, all, report);
}

/// Adds an object; `of` is its kind when it does not say so itself.
fn add_as(
    node: &Node,
    of: &str,
    path: &str,
    namespace: &Namespace,
    all: &mut Vec<Named>,
    report: &mut Report<'_>,
) {
    let text = |node: Option<&Node>| match node.map(|n| &n.kind) {
        Some(Kind::Scalar(Value::String(text))) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let own = text(node.get("kind")).or_else(|| (!of.is_empty()).then(|| of.to_owned()));
    let Some(kind) = own else { return };
    if let Some(Kind::List(items)) = node.get("items").map(|n| &n.kind).filter(|_| kind.ends_with("List")) {
        let of = kind.trim_end_matches("List");
        for (at, item) in items.iter().enumerate() {
            add_as(item, of, &join(path, &format!("items[{at}]")), namespace, all, report);
        }
        return;
    }
    let meta = node.get("metadata");
    let Some(name) = text(meta.and_then(|m| m.get("name"))) else { return };
    let own = text(meta.and_then(|m| m.get("namespace"))).filter(|own| own != "default");
    let own = own.map_or_else(|| Ok(namespace.clone()), |own| Namespace::parse(&own));
    match (own, ObjectName::parse(&name)) {
        (Ok(namespace), Ok(name)) => all.push(Named { kind, namespace, name }),
        (Err(wrong), _) => report.add_error(&join(path, "metadata.namespace"), wrong.to_string()),
        (_, Err(wrong)) => report.add_error(&join(path, "metadata.name"), wrong.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_in_files_that_would_be_refused() {
        let text = "kind: Pod\nmetadata: {name: a}\nspec: {nonsense: 1}\n---\nkind: List\nitems:\n- {kind: Job, metadata: {name: b, namespace: ns}}\n- {kind: Job}\n---\n[1]\n";
        let found =
            names(&[Source { name: "f".into(), text: text.into() }], &Namespace::parse("own").unwrap())
                .unwrap();
        let words: Vec<_> = found.iter().map(|o| format!("{} {}/{}", o.kind, o.namespace, o.name)).collect();
        assert_eq!(words, ["Pod own/a", "Job ns/b"]);
    }
}
