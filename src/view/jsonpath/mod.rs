//! kubectl's JSONPath templates: text, and in braces paths with filters, unions, slices, `..` and
//! `{range}…{end}`.
//!
//! Promises: what kubectl prints for a template over the same JSON, is what is printed here.

mod eval;
mod parse;
#[cfg(test)]
mod tests;

use serde_json::Value;

/// The reason why a template cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Means that it is no template.
    #[error("error parsing jsonpath {template}, {why}")]
    Parse {
        /// Gives it as it was given.
        template: String,
        /// Holds what is wrong.
        why: String,
    },
    /// The object does not have what it asks for.
    #[error("error executing jsonpath {template:?}: {why}")]
    Execute {
        /// Gives it as it was given.
        template: String,
        /// Holds what is wrong.
        why: String,
    },
}

/// The template that has been read.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    nodes: Vec<Node>,
}

/// The part of a template or of a path.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// The string, a number, true or false.
    Literal(Value),
    Field(String),
    Wildcard,
    /// `..`
    Recursive,
    Slice(Slice),
    Filter {
        left: Vec<Node>,
        /// Without one, the left side has only to exist.
        compared: Option<(Operator, Vec<Node>)>,
    },
    Union(Vec<Vec<Node>>),
    /// The pair of braces.
    Path(Vec<Node>),
    /// `{range path}…{end}`
    Range {
        path: Vec<Node>,
        body: Vec<Node>,
    },
}

/// `[start:end:step]`; one number alone is [`Slice::Index`].
#[derive(Clone, Copy, Debug, PartialEq)]
enum Slice {
    Index(i64),
    Part { start: Option<i64>, end: Option<i64>, step: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`Error::Parse`].
    pub fn new(text: &str) -> Result<Template, Error> {
        match parse::parse_template(text) {
            Ok(nodes) => Ok(Template { text: text.into(), nodes }),
            Err(why) => Err(Error::Parse { template: text.into(), why }),
        }
    }

    /// Reads one path, of which braces and the leading dot may be left out: `x.y`, `.x.y`, `{.x.y}`.
    ///
    /// # Errors
    /// [`Error::Parse`].
    pub fn path(text: &str) -> Result<Template, Error> {
        let plain = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text).trim();
        let dotted = plain.starts_with(['.', '[', '$', '@']);
        Template::new(&format!("{{{}{plain}}}", if dotted { "" } else { "." }))
    }

    /// The text that the template makes of an object.
    ///
    /// # Errors
    /// [`Error::Execute`]; a missing field is none when `missing_allowed`.
    pub fn print(&self, object: &Value, missing_allowed: bool) -> Result<String, Error> {
        let lists = self.find(object, missing_allowed)?;
        let joined = |list: Vec<&Value>| list.into_iter().map(text).collect::<Vec<_>>().join(" ");
        Ok(lists.into_iter().map(joined).collect())
    }

    /// Returns what each part of the template finds in an object.
    ///
    /// # Errors
    /// [`Error::Execute`].
    pub fn find<'a>(
        &'a self,
        object: &'a Value,
        missing_allowed: bool,
    ) -> Result<Vec<Vec<&'a Value>>, Error> {
        eval::all(&self.nodes, object, missing_allowed)
            .map_err(|why| Error::Execute { template: self.text.clone(), why })
    }
}

/// Returns a string as it is, anything else as JSON.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| escape_json(value.to_string()), str::to_owned)
}

/// JSON as Go writes it: `<`, `>` and `&`, which stand in strings only, are escaped.
pub fn escape_json(json: String) -> String {
    json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}
