//! A file as trees whose nodes know where they stand: its documents, each in YAML or JSON.

use serde_json::Value;

use super::{Diagnostic, Severity, Source, json, yaml};

/// Number of nodes that a file may have, aliases counted as often as they are used.
const MOST_NODES: usize = 200_000;

/// Number of levels that may lie within one another; no type of the API's comes near.
const DEEPEST: usize = 100;

/// The value and its place.
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

/// The key, its place, its value.
pub(super) type Entry = (String, (usize, usize), Node);

impl Node {
    pub(super) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(all) => Value::Array(all.iter().map(Node::to_json).collect()),
            Kind::Map(all) => Value::Object(all.iter().map(|(k, _, v)| (k.clone(), v.to_json())).collect()),
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

    /// Moves every place so many lines further down.
    fn move_down(&mut self, lines: usize) {
        self.line += lines;
        match &mut self.kind {
            Kind::Scalar(_) => {}
            Kind::List(all) => all.iter_mut().for_each(|node| node.move_down(lines)),
            Kind::Map(all) => all.iter_mut().for_each(|(_, place, node)| {
                place.0 += lines;
                node.move_down(lines);
            }),
        }
    }

    /// Number of nodes, itself among them.
    pub(super) fn size(&self) -> usize {
        match &self.kind {
            Kind::Scalar(_) => 1,
            Kind::List(all) => 1 + all.iter().map(Node::size).sum::<usize>(),
            Kind::Map(all) => 1 + all.iter().map(|(.., v)| v.size()).sum::<usize>(),
        }
    }

    /// The place of a field path, or of what comes nearest above it.
    pub(super) fn find_position(&self, path: &str) -> (usize, usize) {
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

/// The reason why a document cannot be read: line and column, each from 1, and what is wrong there.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub line: usize,
    pub column: usize,
    pub message: String,
    pub help: Option<&'static str>,
}

impl Unreadable {
    pub(super) fn new((line, column): (usize, usize), message: impl Into<String>) -> Unreadable {
        Unreadable { line, column, message: message.into(), help: None }
    }
}

/// Tells where the lines of a text begin; only a newline ends one.
pub(super) struct Lines<'a> {
    pub text: &'a str,
    begins: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Lines<'a> {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes());
        Lines { text, begins: std::iter::once(0).chain(ends.map(|at| at + 1)).collect() }
    }

    /// The line and column, each from 1, of an offset.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let line = self.begins.partition_point(|begin| *begin <= offset).max(1);
        let before = self.text.get(self.begins[line - 1]..offset.min(self.text.len()));
        (line, before.map_or(0, |before| before.chars().count()) + 1)
    }
}

/// Holds what the nodes of a document may still come to, so that no file can exhaust this process.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    nodes: usize,
    pub depth: usize,
}

impl Bounds {
    /// Counts so many nodes at that place.
    ///
    /// # Errors
    /// There are too many by now, or they lie too deep.
    pub(super) fn count(&mut self, nodes: usize, place: (usize, usize)) -> Result<(), Unreadable> {
        self.nodes += nodes;
        if self.nodes > MOST_NODES {
            return Err(Unreadable::new(place, "the file is too large, or its aliases multiply without end"));
        }
        if self.depth > DEEPEST {
            return Err(Unreadable::new(place, format!("nested deeper than {DEEPEST} levels")));
        }
        Ok(())
    }
}

/// Returns the documents of a file; empty ones are left out.
pub(super) fn parse(source: &Source) -> Result<Vec<Node>, Box<Diagnostic>> {
    let mut documents = Vec::new();
    let mut bounds = Bounds::default();
    for (first_line, text) in split_documents(&source.text) {
        let read = read_chunk(text, &mut bounds).map_err(|e| {
            let Unreadable { line, column, message, help } = e;
            Box::new(Diagnostic {
                severity: Severity::Error,
                file: source.name.clone(),
                line: line + first_line,
                column,
                path: String::new(),
                message,
                help: help.map(str::to_owned),
            })
        })?;
        for mut node in read.into_iter().filter(|node| !matches!(node.kind, Kind::Scalar(Value::Null))) {
            node.move_down(first_line);
            documents.push(node);
        }
    }
    Ok(documents)
}

/// Reads one part of a file: one value of JSON or several, else YAML, as kubectl tries them.
fn read_chunk(text: &str, bounds: &mut Bounds) -> Result<Vec<Node>, Unreadable> {
    // Editors of other systems begin a file with a mark of its encoding; joined files have it further down.
    let (mark, text) = text.strip_prefix('\u{feff}').map_or((0, text), |rest| (1, rest));
    let begins = text.trim_start();
    let tried = begins.starts_with('{').then(|| json::parse_values(text, bounds));
    let read = match tried {
        Some(Ok(nodes)) => Ok(nodes),
        Some(Err(not_json)) => {
            let quoted = begins[1..].trim_start().starts_with('"');
            yaml::documents(text, bounds).map_err(|e| if quoted { not_json } else { e })
        }
        None => yaml::documents(text, bounds),
    };
    read.map_err(|e| Unreadable { column: e.column + if e.line == 1 { mark } else { 0 }, ..e })
}

/// Returns the parts of a text between lines of `---`, each with the number of lines above it. Each is a file of its
/// own to kubectl, so that anchors end with it and a mark of the encoding may begin it.
fn split_documents(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut begin, mut first_line, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let next = at + line.len();
        let separates = line.strip_prefix("---").is_some_and(|rest| rest.trim().is_empty());
        if separates && !only_directives(&text[begin..at]) {
            parts.push((first_line, &text[begin..at]));
            (begin, first_line) = (next, number + 1);
        }
        at = next;
    }
    parts.push((first_line, &text[begin..]));
    parts
}

/// Tells whether the text is what may stand above the `---` that begins a document: `%YAML 1.1`, and at least that.
fn only_directives(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).peekable();
    lines.peek().is_some() && lines.all(|line| line.trim_start_matches('\u{feff}').starts_with('%'))
}
