//! Which fields the Kubernetes types have: a table, so that no start has to ask the types, and no program has the code for it.

#[cfg(test)]
mod walk;

use std::collections::BTreeMap;

/// The field, and the type it holds when that is a struct.
pub type Field = (&'static str, Option<&'static str>);

/// A type a line: its name, then its fields, `NAME` or `NAME:TYPE`. A text, for a table of many strings would have to be relocated at
/// each start.
const TABLE: &str = include_str!("schema/types.txt");

/// Returns the fields of Pod and of each type beneath its spec and a Service's, by the type's name.
pub fn of_specs() -> BTreeMap<&'static str, Vec<Field>> {
    let field = |word: &'static str| word.split_once(':').map_or((word, None), |(name, of)| (name, Some(of)));
    TABLE
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.map(field).collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    #[test]
    fn the_table_has_what_the_types_say() {
        let line = |(name, fields): (&&str, &Vec<super::Field>)| {
            let words =
                fields.iter().map(|(field, of)| of.map_or((*field).into(), |of| format!("{field}:{of}")));
            [vec![(*name).to_owned()], words.collect()].concat().join(" ") + "\n"
        };
        let asked: String = super::walk::ask_types().iter().map(line).collect();
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/manifest/schema/types.txt"), &asked).unwrap();
        } else if cfg!(feature = "v1_37") {
            assert_eq!(super::TABLE, asked, "UPDATE_DOCS=1 cargo test --lib the_table_has writes it");
        }
    }

    #[test]
    fn the_table_tells_the_types_fields() {
        let types = super::of_specs();
        assert!(types["PodSpec"].contains(&("containers", Some("Container"))), "{types:?}");
        assert!(types["Container"].contains(&("image", None)));
        assert!(types["HTTPGetAction"].iter().any(|(name, _)| *name == "httpHeaders"), "{:?}", types.keys());
        assert!(types["PodSpec"].last().is_some_and(|(name, _)| *name == "volumes"));
    }
}
