//! kubectl's JSONPath templates: text, and in braces paths with filters, unions, slices, `..` and
//! `{range}…{end}`.
//!
//! Promises: what kubectl prints for a template over the same JSON, is what is printed here.

mod eval;
mod parse;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::go_values::print_literal;

/// The reason why a template cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Means that it is no template.
    #[error("error parsing jsonpath {template}, {why}")]
    Parse {
        /// Gives it as it was given.
        template: String,
        /// Holds what is wrong.
        why: String,
    },
    /// Means that a path or columns are none, in kubectl's words.
    #[error("{0}")]
    Columns(String),
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
    /// `{end}` of no range.
    StrayEnd,
    /// The word that means nothing.
    Unknown(String),
}

/// `[start:end:step]`; one number alone is [`Slice::Index`].
#[derive(Clone, Copy, Debug, PartialEq)]
enum Slice {
    Index(i64),
    Part { start: Option<i64>, end: Option<i64>, step: i64 },
}

#[derive(Clone, Debug, PartialEq)]
enum Operator {
    /// The one that there is not.
    Unknown(String),
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
    /// [`Error::Columns`], [`Error::Parse`].
    pub fn path(text: &str) -> Result<Template, Error> {
        if text.is_empty() {
            return Template::new(text);
        }
        let plain = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        let plain = plain.strip_prefix('.').unwrap_or(plain);
        if plain.is_empty() || plain.contains(['{', '}']) {
            return Err(Error::Columns(
                "unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'".into(),
            ));
        }
        Template::new(&format!("{{.{plain}}}"))
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

    /// Does as [`Template::print`], and tells what kubectl tells of what goes wrong: the template and the object.
    ///
    /// # Errors
    /// [`Error::Execute`].
    pub fn print_explained(&self, object: &Value, missing_allowed: bool) -> Result<String, Error> {
        self.print(object, missing_allowed).map_err(|e| self.explain(e, object))
    }

    /// Adds to an error what kubectl adds.
    pub fn explain(&self, error: Error, object: &Value) -> Error {
        let Error::Execute { template, why } = error else { return error };
        let object = print_literal(object);
        let why = format!(
            "Error executing template: {why}. Printing more information for debugging the template:\n\ttemplate was:\n\t\t{template}\n\tobject given to jsonpath engine was:\n\t\t{object}\n\n"
        );
        Error::Execute { template, why }
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
