//! JSON as nodes with places: what `jq` and `json.dumps` write, any number of values one after another.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::document_tree::{Bounds, Entry, Kind, Lines, Node, Unreadable};

/// Returns the values of a text.
///
/// # Errors
/// The first place that is no JSON.
pub(super) fn parse_values(text: &str, bounds: &mut Bounds) -> Result<Vec<Node>, Unreadable> {
    let mut reader = Reader { lines: Lines::of(text), bounds };
    let mut found = Vec::new();
    for raw in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let raw = raw.map_err(|e| reader.failure(&e, 0))?;
        found.push(reader.node(raw)?);
    }
    Ok(found)
}

struct Reader<'a, 'b> {
    lines: Lines<'a>,
    bounds: &'b mut Bounds,
}

/// The entries of an object, none of whose values is looked into.
struct Object<'a>(Vec<(Key<'a>, &'a RawValue)>);

/// The key; borrowed from the text, unless something in it is escaped.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<'de>, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object<'de>, M::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(Object(all))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'a> Reader<'a, '_> {
    fn node(&mut self, raw: &'a RawValue) -> Result<Node, Unreadable> {
        let (text, offset) = (raw.get(), self.offset(raw.get()));
        let place = self.lines.place(offset);
        self.bounds.count(1, place)?;
        self.bounds.depth += 1;
        let kind = match text.as_bytes().first() {
            Some(b'{') => self.map(text, offset)?,
            Some(b'[') => {
                let all: Vec<&RawValue> = self.parsed(text, offset)?;
                Kind::List(all.into_iter().map(|raw| self.node(raw)).collect::<Result<_, _>>()?)
            }
            _ => Kind::Scalar(whole(self.parsed(text, offset)?)),
        };
        self.bounds.depth -= 1;
        Ok(Node { line: place.0, column: place.1, kind })
    }

    fn map(&mut self, text: &'a str, offset: usize) -> Result<Kind, Unreadable> {
        let Object(entries) = self.parsed(text, offset)?;
        let mut all: Vec<Entry> = Vec::with_capacity(entries.len());
        for (Key(key), raw) in entries {
            let at = match &key {
                // Its quote stands before it.
                Cow::Borrowed(key) => self.offset(key).saturating_sub(1),
                Cow::Owned(_) => self.offset(raw.get()),
            };
            let place = self.lines.place(at);
            if all.iter().any(|(known, ..)| **known == *key) {
                return Err(Unreadable::new(place, format!("key {key:?} is already set in this map")));
            }
            all.push((key.into_owned(), place, self.node(raw)?));
        }
        Ok(Kind::Map(all))
    }

    fn parsed<T: Deserialize<'a>>(&self, text: &'a str, offset: usize) -> Result<T, Unreadable> {
        serde_json::from_str(text).map_err(|e| self.failure(&e, offset))
    }

    /// Tells where a part of the text begins in it.
    fn offset(&self, part: &str) -> usize {
        part.as_ptr() as usize - self.lines.text.as_ptr() as usize
    }

    /// The error of a part that begins at that offset.
    fn failure(&self, e: &serde_json::Error, offset: usize) -> Unreadable {
        let (first, column) = self.lines.place(offset);
        let line = e.line().max(1);
        let place = (first + line - 1, e.column().max(1) + if line == 1 { column - 1 } else { 0 });
        let words = e.to_string();
        let message = words.rsplit_once(" at line ").map_or(words.as_str(), |(message, _)| message);
        Unreadable::new(place, message)
    }
}

/// A whole number is one, however it is written.
pub(super) fn whole(value: Value) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < EXACT) {
        Some(number) if value.is_f64() => Value::from(number as i64),
        _ => value,
    }
}
