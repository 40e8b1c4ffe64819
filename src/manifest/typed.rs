//! A node as an object of the API: every field of a wrong type and every field that the type does
//! not have is reported with its place, and reading goes on.
//!
//! The object types tell serde the names of their fields; those are the schema that is checked here.

use std::{cell::RefCell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
    forward_to_deserialize_any,
};
use serde_json::Value;

use super::{
    Report, Severity,
    document_tree::{Entry, Kind, Node},
    support,
};

/// Most fields that are worth listing to somebody who wrote one that there is not.
const LISTED: usize = 8;

/// Reads the node; `None` when it holds a value that cannot be read at all, which is reported.
pub(super) fn read<T: DeserializeOwned>(node: &Node, path: &str, report: &mut Report<'_>) -> Option<T> {
    let report = RefCell::new(report);
    let place = Place { node, path: path.to_owned(), report: &report };
    match T::deserialize(place) {
        Ok(object) => Some(object),
        Err(e) => {
            let mut report = report.borrow_mut();
            let at = e.path.as_deref().unwrap_or(path);
            let words = e.message.replace("expected IntOrString", "expected a number or a name");
            let message = format!("Invalid value: {words}");
            let help = is_data(at)
                .then(|| "values under data are in base64; plain text belongs under stringData".to_owned());
            report.say(Severity::Error, at, message, help);
            None
        }
    }
}

/// Returns a field path and one below it: `a.b` and `c[0].d`.
pub(super) fn join(path: &str, below: &str) -> String {
    match below {
        below if path.is_empty() => below.to_owned(),
        below if below.is_empty() || below.starts_with('[') => format!("{path}{below}"),
        below => format!("{path}.{below}"),
    }
}

/// The path of a map's entry, whatever its key: `a.key`, `a["x/y"]`.
pub(super) fn entry(path: &str, key: &str) -> String {
    match key.is_empty() || key.contains(['.', '[', '/', ' ', '"']) {
        true => format!("{path}[{key:?}]"),
        false => join(path, key),
    }
}

/// Tells whether the path leads into a ConfigMap's or Secret's data.
fn is_data(path: &str) -> bool {
    let mut parts = path.split(['.', '[']);
    parts.any(|part| ["data", "stringData", "binaryData"].contains(&part))
}

/// The value that a type refuses.
#[derive(Debug)]
struct Refused {
    path: Option<String>,
    message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

impl serde::de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Refused {
        Refused { path: None, message: message.to_string() }
    }
}

struct Place<'a, 'r, 'f> {
    node: &'a Node,
    path: String,
    report: &'r RefCell<&'r mut Report<'f>>,
}

impl<'a, 'r, 'f> Place<'a, 'r, 'f> {
    fn below(&self, node: &'a Node, path: String) -> Place<'a, 'r, 'f> {
        Place { node, path, report: self.report }
    }

    fn wrong(&self, wanted: &str) {
        // What stands in a Secret is not repeated.
        let hidden = is_data(&self.path);
        let (shown, kind) = match &self.node.kind {
            Kind::Scalar(value) if hidden => ("a value".to_owned(), of(value)),
            Kind::Scalar(value) => (value.to_string(), of(value)),
            Kind::List(_) => ("a list".to_owned(), "array"),
            Kind::Map(_) => ("a map".to_owned(), "object"),
        };
        let unquoted = |text: &str| match wanted {
            "integer" => text.parse::<i64>().is_ok(),
            "boolean" => matches!(text, "true" | "false"),
            _ => false,
        };
        let help = match (wanted, &self.node.kind) {
            ("string", Kind::Scalar(Value::Number(_) | Value::Bool(_))) => {
                Some("put the value in quotes, so that YAML reads it as text")
            }
            ("string", Kind::Map(_)) => Some("text that holds \": \" has to be in quotes"),
            ("array", _) => Some("write a list: each entry begins with \"- \""),
            (_, Kind::Scalar(Value::String(text))) if unquoted(text) => {
                Some("write it without quotes; in quotes it is text")
            }
            _ => None,
        };
        let help = help.map(str::to_owned);
        let message = format!("Invalid value: {shown}: must be of type {wanted}, not {kind}");
        self.report.borrow_mut().say(Severity::Error, &self.path, message, help);
    }

    fn at<T>(&self, result: Result<T, Refused>) -> Result<T, Refused> {
        at(self.path.clone(), result)
    }

    /// The known fields of the map; the others are reported.
    fn fields(&self, fields: &'static [&'static str], type_name: &str) -> Vec<&'a Entry> {
        let Kind::Map(entries) = &self.node.kind else {
            if !matches!(self.node.kind, Kind::Scalar(Value::Null)) {
                self.wrong("object");
            }
            return Vec::new();
        };
        let said = entries.iter().filter(|(key, _, node)| !says_nothing(type_name, key, node));
        let (known, unknown): (Vec<_>, Vec<_>) = said.partition(|(key, ..)| fields.contains(&key.as_str()));
        for (key, ..) in unknown {
            let help = match (support::beneath(type_name, key), nearest_field(key, fields)) {
                (Some(field), _) => {
                    Some(format!("{key:?} belongs beneath {field:?}; is this line indented as it should be?"))
                }
                (None, Some(meant)) => Some(format!("did you mean {meant:?}?")),
                (None, None) if fields.len() <= LISTED => {
                    Some(format!("the fields of {type_name} are: {}", fields.join(", ")))
                }
                (None, None) => None,
            };
            let message = format!("unknown field {key:?}");
            self.report.borrow_mut().say(Severity::Error, &entry(&self.path, key), message, help);
        }
        known
    }
}

/// Fields in which the API server takes an empty text or a zero for no value: to Go they are the same. Templates leave such.
/// Others, which are pointers there, are refused when they are empty.
const EMPTY_IS_ABSENT: [(&str, &str); 12] = [
    ("ObjectMeta", "namespace"),
    ("ObjectFieldSelector", "apiVersion"),
    ("Secret", "type"),
    ("ServiceSpec", "type"),
    ("ServiceSpec", "sessionAffinity"),
    ("ServiceSpec", "externalTrafficPolicy"),
    ("ServiceSpec", "loadBalancerIP"),
    ("ServiceSpec", "healthCheckNodePort"),
    ("ServicePort", "name"),
    ("ServicePort", "protocol"),
    ("ServicePort", "targetPort"),
    ("ServicePort", "nodePort"),
];

/// Tells whether a field of that type is as if it were not there.
fn says_nothing(type_name: &str, field: &str, node: &Node) -> bool {
    let is_empty = match &node.kind {
        Kind::Scalar(Value::String(text)) => text.is_empty(),
        Kind::Scalar(Value::Number(number)) => number.as_i64() == Some(0),
        _ => false,
    };
    is_empty && EMPTY_IS_ABSENT.contains(&(type_name, field))
}

/// Returns what was refused, there unless it was further below.
fn at<T>(path: String, result: Result<T, Refused>) -> Result<T, Refused> {
    result.map_err(|e| Refused { path: e.path.or(Some(path)), message: e.message })
}

fn of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The one that was probably meant.
pub(super) fn nearest_field<'n>(name: &str, fields: &[&'n str]) -> Option<&'n str> {
    let name = name.to_lowercase();
    let score = |known: &str| strsim::jaro_winkler(&name, &known.to_lowercase());
    let best = fields.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.84).then_some(best)
}

impl<'de, 'a, 'r, 'f> Deserializer<'de> for Place<'a, 'r, 'f> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let path = self.path.clone();
        let result = match &self.node.kind {
            Kind::Scalar(Value::Null) => visitor.visit_unit(),
            Kind::Scalar(Value::Bool(value)) => visitor.visit_bool(*value),
            Kind::Scalar(Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => visitor.visit_i64(whole),
                (None, fraction) => visitor.visit_f64(fraction.unwrap_or_default()),
            },
            Kind::Scalar(Value::String(text)) => visitor.visit_str(text),
            Kind::Scalar(_) => visitor.visit_unit(),
            Kind::List(all) => visitor.visit_seq(Items { place: self, all, next: 0 }),
            Kind::Map(all) => {
                let entries = all.iter().collect();
                visitor.visit_map(Entries { place: self, entries, next: 0 })
            }
        };
        at(path, result)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.node.kind {
            Kind::Scalar(Value::Null) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        if name == "Quantity" && matches!(self.node.kind, Kind::List(_) | Kind::Map(_)) {
            return Err(Refused {
                message: "a quantity is a number, such as 500m or 64Mi".into(),
                path: Some(self.path),
            });
        }
        if name == "Quantity" && matches!(self.node.kind, Kind::Scalar(Value::Null)) {
            // As Go's reader has it: no quantity is none of it.
            return visitor.visit_newtype_struct(serde::de::value::StrDeserializer::new("0"));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let entries = self.fields(fields, name);
        visitor.visit_map(Entries { place: self, entries, next: 0 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let entries = match &self.node.kind {
            Kind::Map(all) => all.iter().collect(),
            Kind::Scalar(Value::Null) => Vec::new(),
            _ => {
                self.wrong("object");
                Vec::new()
            }
        };
        visitor.visit_map(Entries { place: self, entries, next: 0 })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let all = match &self.node.kind {
            Kind::List(all) => all.as_slice(),
            Kind::Scalar(Value::Null) => &[],
            _ => {
                self.wrong("array");
                &[]
            }
        };
        visitor.visit_seq(Items { place: self, all, next: 0 })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match &self.node.kind {
            Kind::Scalar(Value::Bool(value)) => visitor.visit_bool(*value),
            Kind::Scalar(Value::Null) => visitor.visit_bool(false),
            _ => {
                self.wrong("boolean");
                visitor.visit_bool(false)
            }
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let number = match &self.node.kind {
            Kind::Scalar(Value::Number(n)) => n
                .as_i64()
                .or_else(|| n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e15).map(|f| f as i64)),
            Kind::Scalar(Value::Null) => Some(0),
            _ => None,
        };
        if number.is_none() {
            self.wrong("integer");
        }
        let result = visitor.visit_i64(number.unwrap_or_default());
        self.at(result)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match &self.node.kind {
            Kind::Scalar(Value::Number(n)) if n.as_i64().is_some_and(|n| i32::try_from(n).is_err()) => {
                let message = format!("Invalid value: {n}: is too large a number for this field");
                self.report.borrow_mut().say(Severity::Error, &self.path, message, None);
                visitor.visit_i64(0)
            }
            _ => self.deserialize_i64(visitor),
        }
    }

    /// Text is asked for as a String; this is asked for by what is in base64, which Go's decoder reads over lines.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match &self.node.kind {
            Kind::Scalar(Value::String(text)) if is_data(&self.path) && text.contains(['\r', '\n']) => {
                let result = visitor.visit_str(&text.replace(['\r', '\n'], ""));
                self.at(result)
            }
            _ => self.deserialize_string(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let result = match &self.node.kind {
            // The kernel ends a text there; data of files may hold it.
            Kind::Scalar(Value::String(text)) if text.contains('\0') && !is_data(&self.path) => {
                let message = "Invalid value: must not contain a NUL character";
                self.report.borrow_mut().say(Severity::Error, &self.path, message, None);
                visitor.visit_str("")
            }
            Kind::Scalar(Value::String(text)) => visitor.visit_str(text),
            Kind::Scalar(Value::Null) => visitor.visit_str(""),
            _ => {
                self.wrong("string");
                visitor.visit_str("")
            }
        };
        self.at(result)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 u8 u16 u32 u64 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

struct Items<'a, 'r, 'f> {
    place: Place<'a, 'r, 'f>,
    all: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, '_, '_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        let Some(node) = self.all.get(self.next) else { return Ok(None) };
        let place = self.place.below(node, format!("{}[{}]", self.place.path, self.next));
        self.next += 1;
        seed.deserialize(place).map(Some)
    }
}

struct Entries<'a, 'r, 'f> {
    place: Place<'a, 'r, 'f>,
    entries: Vec<&'a Entry>,
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_, '_, '_> {
    type Error = Refused;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        let Some((key, ..)) = self.entries.get(self.next) else { return Ok(None) };
        seed.deserialize(serde::de::value::StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        let (key, _, node) =
            self.entries.get(self.next).ok_or_else(|| Refused::custom("no value is left"))?;
        self.next += 1;
        seed.deserialize(self.place.below(node, entry(&self.place.path, key)))
    }
}
