//! Makes the files that `src/engine` keeps and `src/server` serves and reads, out of the crates that know the Kubernetes API.
//!
//! - `src/engine/openapi/*.json.gz`: one OpenAPI v3 document a group version, from k8s-openapi;
//! - `src/engine/fields.txt`: the fields of every type in them, with the numbers that protobuf has for them and how
//!   their lists are merged, from the sources of k8s-pb.
//!
//! Run it in this directory after a change of `src/server/kinds.rs` or of a version: `cargo run`. With `--check` it
//! writes nothing and fails when a file would change.

#[path = "../../../src/server/kinds.rs"]
mod kinds;
mod openapi;
mod protobuf;

use std::{collections::BTreeSet, fs, path::Path, process::exit};

fn main() {
    let check = std::env::args().any(|word| word == "--check");
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/engine");
    let messages = protobuf::read_messages();
    let schemas = openapi::all_schemas();
    let fields = protobuf::field_table(&messages, &schemas);
    let mut files = vec![(engine.join("fields.txt"), fields.clone().into_bytes())];
    let lists = protobuf::merge_keys(&fields);
    for (group, version) in kinds::group_versions().into_iter().collect::<BTreeSet<_>>() {
        if let Some(document) = openapi::document(group, version, &schemas, &lists) {
            let name = if group.is_empty() { "core" } else { group };
            files.push((engine.join(format!("openapi/{name}.{version}.json.gz")), openapi::compress(&document)));
        }
    }
    for (path, bytes) in files {
        if check && fs::read(&path).ok().as_deref() != Some(&bytes[..]) {
            eprintln!("{} is not what this program makes; run it without --check", path.display());
            exit(1);
        }
        if !check {
            fs::create_dir_all(path.parent().expect("a directory")).expect("the directory can be made");
            fs::write(&path, &bytes).expect("the file can be written");
            println!("{}: {} bytes", path.display(), bytes.len());
        }
    }
}
