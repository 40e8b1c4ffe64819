//! YAML as a tree whose nodes know where they stand in the file.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde_json::Value;

use super::{Diagnostic, Severity, Source};

/// Most nodes of a file, aliases counted as often as they are used.
const MOST_NODES: usize = 200_000;

/// Deepest nesting; no type of the API's comes near.
const DEEPEST: usize = 100;

/// What the parser's words mean to somebody who wrote the file.
const MEANINGS: &[(&str, &str)] = &[
    (
        "mapping values are not allowed",
        "this line is indented deeper than the one it follows, or a ':' above has no space after it; text that holds \": \" has to be in quotes",
    ),
    ("did not find expected key", "this line is indented unlike the others of its block"),
    ("did not find expected ',' or", "a '{' above is not closed"),
    ("expected ',' or ']'", "a '[' above is not closed"),
    ("quoted scalar", "a quote above is not closed"),
    (
        "unknown a",
        "an alias, *name, stands for what &name marks further up; text that begins with '*' has to be in quotes",
    ),
    ("unprintable character", "the file is not plain text here: it may be damaged, or no manifest at all"),
    ("valid YAML whitespace", "put a space after the ':'"),
    (
        "cannot start any token",
        "text that begins with a special character, such as @, ` or %, has to be in quotes",
    ),
    ("found a tab", TABS),
    ("tabs disallowed", TABS),
];
const TABS: &str = "YAML does not allow tabs for indentation; use spaces";

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub line: usize,
    pub column: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    /// Each key with its own place.
    Map(Vec<Entry>),
}

/// A key, its place, its value.
pub(super) type Entry = (String, (usize, usize), Node);

impl Node {
    pub(super) fn json(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(all) => Value::Array(all.iter().map(Node::json).collect()),
            Kind::Map(all) => Value::Object(all.iter().map(|(k, _, v)| (k.clone(), v.json())).collect()),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(all) => all.iter().find(|(k, ..)| k == name).map(|(.., v)| v),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        match &mut self.kind {
            Kind::Map(all) => all.iter_mut().find(|(k, ..)| k == name).map(|(.., v)| v),
            _ => None,
        }
    }

    /// The place of a field path, or of what comes nearest above it.
    pub(super) fn position(&self, path: &str) -> (usize, usize) {
        let mut at = self;
        let mut place = (self.line, self.column);
        for part in split(path) {
            match (&at.kind, part) {
                (Kind::Map(all), Part::Name(name)) => match all.iter().find(|(k, ..)| *k == name) {
                    Some((_, key, value)) => (at, place) = (value, *key),
                    None => return place,
                },
                (Kind::List(all), Part::Index(index)) => match all.get(index) {
                    Some(value) => (at, place) = (value, (value.line, value.column)),
                    None => return place,
                },
                _ => return place,
            }
        }
        place
    }
}

enum Part {
    Name(String),
    Index(usize),
}

/// `a.b[0]["c.d"]` in parts.
fn split(path: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner.split_once(']').unwrap_or((inner, ""));
            parts.push(match index.parse() {
                Ok(index) => Part::Index(index),
                Err(_) => Part::Name(index.trim_matches('"').to_owned()),
            });
            rest = after;
        } else {
            let plain = rest.trim_start_matches('.');
            let end = plain.find(['.', '[']).unwrap_or(plain.len());
            parts.push(Part::Name(plain[..end].to_owned()));
            rest = &plain[end..];
        }
    }
    parts
}

/// The documents of a file; empty ones are left out.
pub(super) fn parse(source: &Source) -> Result<Vec<Node>, Box<Diagnostic>> {
    let wrong = |line, column, message: String, help: Option<&str>| {
        Box::new(Diagnostic {
            severity: Severity::Error,
            file: source.name.clone(),
            line,
            column,
            path: String::new(),
            message,
            help: help.map(str::to_owned),
        })
    };
    let mut builder = Builder { anchors: HashMap::new(), count: 0, depth: 0 };
    let mut documents = Vec::new();
    // Editors of other systems begin a file with a mark of its encoding.
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    let mut events = Parser::new_from_str(text);
    loop {
        match events.next() {
            None => return Ok(documents),
            Some(Err(e)) => {
                let at = e.marker();
                return Err(wrong(
                    at.line(),
                    at.col() + 1,
                    e.info().to_owned(),
                    meaning(e.info(), text, at.line()),
                ));
            }
            Some(Ok((Event::DocumentStart(_), _))) => {
                let Some(Ok((event, span))) = events.next() else { continue };
                let node = builder.node(event, span, &mut events).map_err(|(line, column, message)| {
                    let help = meaning(&message, text, line);
                    wrong(line, column, message, help)
                })?;
                if !matches!(node.kind, Kind::Scalar(Value::Null)) {
                    documents.push(node);
                }
            }
            Some(Ok(_)) => {}
        }
    }
}

/// What the parser's complaint about that line means.
fn meaning(words: &str, text: &str, line: usize) -> Option<&'static str> {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    if line.trim_start_matches(' ').starts_with('\t') {
        return Some(TABS);
    }
    MEANINGS.iter().find(|(part, _)| words.contains(part)).map(|(_, meaning)| *meaning)
}

type Failed = (usize, usize, String);

struct Builder {
    anchors: HashMap<usize, Node>,
    count: usize,
    depth: usize,
}

impl Builder {
    fn node<'a, E: Iterator<Item = Result<(Event<'a>, Span), ScanError>>>(
        &mut self,
        event: Event<'a>,
        span: Span,
        events: &mut E,
    ) -> Result<Node, Failed> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        self.count += 1;
        if self.count > MOST_NODES {
            return Err((line, column, "the file is too large, or its aliases multiply without end".into()));
        }
        if self.depth > DEEPEST {
            return Err((line, column, format!("nested deeper than {DEEPEST} levels")));
        }
        let next = |events: &mut E| match events.next() {
            Some(Ok(found)) => Ok(found),
            Some(Err(e)) => Err((e.marker().line(), e.marker().col() + 1, e.info().to_owned())),
            None => Err((line, column, "the document ends too early".to_owned())),
        };
        let (anchor, kind) = match event {
            Event::Alias(anchor) => {
                let node =
                    self.anchors.get(&anchor).cloned().ok_or((line, column, "unknown alias".to_owned()))?;
                self.count += size(&node);
                return Ok(Node { line, column, ..node });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = match tag.as_deref() {
                    Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
                        Value::String(text.into())
                    }
                    Some(tag) if !tag.is_yaml_core_schema() || tag.suffix == "binary" => {
                        return Err((line, column, format!("the tag {tag} has no meaning in a manifest")));
                    }
                    _ => scalar(&text, style),
                };
                (anchor, Kind::Scalar(value))
            }
            Event::SequenceStart(anchor, ..) => {
                self.depth += 1;
                let mut all = Vec::new();
                loop {
                    match next(events)? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => all.push(self.node(event, span, events)?),
                    }
                }
                self.depth -= 1;
                (anchor, Kind::List(all))
            }
            Event::MappingStart(anchor, ..) => {
                self.depth += 1;
                let mut all: Vec<Entry> = Vec::new();
                let mut merged: Vec<Entry> = Vec::new();
                loop {
                    let (event, span) = next(events)?;
                    let place = (span.start.line(), span.start.col() + 1);
                    let key = match event {
                        Event::MappingEnd => break,
                        Event::Scalar(text, ..) => text.into_owned(),
                        _ => return Err((place.0, place.1, "a key must be a plain word".into())),
                    };
                    let (event, span) = next(events)?;
                    let value = self.node(event, span, events)?;
                    if key == "<<" {
                        merged.extend(merge(value)?);
                        continue;
                    }
                    if all.iter().any(|(k, ..)| *k == key) {
                        return Err((place.0, place.1, format!("key {key:?} is already set in this map")));
                    }
                    all.push((key, place, value));
                }
                // What the map says itself wins over what it merges; the first of the merged wins.
                for entry in merged {
                    if all.iter().all(|(k, ..)| *k != entry.0) {
                        all.push(entry);
                    }
                }
                self.depth -= 1;
                (anchor, Kind::Map(all))
            }
            _ => return Err((line, column, "unexpected end of a block".into())),
        };
        let node = Node { line, column, kind };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }
}

/// The entries that `<<` brings: of one map, or of a list of maps.
fn merge(node: Node) -> Result<Vec<Entry>, Failed> {
    let wrong =
        || (node.line, node.column, "only a map, or a list of maps, can be merged with <<".to_owned());
    match node.kind {
        Kind::Map(entries) => Ok(entries),
        Kind::List(maps) => {
            maps.into_iter().map(merge).collect::<Result<Vec<_>, _>>().map(|all| all.concat())
        }
        Kind::Scalar(_) => Err(wrong()),
    }
}

fn size(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar(_) => 1,
        Kind::List(all) => 1 + all.iter().map(size).sum::<usize>(),
        Kind::Map(all) => 1 + all.iter().map(|(.., v)| size(v)).sum::<usize>(),
    }
}

/// Plain scalars as kubectl reads them, by YAML 1.1: `yes` and `on` are true, `0644` is octal.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    let radix =
        |prefix: &str, radix| text.strip_prefix(prefix).and_then(|t| i64::from_str_radix(t, radix).ok());
    if let Some(number) = radix("0x", 16).or_else(|| radix("0b", 2)).or_else(|| radix("0o", 8)) {
        return Value::from(number);
    }
    let octal = text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    let whole = if octal { i64::from_str_radix(text, 8) } else { text.parse::<i64>() };
    if let Ok(number) = whole {
        return Value::from(number);
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    match text.parse::<f64>() {
        Ok(number) if numeric && number.is_finite() => Value::from(number),
        _ => Value::String(text.to_owned()),
    }
}
