//! OpenAPI v3 documents: kept compressed in the program, as `scripts/api-tables` made them. PURE.

use std::{io::Read, sync::OnceLock};

use serde_json::{Map, Value, json};

/// Type of a document of the older form.
pub const V2_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The document of the older form that describes nothing, as protobuf: `swagger: "2.0"`. kubectl asks it about kinds
/// that no newer one describes, and then says that there is no such kind.
pub const V2_DOCUMENT: &[u8] = b"\x0a\x032.0";

/// Path below `/openapi/v3/`, and the document, compressed.
type Document = (&'static str, &'static [u8]);

fn documents() -> [Document; 7] {
    [
        ("api/v1", include_bytes!("openapi/core.v1.json.gz")),
        ("apis/discovery.k8s.io/v1", include_bytes!("openapi/discovery.k8s.io.v1.json.gz")),
        ("apis/events.k8s.io/v1", include_bytes!("openapi/events.k8s.io.v1.json.gz")),
        ("apis/batch/v1", include_bytes!("openapi/batch.v1.json.gz")),
        ("apis/coordination.k8s.io/v1", include_bytes!("openapi/coordination.k8s.io.v1.json.gz")),
        ("apis/authorization.k8s.io/v1", include_bytes!("openapi/authorization.k8s.io.v1.json.gz")),
        ("apis/authentication.k8s.io/v1", include_bytes!("openapi/authentication.k8s.io.v1.json.gz")),
    ]
}

/// `/openapi/v3`: where each document is, with a hash for the client's cache.
pub fn document_index() -> Value {
    static INDEX: OnceLock<Value> = OnceLock::new();
    let index = || {
        let paths = documents().into_iter().map(|(path, bytes)| {
            let url = format!("/openapi/v3/{path}?hash={}", hash_bytes(bytes));
            (path.to_owned(), json!({"serverRelativeURL": url}))
        });
        json!({"paths": paths.collect::<Map<_, _>>()})
    };
    INDEX.get_or_init(index).clone()
}

/// Returns a document, as it is in the program: gzip.
pub fn compressed_document(path: &str) -> Option<&'static [u8]> {
    documents().into_iter().find(|(known, _)| *known == path).map(|(_, bytes)| bytes)
}

/// Returns a document for a client that does not take gzip.
pub fn plain_document(path: &str) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(compressed_document(path)?).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Returns the hash by which an address names a document.
pub fn document_hash(path: &str) -> Option<String> {
    compressed_document(path).map(hash_bytes)
}

/// FNV-1a: it tells one build's document from another's, and nothing more.
pub fn hash_bytes(bytes: &[u8]) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016X}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::kinds::{all_kinds, find_kind};

    #[test]
    fn every_kind_that_can_be_written_is_described_with_its_validation() {
        for kind in all_kinds().iter().filter(|k| k.allows_verb("create")) {
            let path = match kind.group {
                "" => format!("api/{}", kind.version),
                group => format!("apis/{group}/{}", kind.version),
            };
            let document: Value = serde_json::from_slice(&plain_document(&path).unwrap()).unwrap();
            let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
            let post = &document["paths"][format!("/{path}{scope}/{}", kind.plural)]["post"];
            let parameters = post["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|p| p["name"] == "fieldValidation"), "{kind:?}");
            assert_eq!(post["x-kubernetes-group-version-kind"]["kind"], kind.kind);
        }
    }

    #[test]
    fn schemas_say_how_their_lists_are_merged() {
        let document: Value = serde_json::from_slice(&plain_document("api/v1").unwrap()).unwrap();
        let containers =
            &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert!(find_kind("", "v1", "pods").is_some() && plain_document("api/v2").is_none());
        let index = document_index();
        let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
        assert!(url.starts_with("/openapi/v3/api/v1?hash="));
    }
}
