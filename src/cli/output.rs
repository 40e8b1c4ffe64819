//! `-o`: objects as JSON, YAML, names, JSONPath, columns.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Error, io};
use crate::view::{
    custom_columns::{self, Column},
    jsonpath::{self, Template},
    yaml,
};

/// Tells how objects are to be printed.
pub(super) enum Output {
    Table { wide: bool },
    Json,
    Yaml,
    Name,
    JsonPath(Template),
    JsonPathAsJson(Template),
    Columns(Vec<Column>),
}

const FORMATS: &str =
    "custom-columns,custom-columns-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,wide,yaml";

impl Output {
    /// Reads `-o`, and `--template` where that stands for what comes after `=`.
    ///
    /// # Errors
    /// A format that is not known, or a template that is none.
    pub(super) fn parse(output: Option<&str>, template: Option<&str>) -> Result<Output, Error> {
        let Some(output) = output else { return Ok(Output::Table { wide: false }) };
        let (format, rest) = output.split_once('=').map_or((output, template), |(f, r)| (f, Some(r)));
        let said = |e: jsonpath::Error| Error::Said(e.to_string());
        let needed = || {
            let hint = if format.starts_with("custom") {
                "-o custom-columns=NAME:.metadata.name"
            } else {
                "-o jsonpath='{.metadata.name}'"
            };
            rest.filter(|r| !r.is_empty())
                .ok_or_else(|| Error::Said(format!("output format {format} needs a template: {hint}")))
        };
        let file = || {
            let path = needed()?;
            std::fs::read_to_string(path).map_err(io(format!("cannot read the template {path}")))
        };
        let columns = |read: Result<Option<Vec<Column>>, jsonpath::Error>| match read.map_err(said)? {
            Some(columns) => Ok(Output::Columns(columns)),
            None => Err(Error::Said("custom columns are HEADER:PATH,…, such as NAME:.metadata.name".into())),
        };
        match format {
            "wide" => Ok(Output::Table { wide: true }),
            "json" => Ok(Output::Json),
            "yaml" => Ok(Output::Yaml),
            "name" => Ok(Output::Name),
            "jsonpath" => Ok(Output::JsonPath(Template::new(needed()?).map_err(said)?)),
            "jsonpath-file" => Ok(Output::JsonPath(Template::new(&file()?).map_err(said)?)),
            "jsonpath-as-json" => Ok(Output::JsonPathAsJson(Template::new(needed()?).map_err(said)?)),
            "custom-columns" => columns(custom_columns::parse(needed()?)),
            "custom-columns-file" => columns(custom_columns::parse_file(&file()?)),
            "go-template" | "go-template-file" | "template" | "templatefile" => Err(Error::Said(format!(
                "output format {format} is not available: podctl has no Go templates; use jsonpath or custom-columns"
            ))),
            _ => Err(Error::Said(format!(
                "unable to match a printer suitable for the output format {format:?}, allowed formats are: {FORMATS}"
            ))),
        }
    }

    /// Prints objects in every format but a table: one alone as itself, else as a List.
    ///
    /// # Errors
    /// What the template asks for and is not there.
    pub(super) fn print<T: Serialize>(
        &self,
        objects: &[T],
        alone: bool,
        missing_allowed: bool,
        headers: bool,
    ) -> Result<String, Error> {
        let mut all = Vec::new();
        for object in objects {
            let mut value = serde_json::to_value(object).map_err(|e| Error::Said(e.to_string()))?;
            // Who manages which field is for servers; kubectl leaves it away as well.
            if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
                meta.remove("managedFields");
            }
            all.push(value);
        }
        let whole = |mut all: Vec<Value>| match all.pop() {
            Some(one) if alone && all.is_empty() => one,
            last => {
                all.extend(last);
                json!({"apiVersion": "v1", "items": all, "kind": "List", "metadata": {"resourceVersion": ""}})
            }
        };
        let said = |e: jsonpath::Error| Error::Said(e.to_string());
        Ok(match self {
            Output::Table { .. } => String::new(),
            Output::Json => pretty_json(&whole(all)),
            Output::Yaml => yaml::document(&whole(all)),
            Output::Name => all.iter().map(|o| format!("{}\n", name(o))).collect(),
            Output::JsonPath(template) => template.print(&whole(all), missing_allowed).map_err(said)?,
            Output::JsonPathAsJson(template) => {
                let whole = whole(all);
                let found = template.find(&whole, missing_allowed).map_err(said)?;
                pretty_json(&json!(found.into_iter().flatten().collect::<Vec<_>>()))
            }
            Output::Columns(columns) => custom_columns::print(columns, &all, headers).map_err(said)?,
        })
    }
}

/// `pod/NAME`
fn name(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap_or_default())
}

/// With kubectl's four spaces.
pub(super) fn pretty_json(value: &Value) -> String {
    let mut bytes = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, format));
    debug_assert!(written.is_ok(), "a JSON value is always JSON");
    jsonpath::escape_json(String::from_utf8(bytes).unwrap_or_default()) + "\n"
}
