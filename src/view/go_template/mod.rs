//! `-o go-template`: the part of Go's `text/template` that works on plain data, with kubectl's own functions.
//!
//! Promises: what a template costs is bounded by its own length and the object's: there are no loops but over what the
//! object holds, and templates that call each other do so at most [`DEEPEST`] levels deep. What Go has and this has
//! not is refused by name.

mod eval;
mod functions;
mod parse;

use std::collections::HashMap;

use serde_json::Value;

use super::{
    go_values::{print_value, quote},
    jsonpath::escape_json,
};

/// Levels that templates may call one another.
const DEEPEST: usize = 64;

/// Holds what is wrong with a template, or with what it asks of an object, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Error {
    why: String,
    /// What kubectl prints before it says so.
    pub printed: String,
}

/// The place of a part of a template, and how Go writes that part.
#[derive(Clone, Debug, Default)]
struct Place {
    /// Counts bytes from the template's beginning.
    at: usize,
    text: String,
}

/// The template that has been read.
#[derive(Clone, Debug)]
pub struct GoTemplate {
    text: String,
    body: Vec<Node>,
    /// Those that `define` and `block` name.
    named: HashMap<String, Vec<Node>>,
}

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Print(Pipeline),
    If { condition: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    With { value: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    Range { over: Pipeline, each: Vec<Node>, otherwise: Vec<Node> },
    Call { name: String, with: Option<Pipeline>, place: Place },
    Break,
    Continue,
}

/// Commands, each of which has the result of the one before as its last argument.
#[derive(Clone, Debug)]
struct Pipeline {
    /// Variables that take the result; two of `range`.
    variables: Vec<String>,
    /// They are new, rather than assigned to.
    declares: bool,
    commands: Vec<Command>,
    place: Place,
}

/// A value, or a function with its arguments.
#[derive(Clone, Debug)]
struct Command {
    operands: Vec<Operand>,
    place: Place,
}

#[derive(Clone, Debug)]
struct Operand {
    kind: OperandKind,
    place: Place,
}

#[derive(Clone, Debug)]
enum OperandKind {
    /// `.`
    Dot,
    Literal(Value),
    Nil,
    Variable(String),
    Function(String),
    Group(Box<Pipeline>),
    /// Fields of what stands before.
    Fields(Box<Operand>, Vec<String>),
}

impl GoTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, after the words that kubectl has.
    pub fn parse(text: &str) -> Result<GoTemplate, Error> {
        let mut named = HashMap::new();
        match parse::parse_template(text, &mut named) {
            Ok(body) => Ok(GoTemplate { text: text.to_owned(), body, named }),
            Err((line, why)) => Err(Error {
                why: format!("error parsing template {text}, template: output:{line}: {why}"),
                printed: String::new(),
            }),
        }
    }

    /// Carries the template out; without `missing_allowed` a key that is not there is an error.
    ///
    /// # Errors
    /// What it asks of the object and cannot have.
    pub fn print(&self, object: &Value, missing_allowed: bool) -> Result<String, Error> {
        let mut run = eval::Run::new(self, object, missing_allowed);
        match run.print_body(&self.body, object) {
            Ok(_) => Ok(run.out),
            Err(why) => {
                let (text, why) = (&self.text, run.locate(&why));
                let (raw, object) = (escape_json(object.to_string()), print_value(object));
                Err(Error {
                    printed: format!(
                        "{}Error executing template: {why}. Printing more information for debugging the template:\n\ttemplate was:\n\t\t{text}\n\traw data was:\n\t\t{raw}\n\tobject given to template engine was:\n\t\t{object}\n\n",
                        run.out
                    ),
                    why: format!("error executing template {}: {why}", quote(text)),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn print(template: &str) -> String {
        let object = json!({"metadata": {"name": "web", "labels": {"a.b/c": "d", "tier": "x"}},
            "items": [{"n": 1}, {"n": 2}, {"n": 3}], "none": [], "big": 1_000_000, "yes": true, "ratio": 1.5});
        match GoTemplate::parse(template) {
            Ok(template) => template.print(&object, true).unwrap_or_else(|e| e.to_string()),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn templates_print_what_go_prints() {
        for (template, printed) in [
            ("{{.metadata.name}}", "web"),
            ("{{ .metadata.nope }} {{.a.b.c}}", "<no value> <no value>"),
            (
                "{{.metadata.labels}} {{.items}} {{.none}}",
                "map[a.b/c:d tier:x] [map[n:1] map[n:2] map[n:3]] []",
            ),
            ("{{.big}} {{.yes}} {{.ratio}}", "1000000 true 1.5"),
            ("{{range .items}}{{.n}},{{end}}", "1,2,3,"),
            ("{{range $i, $x := .items}}{{$i}}={{$x.n}} {{end}}", "0=1 1=2 2=3 "),
            ("{{range $k, $v := .metadata.labels}}{{$k}}:{{$v}};{{end}}", "a.b/c:d;tier:x;"),
            ("{{range .none}}x{{else}}none{{end}}", "none"),
            ("{{range .items}}{{if eq .n 2}}{{continue}}{{end}}{{.n}}{{end}}", "13"),
            ("{{range .items}}{{if eq .n 2}}{{break}}{{end}}{{.n}}{{end}}", "1"),
            ("{{with .metadata}}{{.name}} {{$.big}}{{end}}", "web 1000000"),
            ("{{with .nope}}x{{else}}y{{end}}{{with .nope}}x{{else with .yes}}{{.}}{{end}}", "ytrue"),
            ("{{if and .yes (gt .big 5)}}a{{else if .none}}b{{else}}c{{end}}", "a"),
            ("{{if .none}}a{{else if not .nope}}b{{end}}", "b"),
            ("{{index .metadata.labels \"a.b/c\"}} {{(index .items 1).n}} {{len .items}}", "d 2 3"),
            (
                "{{printf \"%s-%d-%v-%q|%5s|%-5s|%05d\" .metadata.name .big .yes \"a\" \"b\" \"c\" 42}}",
                "web-1000000-true-\"a\"|    b|c    |00042",
            ),
            ("{{.metadata.name | printf \"%s!\" | len}}", "4"),
            (
                "{{\"aGk=\" | base64decode}} {{exists . \"metadata\" \"name\"}} {{exists . \"nope\"}}",
                "hi true false",
            ),
            ("a {{- \" b \" -}} c{{/* nothing */}}", "a b c"),
            ("{{$x := 1}}{{if .yes}}{{$x = 2}}{{end}}{{$x}}", "2"),
            ("{{define \"t\"}}<{{.name}}>{{end}}{{template \"t\" .metadata}}", "<web>"),
            (
                "{{`raw\\n`}} {{'a'}} {{print 1 2 \"x\" \"y\"}} {{html \"<a>\"}} {{slice \"abc\" 1 2}}",
                "raw\\n 97 1 2xy &lt;a&gt; b",
            ),
            ("{{or .nope \"z\"}} {{ne 1 2}} {{eq .metadata.name \"a\" \"web\"}}", "z true true"),
        ] {
            assert_eq!(print(template), printed, "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (template, said) in [
            ("{{.a", "unclosed action"),
            ("{{foo}}", "function \"foo\" not defined"),
            ("{{if .a}}", "unexpected EOF"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{$x}}", "undefined variable \"$x\""),
            ("{{index .items 9}}", "index out of range: 9"),
            ("{{.metadata.name.x}}", "can't evaluate field x"),
            ("{{range .yes}}{{end}}", "range can't iterate over true"),
            ("{{if}}{{end}}", "missing value for if"),
            ("{{template \"t\"}}", "template \"t\" not defined"),
            ("{{\"a", "unterminated quoted string"),
        ] {
            assert!(print(template).contains(said), "{template}: {}", print(template));
        }
        for (template, place) in [
            (
                "{{index .items 99}}",
                "output:1:2: executing \"output\" at <index .items 99>: error calling index: index",
            ),
            (
                "a\nbc{{.metadata.name.x}}",
                "output:2:13: executing \"output\" at <.metadata.name.x>: can't evaluate field x in type interface {}",
            ),
            ("{{(index .items 0).n.x}}", "output:1:16: executing \"output\" at <0>: can't evaluate field x"),
            (
                "{{with $x := .items}}{{$x.foo}}{{end}}",
                "output:1:25: executing \"output\" at <$x.foo>: can't evaluate field foo in type []interface {}",
            ),
            (
                "{{not 1 2}}",
                "output:1:2: executing \"output\" at <not>: wrong number of args for not: want 1 got 2",
            ),
            ("{{printf 1}}", "output:1:9: executing \"output\" at <1>: expected string; found 1"),
            (
                "{{eq 1 \"a\"}}",
                "at <eq 1 \"a\">: error calling eq: incompatible types for comparison: int and string",
            ),
            (
                "{{range $i, $e := .metadata.name}}{{end}}",
                "output:1:18: executing \"output\" at <.metadata.name>: range can't iterate over web",
            ),
            (
                "{{define \"t\"}}{{.yes.x}}{{end}}{{template \"t\" .}}",
                "output:1:20: executing \"t\" at <.yes.x>",
            ),
            (
                "{{\"web\" | base64decode}}",
                "error calling base64decode: base64 decode failed: illegal base64 data at input byte 0",
            ),
            ("{{1 2}}", "at <1>: can't give argument to non-function 1"),
            ("{{.yes 1}}", "at <.yes>: yes is not a method but has arguments"),
        ] {
            assert!(print(template).contains(place), "{template}: {}", print(template));
        }
        let partly = GoTemplate::parse("x{{len 1}}").unwrap().print(&json!({"a": "<"}), true).unwrap_err();
        let expected = "xError executing template: template: output:1:3: executing \"output\" at <len 1>: error calling len: len of type int. Printing more information for debugging the template:\n\ttemplate was:\n\t\tx{{len 1}}\n\traw data was:\n\t\t{\"a\":\"\\u003c\"}\n\tobject given to template engine was:\n\t\tmap[a:<]\n\n";
        assert_eq!(partly.printed, expected);
        let strict = GoTemplate::parse("{{.nope}}").unwrap().print(&json!({}), false);
        assert!(strict.unwrap_err().to_string().contains("map has no entry for key \"nope\""));
    }
}
