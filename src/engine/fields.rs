//! The fields of API types: their numbers in protobuf, and how patches merge their lists. PURE.
//!
//! `fields.txt` is made by `scripts/api-tables`; it is read when a request first needs it.

use std::{collections::HashMap, sync::OnceLock};

const TABLE: &str = include_str!("fields.txt");

/// The type, such as `core.v1.Pod`.
#[derive(Debug, Default)]
pub struct Message {
    /// Tells that it has one owner as a whole in server-side apply.
    pub atomic: bool,
    /// Lists them in the order of the table; those of an embedded part stand under [`Field::EMBEDDED`].
    pub fields: Vec<Field>,
}

/// Tells how many values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One.
    Single,
    /// Any number, in order.
    List,
    /// Any number, by name.
    Map,
}

/// The field of a type.
#[derive(Debug)]
pub struct Field {
    /// Gives it as JSON has it.
    pub name: &'static str,
    /// Gives it as protobuf has it.
    pub number: u32,
    /// `string`, `int64`, …, or the name of a type.
    pub type_: &'static str,
    /// One, a list or a map of that type.
    pub shape: Shape,
    /// The key by which a strategic merge patch finds a list's items; a list without one is replaced, unless
    /// it is [merged](Field::merged).
    pub merge_key: Option<&'static str>,
    /// Tells that a strategic merge patch merges the list.
    pub merged: bool,
    /// The strategic merge patch may say which fields of an item stay: `$retainKeys`.
    pub retains_keys: bool,
    /// The keys by which server-side apply finds a list's items.
    pub keys: Vec<&'static str>,
    /// Server-side apply sees a list as a set of its values.
    pub set: bool,
    /// Server-side apply sees all of it as one value.
    pub atomic: bool,
}

impl Field {
    /// The name of a part whose fields JSON has in the place of the part.
    pub const EMBEDDED: &'static str = "-";
}

/// The type of that name.
pub fn find_message(name: &str) -> Option<&'static Message> {
    static ALL: OnceLock<HashMap<&'static str, Message>> = OnceLock::new();
    ALL.get_or_init(read_table).get(name)
}

/// The type's field that JSON names so, also one of an embedded part.
pub fn find_field(message: &str, name: &str) -> Option<&'static Field> {
    let message = find_message(message)?;
    let own = message.fields.iter().find(|f| f.name == name);
    own.or_else(|| {
        let embedded = message.fields.iter().filter(|f| f.name == Field::EMBEDDED);
        embedded.into_iter().find_map(|part| find_field(part.type_, name))
    })
}

/// The type of a kind: `core.v1.Pod` for `v1` and `Pod`.
pub fn message_name(api_version: &str, kind: &str) -> String {
    match api_version.split_once('/') {
        None if kind == "DeleteOptions" => format!("meta.v1.{kind}"),
        None => format!("core.{api_version}.{kind}"),
        Some((_, _)) if kind == "DeleteOptions" => format!("meta.v1.{kind}"),
        Some((group, version)) => format!("{}.{version}.{kind}", group.split('.').next().unwrap_or_default()),
    }
}

fn read_table() -> HashMap<&'static str, Message> {
    let mut all = HashMap::new();
    let mut name = "";
    for line in TABLE.lines() {
        match line.strip_prefix(' ') {
            None => {
                let mut words = line.split(' ');
                name = words.next().unwrap_or_default();
                all.insert(name, Message { atomic: words.next() == Some("atomic"), fields: Vec::new() });
            }
            Some(line) => {
                if let (Some(message), Some(field)) = (all.get_mut(name), read_field(line)) {
                    message.fields.push(field);
                }
            }
        }
    }
    all
}

fn read_field(line: &'static str) -> Option<Field> {
    let mut words = line.split(' ');
    let (name, number, type_) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let mut field = Field {
        name,
        number,
        type_,
        shape: Shape::Single,
        merge_key: None,
        merged: false,
        retains_keys: false,
        keys: Vec::new(),
        set: false,
        atomic: false,
    };
    for word in words {
        match word.split_once('=') {
            None if word == "list" => field.shape = Shape::List,
            None if word == "map" => field.shape = Shape::Map,
            None if word == "set" => field.set = true,
            None if word == "atomic" => field.atomic = true,
            Some(("merge", key)) => field.merge_key = Some(key),
            Some(("strategy", words)) => {
                field.merged = words.contains("merge");
                field.retains_keys = words.contains("retainKeys");
            }
            Some(("keys", keys)) => field.keys = keys.split(',').collect(),
            _ => return None,
        }
    }
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let lines = TABLE.lines().filter(|line| line.starts_with(' ')).count();
        let all = read_table();
        assert_eq!(all.values().map(|m| m.fields.len()).sum::<usize>(), lines);
        let known = |f: &Field| !f.type_.contains('.') || all.contains_key(f.type_);
        let unknown: Vec<_> = all.values().flat_map(|m| &m.fields).filter(|f| !known(f)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn fields_are_found_through_embedded_parts() {
        let volumes = find_field("core.v1.PodSpec", "volumes").unwrap();
        assert_eq!((volumes.merge_key, volumes.retains_keys), (Some("name"), true));
        assert_eq!(find_field("core.v1.Volume", "emptyDir").unwrap().number, 2);
        assert_eq!(find_field("core.v1.EphemeralContainer", "env").unwrap().merge_key, Some("name"));
        assert_eq!(find_field("core.v1.Container", "ports").unwrap().keys, ["containerPort", "protocol"]);
        assert!(find_field("core.v1.Container", "nothing").is_none());
        assert_eq!(message_name("discovery.k8s.io/v1", "EndpointSlice"), "discovery.v1.EndpointSlice");
    }
}
