//! `-o`: objects as JSON, YAML, names, JSONPath, columns.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    cli::{Error, print},
    engine::WriteOptions,
    view::{
        custom_columns::{self, Column},
        go_template::GoTemplate,
        jsonpath::{self, Template},
        kyaml::print_kyaml,
        yaml,
    },
};

/// Set when this command has printed a document of YAML.
static DOCUMENT_PRINTED: AtomicBool = AtomicBool::new(false);

/// Tells how objects are to be printed.
pub(super) enum Output {
    Table { wide: bool },
    Json,
    Yaml,
    Kyaml,
    Name,
    GoTemplate(GoTemplate),
    JsonPath(Template),
    JsonPathAsJson(Template),
    Columns(Vec<Column>),
}

/// The formats of commands that show objects in tables as well.
pub(super) const FORMATS: &str = "custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,kyaml,name,template,templatefile,wide,yaml";

/// The formats of commands that say in a line what they did.
const PLAIN_FORMATS: &str = "go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,kyaml,name,template,templatefile,yaml";

/// Holds what is printed of the objects that a command has changed.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct OutputArgs {
    /// Print the objects as json, yaml, kyaml, name, jsonpath=…, jsonpath-as-json=…, jsonpath-file=…, go-template=…
    /// or go-template-file=… instead of a line about each.
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<String>,
    /// The template, where -o does not hold it.
    #[arg(long)]
    pub template: Option<String>,
    /// A field that is missing is no error in a template.
    #[arg(long, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_missing_template_keys: bool,
    /// With the note of who manages which field.
    #[arg(long)]
    pub show_managed_fields: bool,
}

/// Tells how a change is only tried.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct DryRunArgs {
    /// `client` or `server`: say what would be done, and do nothing.
    #[arg(long, value_name = "none|client|server", default_value = "none", value_parser = parse_dry_run,
        num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    pub dry_run: DryRun,
}

/// The flags of every command that changes objects: whether it is only tried, and what is printed of them.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct ChangeArgs {
    #[command(flatten)]
    dry_run: DryRunArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    manager: ManagerArgs,
}

/// Whose the fields that change become.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct ManagerArgs {
    /// Note by this name whose the fields are that change, for `apply --server-side`; nobody's else.
    #[arg(long, value_name = "NAME")]
    field_manager: Option<String>,
}

impl ManagerArgs {
    /// Returns the manager that is to be noted, if any.
    pub(super) fn name(&self) -> Option<&str> {
        self.field_manager.as_deref().filter(|name| !name.is_empty())
    }
}

impl ChangeArgs {
    /// Returns the manager that is to be noted, if any.
    pub(super) fn manager(&self) -> Option<&str> {
        self.manager.name()
    }

    /// Tells how the objects are written.
    pub(super) fn write_options(&self) -> WriteOptions {
        let manager = self.manager().map(str::to_owned);
        WriteOptions { dry_run: self.dry_run().is_dry(), manager, ..WriteOptions::default() }
    }

    /// Tells what of the change is done.
    pub(super) fn dry_run(&self) -> DryRun {
        self.dry_run.dry_run
    }

    /// Prints what became of an object, or would have.
    ///
    /// # Errors
    /// As [`OutputArgs::print_result`].
    pub(super) fn print_change(&self, output: &Output, object: &Value, word: &str) -> Result<(), Error> {
        self.output.print_result(output, object, &format!("{word}{}", self.dry_run().suffix()))
    }
}

/// Names what of a change is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DryRun {
    /// All of it.
    None,
    /// Nothing; the object is printed as it was given.
    Client,
    /// Nothing; the object is checked and printed as it would be.
    Server,
}

/// Reads `--dry-run`'s value; the error is kubectl's.
pub(super) fn parse_dry_run(text: &str) -> Result<DryRun, String> {
    match text {
        // The words of older kubectls.
        "none" | "false" => Ok(DryRun::None),
        "client" | "true" => Ok(DryRun::Client),
        "server" => Ok(DryRun::Server),
        other => {
            Err(format!("Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\"."))
        }
    }
}

impl DryRun {
    pub(super) fn is_dry(self) -> bool {
        self != DryRun::None
    }

    /// Returns what a line about the object ends in.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }
}

impl OutputArgs {
    /// Reads the format, for a command that has no tables.
    ///
    /// # Errors
    /// A format that is not known, or a template that is none.
    pub(super) fn parse(&self) -> Result<Output, Error> {
        let given = self.output.as_deref().unwrap_or_default();
        let (format, has_value) = given.split_once('=').map_or((given, false), |(format, _)| (format, true));
        let is_known = |known: &str| match known.contains("template") || known.contains("jsonpath") {
            true => known == format,
            false => !has_value && known.eq_ignore_ascii_case(format),
        };
        match given.is_empty() || PLAIN_FORMATS.split(',').any(is_known) {
            true => Output::parse(self.output.as_deref(), self.template.as_deref()),
            false => Err(Error::bad_value(unknown_format(given, PLAIN_FORMATS))),
        }
    }

    /// Prints what became of an object: `pod/web patched`, or the object in the format that was asked for.
    ///
    /// # Errors
    /// What the template asks for and is not there.
    pub(super) fn print_result(&self, output: &Output, object: &Value, what: &str) -> Result<(), Error> {
        match output {
            Output::Table { .. } => println!("{} {what}", name_object(object)),
            output => {
                // As kubectl's printer does: it parts the documents of a stream.
                let parted = matches!(output, Output::Yaml) && DOCUMENT_PRINTED.swap(true, Ordering::Relaxed);
                let text = self.format_objects(output, std::slice::from_ref(object), true)?;
                print(&format!("{}{text}", if parted { "---\n" } else { "" }));
            }
        }
        Ok(())
    }

    /// Formats objects: one alone as itself, else as a List.
    ///
    /// # Errors
    /// What the template asks for and is not there.
    pub(super) fn format_objects(
        &self,
        output: &Output,
        objects: &[Value],
        alone: bool,
    ) -> Result<String, Error> {
        match self.show_managed_fields {
            true => output.print_whole(objects.to_vec(), alone, self.allow_missing_template_keys, true),
            false => output.print(objects, alone, self.allow_missing_template_keys, true),
        }
    }
}

fn unknown_format(format: &str, known: &str) -> String {
    format!(
        "unable to match a printer suitable for the output format {format:?}, allowed formats are: {known}"
    )
}

impl Output {
    /// Reads `-o`, and `--template` where that stands for what comes after `=`, or for all of it.
    ///
    /// # Errors
    /// A format that is not known, or a template that is none.
    pub(super) fn parse(output: Option<&str>, template: Option<&str>) -> Result<Output, Error> {
        let template = template.filter(|template| !template.is_empty());
        let output = match output.filter(|output| !output.is_empty()) {
            Some(output) => output,
            None if template.is_some() => "go-template",
            None => return Ok(Output::Table { wide: false }),
        };
        let (format, rest) = output.split_once('=').map_or((output, template), |(f, r)| (f, Some(r)));
        let plain = match output.to_lowercase().as_str() {
            "wide" => Some(Output::Table { wide: true }),
            "json" => Some(Output::Json),
            "yaml" => Some(Output::Yaml),
            "kyaml" => Some(Output::Kyaml),
            "name" => Some(Output::Name),
            _ => None,
        };
        if let Some(plain) = plain {
            return Ok(plain);
        }
        let is_columns = format.starts_with("custom-columns");
        let none = match is_columns {
            true => "custom-columns format specified but no custom columns given",
            false => "template format specified but no template given",
        };
        let needed = || rest.filter(|rest| !rest.is_empty()).ok_or_else(|| Error::missing(none));
        let file = || {
            let path = needed()?;
            let what = if is_columns { "template" } else { "--template" };
            std::fs::read_to_string(path).map_err(|e| {
                Error::unreadable(format!("error reading {what} {path}, open {path}: {}", describe_io(&e)))
            })
        };
        match format {
            "jsonpath" => Ok(Output::JsonPath(Template::new(needed()?)?)),
            "jsonpath-file" => Ok(Output::JsonPath(Template::new(&file()?)?)),
            "jsonpath-as-json" => Ok(Output::JsonPathAsJson(Template::new(needed()?)?)),
            "custom-columns" => Ok(Output::Columns(custom_columns::parse(needed()?)?)),
            "custom-columns-file" => Ok(Output::Columns(custom_columns::parse_file(&file()?)?)),
            "go-template" | "template" => Ok(Output::GoTemplate(read_template(needed()?)?)),
            "go-template-file" | "templatefile" => Ok(Output::GoTemplate(read_template(&file()?)?)),
            _ => Err(Error::bad_value(unknown_format(output, FORMATS))),
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
        let is_template =
            matches!(self, Output::GoTemplate(_) | Output::JsonPath(_) | Output::JsonPathAsJson(_));
        let mut all = Vec::new();
        for object in objects {
            let mut value = serde_json::to_value(object)?;
            // Who manages which field is for servers; kubectl leaves it away as well, but for templates.
            let meta = value.get_mut("metadata").and_then(Value::as_object_mut);
            if let Some(meta) = meta.filter(|_| !is_template) {
                meta.remove("managedFields");
            }
            all.push(value);
        }
        self.print_whole(all, alone, missing_allowed, headers)
    }

    /// Does as [`Output::print`], with the note of who manages which field.
    ///
    /// # Errors
    /// What the template asks for and is not there.
    pub(super) fn print_whole(
        &self,
        all: Vec<Value>,
        alone: bool,
        missing_allowed: bool,
        headers: bool,
    ) -> Result<String, Error> {
        let whole = |mut all: Vec<Value>| match all.pop() {
            Some(one) if alone && all.is_empty() => one,
            last => {
                all.extend(last);
                json!({"apiVersion": "v1", "items": all, "kind": "List", "metadata": {"resourceVersion": ""}})
            }
        };
        Ok(match self {
            Output::Table { .. } => String::new(),
            Output::Json => pretty_json(&whole(all)),
            Output::Yaml => yaml::document(&whole(all)),
            Output::Kyaml => print_kyaml(&whole(all)),
            Output::Name => all.iter().map(|o| format!("{}\n", name_object(o))).collect(),
            Output::GoTemplate(template) => {
                let printed = template.print(&whole(all), missing_allowed);
                printed.inspect_err(|e| print(&e.printed))?
            }
            Output::JsonPath(template) => template.print_explained(&whole(all), missing_allowed)?,
            Output::JsonPathAsJson(template) => {
                let whole = whole(all);
                let found = template.find(&whole, missing_allowed);
                let found = found.map_err(|e| template.explain(e, &whole))?;
                found.into_iter().map(|part| pretty_json(&json!(part))).collect()
            }
            Output::Columns(columns) => custom_columns::print(columns, &all, headers).inspect_err(|_| {
                // The headers are there before what goes wrong.
                print(&custom_columns::print(columns, &[], headers).unwrap_or_default());
            })?,
        })
    }
}

/// Words what the system says of a file as Go does.
fn describe_io(error: &std::io::Error) -> String {
    let said = error.to_string().to_lowercase();
    said.split(" (os error").next().unwrap_or_default().to_owned()
}

fn read_template(text: &str) -> Result<GoTemplate, Error> {
    GoTemplate::parse(text).map_err(Error::from)
}

/// Names an object as messages do: `pod/web`, `deployment.apps/web`.
pub(super) fn name_object(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, version) = (text(&object["kind"]).to_lowercase(), text(&object["apiVersion"]));
    let group = version.split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
    format!("{kind}{group}/{}", text(&object["metadata"]["name"]))
}

/// With kubectl's four spaces.
pub(super) fn pretty_json(value: &Value) -> String {
    let mut bytes = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, format));
    debug_assert!(written.is_ok(), "a JSON value is always JSON");
    jsonpath::escape_json(String::from_utf8(bytes).unwrap_or_default()) + "\n"
}

/// Prints an object as `json` or `yaml`.
pub(super) fn print_value(value: &Value, format: &str) -> Result<(), Error> {
    match format {
        "yaml" => print(&yaml::document(value)),
        _ => print(&pretty_json(value)),
    }
    Ok(())
}

/// Prints rows in columns.
pub(super) fn print_table(rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let line: String = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:w$}   ")).collect();
        println!("{}", line.trim_end());
    }
}
