//! What `explain` prints of a kind and its fields: out of an OpenAPI v3 document, laid out as kubectl does.

use serde_json::{Map, Value};

/// Columns of a description's text; four more stand before it.
const WIDTH: usize = 76;

/// Tells which part of which kind is explained, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    /// Holds a text such as `v1`.
    pub version: &'a str,
    /// Gives it as objects have it.
    pub kind: &'a str,
    /// The fields that lead to the part, from the kind downwards.
    pub path: &'a [&'a str],
    /// The names of all fields below, and no descriptions.
    pub recursive: bool,
    /// Tells, with `recursive`, how many levels; 0 is all.
    pub max_depth: usize,
}

/// Explains a part of a kind; `None` when the document does not know the kind. The error names a field that is not
/// there; what stands before it is explained to then.
pub fn explain_kind(document: &Value, wanted: &Wanted<'_>) -> Option<(String, Result<(), String>)> {
    let schemas = document["components"]["schemas"].as_object()?;
    let mut schema = schemas.values().find(|schema| is_kind(schema, wanted))?;
    let mut out = String::new();
    if !wanted.group.is_empty() {
        out += &format!("GROUP:      {}\n", wanted.group);
    }
    out += &format!("KIND:       {}\nVERSION:    {}\n\n", wanted.kind, wanted.version);
    for name in wanted.path {
        let Some(field) = find_properties(schemas, schema).and_then(|all| all.get(*name)) else {
            return Some((out, Err(wanted.path.last().unwrap_or(name).to_string())));
        };
        schema = field;
    }
    if let Some(name) = wanted.path.last() {
        out += &format!("FIELD: {name} <{}>\n\n\n", type_name(schemas, schema));
    }
    out += "DESCRIPTION:\n";
    for text in descriptions(schemas, schema) {
        push_text(&mut out, text, 4);
    }
    out += "    \n";
    if let Some(properties) = find_properties(schemas, schema) {
        out += "FIELDS:\n";
        let explain = Fields { schemas, recursive: wanted.recursive, max_depth: wanted.max_depth };
        explain.push_fields(&mut out, schema, properties, 1);
    }
    out.push('\n');
    Some((out, Ok(())))
}

fn is_kind(schema: &Value, wanted: &Wanted<'_>) -> bool {
    let mut all = schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
    all.any(|own| {
        own["group"] == wanted.group && own["version"] == wanted.version && own["kind"] == wanted.kind
    })
}

/// Returns what a `$ref` leads to.
fn resolve_reference<'a>(schemas: &'a Map<String, Value>, schema: &'a Value) -> Option<(&'a str, &'a Value)> {
    let name = schema["$ref"].as_str()?.rsplit('/').next()?;
    Some((name, schemas.get(name)?))
}

/// The fields of a type: of what a reference, a list's items or a map's values are.
fn find_properties<'a>(schemas: &'a Map<String, Value>, schema: &'a Value) -> Option<&'a Map<String, Value>> {
    if let Some((_, resolved)) = resolve_reference(schemas, schema) {
        return find_properties(schemas, resolved);
    }
    let inner = ["items", "additionalProperties"].into_iter().find_map(|key| schema.get(key));
    match schema["properties"].as_object() {
        Some(properties) => Some(properties),
        None => find_properties(schemas, inner.filter(|inner| inner.is_object())?),
    }
}

/// The field names that a type cannot do without.
fn find_required<'a>(schemas: &'a Map<String, Value>, schema: &'a Value) -> Vec<&'a str> {
    if let Some((_, resolved)) = resolve_reference(schemas, schema) {
        return find_required(schemas, resolved);
    }
    match (schema["required"].as_array(), schema.get("items")) {
        (Some(names), _) => names.iter().filter_map(Value::as_str).collect(),
        (None, Some(items)) => find_required(schemas, items),
        (None, None) => Vec::new(),
    }
}

/// `string`, `[]Container`, `map[string]Quantity`
fn type_name(schemas: &Map<String, Value>, schema: &Value) -> String {
    if let Some((name, resolved)) = resolve_reference(schemas, schema) {
        return match resolved["type"].as_str() {
            None | Some("object") => name.rsplit('.').next().unwrap_or_default().to_owned(),
            Some(plain) => plain.to_owned(),
        };
    }
    if let Some(items) = schema.get("items") {
        return format!("[]{}", type_name(schemas, items));
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        return format!("map[string]{}", type_name(schemas, values));
    }
    schema["type"].as_str().unwrap_or("Object").to_owned()
}

/// Returns a field's own description, unless a reference stands in its place, and those of what it holds.
fn descriptions<'a>(schemas: &'a Map<String, Value>, schema: &'a Value) -> Vec<&'a str> {
    if let Some((_, resolved)) = resolve_reference(schemas, schema) {
        return descriptions(schemas, resolved);
    }
    let own = schema["description"].as_str();
    let inner = ["items", "additionalProperties"].into_iter().find_map(|key| schema.get(key));
    let inner = inner.map(|inner| descriptions(schemas, inner)).unwrap_or_default();
    let all: Vec<&str> = own.into_iter().chain(inner).collect();
    all
}

struct Fields<'a> {
    schemas: &'a Map<String, Value>,
    recursive: bool,
    max_depth: usize,
}

impl Fields<'_> {
    fn push_fields(&self, out: &mut String, owner: &Value, properties: &Map<String, Value>, level: usize) {
        let required = find_required(self.schemas, owner);
        let mut all: Vec<_> = properties.iter().collect();
        all.sort_by_key(|(name, _)| name.as_str());
        for (name, field) in all {
            let needed = if required.contains(&name.as_str()) { " -required-" } else { "" };
            let indent = " ".repeat(2 * level);
            *out += &format!("{indent}{name}\t<{}>{needed}\n", type_name(self.schemas, field));
            if !self.recursive {
                push_text(out, field["description"].as_str().unwrap_or("<no description>"), 4);
                out.push('\n');
            } else if self.max_depth == 0 || level < self.max_depth {
                // A type that holds itself, as a JSON schema does, has no end.
                if let Some(inner) = find_properties(self.schemas, field).filter(|_| level < 16) {
                    self.push_fields(out, field, inner, level + 1);
                }
            }
        }
    }
}

fn push_text(out: &mut String, text: &str, indent: usize) {
    for line in wrap_words(text, WIDTH).split('\n') {
        *out += &" ".repeat(indent);
        *out += line;
        out.push('\n');
    }
}

/// Breaks lines at the last space before they grow too long; lines that there are stay.
fn wrap_words(text: &str, width: usize) -> String {
    let (mut out, mut word, mut space, mut column) = (String::new(), String::new(), String::new(), 0);
    let length = |text: &str| text.chars().count();
    for c in text.chars() {
        match c {
            '\n' => {
                if !word.is_empty() || column + length(&space) <= width {
                    out += &space;
                }
                out += &word;
                out.push('\n');
                (word, space, column) = (String::new(), String::new(), 0);
            }
            c if c.is_whitespace() && c != '\u{a0}' => {
                if space.is_empty() || !word.is_empty() {
                    column += length(&space) + length(&word);
                    out += &space;
                    out += &word;
                    (word, space) = (String::new(), String::new());
                }
                space.push(c);
            }
            c => {
                word.push(c);
                if column + length(&word) + length(&space) > width && length(&word) < width {
                    out.push('\n');
                    (space, column) = (String::new(), 0);
                }
            }
        }
    }
    if !word.is_empty() || column + length(&space) <= width {
        out += &space;
    }
    out + &word
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_break_before_the_word_that_does_not_fit() {
        assert_eq!(wrap_words("aaa bbb ccc", 7), "aaa bbb\nccc");
        assert_eq!(wrap_words("aaa\n\nbbb", 7), "aaa\n\nbbb");
        assert_eq!(wrap_words("a https://a.long.address/x b", 10), "a\nhttps://a.long.address/x\nb");
    }

    #[test]
    fn a_part_is_explained_with_what_it_holds() {
        let document = json!({"components": {"schemas": {
            "io.x.Pod": {"description": "A pod.", "type": "object", "required": ["name"],
                "properties": {"name": {"type": "string", "description": "Its name."},
                    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/io.x.Part"}, "description": "All."}},
                "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}]},
            "io.x.Part": {"description": "One part.", "type": "object", "properties": {"size": {"type": "integer", "description": "Bytes."}}},
        }}});
        let wanted =
            Wanted { group: "", version: "v1", kind: "Pod", path: &[], recursive: true, max_depth: 0 };
        let (text, done) = explain_kind(&document, &wanted).unwrap();
        assert_eq!(
            text,
            "KIND:       Pod\nVERSION:    v1\n\nDESCRIPTION:\n    A pod.\n    \nFIELDS:\n  name\t<string> -required-\n  parts\t<[]Part>\n    size\t<integer>\n\n"
        );
        assert!(done.is_ok());
        let (text, _) =
            explain_kind(&document, &Wanted { path: &["parts"], recursive: false, ..wanted }).unwrap();
        assert!(text.contains("FIELD: parts <[]Part>\n\n\nDESCRIPTION:\n    All.\n    One part.\n    \nFIELDS:\n  size\t<integer>\n    Bytes.\n\n\n"), "{text}");
        let (_, done) = explain_kind(&document, &Wanted { path: &["nope"], ..wanted }).unwrap();
        assert_eq!(done, Err("nope".into()));
    }
}
