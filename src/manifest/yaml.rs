//! YAML as nodes with places, read as kubectl reads it: by the rules of libyaml and YAML 1.1, of which kubectl's reader is
//! another port.

use std::{borrow::Cow, collections::HashMap};

use k8s_openapi::ByteString;
use serde_json::Value;

use super::{
    document_tree::{Bounds, Entry, Kind, Lines, Node, Unreadable},
    json::whole,
    libyaml::{Event, Parser, Scalar},
};

/// Names what the parser's words mean to somebody who wrote the file.
const MEANINGS: &[(&str, &str)] = &[
    (
        "mapping values are not allowed",
        "this line is indented deeper than the one it follows, or a ':' above has no space after it; text that holds \": \" has to be in quotes",
    ),
    ("did not find expected ',' or '}'", "a '{' above is not closed"),
    ("did not find expected ',' or ']'", "a '[' above is not closed"),
    ("did not find expected key", "this line is indented unlike the others of its block"),
    ("did not find expected '-'", "this line is indented unlike the others of its list"),
    ("quoted scalar, found unexpected", "a quote above is not closed"),
    ("escape", "in double quotes a backslash begins an escape; in single quotes it is an ordinary character"),
    ("could not find expected ':'", "a ':' is missing here, or the line above is not finished"),
    (
        "alphabetic or numeric",
        "'*name' stands for what '&name' marks further up; text that begins with '*' or '&' has to be in quotes",
    ),
    (
        "unknown anchor",
        "an alias, *name, stands for what &name marks further up; text that begins with '*' has to be in quotes",
    ),
    ("control character", "the file is not plain text here: it may be damaged, or no manifest at all"),
    (
        "cannot start any token",
        "text that begins with a special character, such as @, ` or %, has to be in quotes",
    ),
    ("found a tab", TABS),
];
const TABS: &str = "YAML does not allow tabs for indentation; use spaces";

/// Returns the documents of a text.
///
/// # Errors
/// The first place that is no YAML.
pub(super) fn documents(text: &str, bounds: &mut Bounds) -> Result<Vec<Node>, Unreadable> {
    let failed = |e: Unreadable| Unreadable {
        help: e.help.or_else(|| explain_problem(&e.message, text, e.line)),
        ..e
    };
    // As kubectl takes a file line by line, its last one ends, too, which a block of text there shows.
    let ended = if text.ends_with('\n') { Cow::Borrowed(text) } else { Cow::Owned(format!("{text}\n")) };
    let text = ended.as_ref();
    let lines = Lines::of(text);
    plain_text(&lines).map_err(failed)?;
    let characters = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
    let mut builder =
        Builder { parser: Parser::new(text), lines, characters, anchors: HashMap::new(), bounds };
    let mut found = Vec::new();
    loop {
        match builder.next().map_err(failed)? {
            (Event::StreamEnd, _) => return Ok(found),
            (Event::DocumentStart, _) => builder.anchors.clear(),
            (Event::Other, _) => {}
            (event, place) => found.push(builder.node(event, place).map_err(failed)?),
        }
    }
}

/// Refuses what no text has; the parser would not say where it stands.
fn plain_text(lines: &Lines<'_>) -> Result<(), Unreadable> {
    let plain = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{85}') || !c.is_control();
    match lines.text.char_indices().find(|(_, c)| !plain(*c)) {
        None => Ok(()),
        Some((at, c)) => {
            let message = format!("found the control character U+{:04X}", u32::from(c));
            Err(Unreadable::new(lines.place(at), message))
        }
    }
}

/// Returns what the parser's complaint about that line means.
fn explain_problem(words: &str, text: &str, line: usize) -> Option<&'static str> {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let of_indentation = words.contains("token") || words.contains("expected key") || words.contains("':'");
    if of_indentation && line.trim_start_matches(' ').starts_with('\t') {
        return Some(TABS);
    }
    MEANINGS.iter().find(|(part, _)| words.contains(part)).map(|(_, meaning)| *meaning)
}

struct Builder<'a, 'b> {
    parser: Parser<'a>,
    lines: Lines<'a>,
    /// The offset of each character, unless each is one byte.
    characters: Option<Vec<usize>>,
    anchors: HashMap<String, Node>,
    bounds: &'b mut Bounds,
}

impl Builder<'_, '_> {
    /// Returns the next event and its place.
    fn next(&mut self) -> Result<(Event, (usize, usize)), Unreadable> {
        match self.parser.next() {
            Ok((event, at)) => Ok((event, self.place(at))),
            Err(problem) => {
                // A quote that nobody closes is looked for where it is opened.
                let unclosed = problem.message.contains("quoted scalar, found unexpected");
                let at = if unclosed { problem.begins } else { problem.at };
                Err(Unreadable::new(self.place(at), problem.message))
            }
        }
    }

    /// The place of what so many characters stand before.
    fn place(&self, characters: usize) -> (usize, usize) {
        let offset = self
            .characters
            .as_ref()
            .map_or(characters, |all| all.get(characters).copied().unwrap_or(self.lines.text.len()));
        self.lines.place(offset)
    }

    fn node(&mut self, event: Event, place: (usize, usize)) -> Result<Node, Unreadable> {
        self.bounds.count(1, place)?;
        let (line, column) = place;
        let (anchor, kind) = match event {
            Event::Alias { anchor } => {
                let unknown = || Unreadable::new(place, format!("unknown anchor {anchor:?}"));
                let node = self.anchors.get(&anchor).cloned().ok_or_else(unknown)?;
                self.bounds.count(node.size(), place)?;
                return Ok(Node { line, column, ..node });
            }
            Event::Scalar(scalar) => {
                let value = value(&scalar).map_err(|message| Unreadable::new(place, message))?;
                (scalar.anchor, Kind::Scalar(value))
            }
            Event::ListStart { anchor } => (anchor, self.list()?),
            Event::MapStart { anchor } => (anchor, self.map()?),
            _ => return Err(Unreadable::new(place, "the document ends too early")),
        };
        let node = Node { line, column, kind };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Kind, Unreadable> {
        self.bounds.depth += 1;
        let mut all = Vec::new();
        loop {
            match self.next()? {
                (Event::ListEnd, _) => break,
                (event, place) => all.push(self.node(event, place)?),
            }
        }
        self.bounds.depth -= 1;
        Ok(Kind::List(all))
    }

    fn map(&mut self) -> Result<Kind, Unreadable> {
        self.bounds.depth += 1;
        let mut all: Vec<Entry> = Vec::new();
        // Keys of the map itself; what `<<` brings may be set again further down.
        let mut own: Vec<String> = Vec::new();
        loop {
            let (key, at) = match self.next()? {
                (Event::MapEnd, _) => break,
                (Event::Scalar(key), at) => (key, at),
                (_, at) => return Err(Unreadable::new(at, "a key must be a plain word")),
            };
            let (event, place) = self.next()?;
            let value = self.node(event, place)?;
            if key.plain && key.text == "<<" && key.tag.is_none() {
                merge(value, &mut all)?;
                continue;
            }
            let key = key_text(&key).map_err(|message| Unreadable::new(at, message))?;
            if own.contains(&key) {
                return Err(Unreadable::new(at, format!("key {key:?} is already set in this map")));
            }
            own.push(key.clone());
            set(&mut all, (key, at, value));
        }
        self.bounds.depth -= 1;
        Ok(Kind::Map(all))
    }
}

fn set(all: &mut Vec<Entry>, entry: Entry) {
    match all.iter_mut().find(|(key, ..)| *key == entry.0) {
        Some(known) => *known = entry,
        None => all.push(entry),
    }
}

/// Sets what `<<` brings, of one map or of a list of maps, the first of which wins. As in kubectl it also wins over what
/// stands above it.
fn merge(node: Node, all: &mut Vec<Entry>) -> Result<(), Unreadable> {
    match node.kind {
        Kind::Map(entries) => entries.into_iter().for_each(|entry| set(all, entry)),
        Kind::List(maps) => maps.into_iter().rev().try_for_each(|map| merge(map, all))?,
        Kind::Scalar(_) => {
            let message = "only a map, or a list of maps, can be merged with <<";
            return Err(Unreadable::new((node.line, node.column), message));
        }
    }
    Ok(())
}

/// Returns a key as the text that JSON has for it.
fn key_text(key: &Scalar) -> Result<String, String> {
    match value(key)? {
        Value::String(text) => Ok(text),
        Value::Null => Err("a key must be a plain word, and null is none".to_owned()),
        value => Ok(value.to_string()),
    }
}

/// Returns a scalar's value, by its tag or else by its looks. Tags of nobody's kind leave it the text that it is.
fn value(scalar: &Scalar) -> Result<Value, String> {
    let text = scalar.text.as_str();
    let Some(tag) = &scalar.tag else { return if scalar.plain { plain(text) } else { Ok(text.into()) } };
    let Some(kind) = tag.strip_prefix("tag:yaml.org,2002:") else { return Ok(text.into()) };
    let value = match kind {
        "binary" => return decode_binary(text),
        "int" | "float" | "bool" | "null" => plain(text)?,
        _ => return Ok(text.into()),
    };
    let fits = match kind {
        "int" => value.is_i64() || value.is_u64(),
        "float" => value.is_number(),
        "bool" => value.is_boolean(),
        _ => value.is_null(),
    };
    if fits { Ok(value) } else { Err(format!("cannot read {text:?} as a !!{kind}")) }
}

fn decode_binary(text: &str) -> Result<Value, String> {
    let compact: String = text.split_whitespace().collect();
    let bytes: ByteString = serde_json::from_value(compact.into())
        .map_err(|e| format!("!!binary is followed by base64, and this is none: {e}"))?;
    Ok(String::from_utf8_lossy(&bytes.0).into())
}

/// Returns a plain scalar as kubectl reads it, by YAML 1.1: `yes` and `on` are true, `0644` is octal, `1_000` a thousand.
fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Ok(Value::Bool(true));
        }
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Ok(Value::Bool(false));
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" | ".nan"
        | ".NaN" | ".NAN" => {
            return Err(format!("{text} is a number that JSON does not have; put it in quotes"));
        }
        _ => {}
    }
    let first = text.as_bytes()[0];
    if first == b'.' {
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        return Ok(number.map_or_else(|| text.into(), |number| whole(number.into())));
    }
    if !matches!(first, b'0'..=b'9' | b'+' | b'-') {
        return Ok(text.into());
    }
    let digits = text.replace('_', "");
    if let Some(number) = parse_integer(&digits) {
        return Ok(number);
    }
    let float = digits.parse::<f64>().ok().filter(|number| number.is_finite() && is_float(&digits));
    Ok(float.map_or_else(|| text.into(), |number| whole(number.into())))
}

/// Returns an integer with the sign and the prefix of its base, as Go reads it.
fn parse_integer(text: &str) -> Option<Value> {
    let (negative, rest) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let lower = rest.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()?;
    let number = if negative { -number } else { number };
    i64::try_from(number).map(Value::from).or_else(|_| u64::try_from(number).map(Value::from)).ok()
}

/// `-1.5e3`: digits with a point and an exponent, and no more than that.
fn is_float(text: &str) -> bool {
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = rest.split_once(['e', 'E']).map_or((rest, None), |(m, e)| (m, Some(e)));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(part)
        && !(whole.is_empty() && part.is_empty())
        && exponent.is_none_or(|e| {
            let e = e.strip_prefix(['+', '-']).unwrap_or(e);
            !e.is_empty() && digits(e)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_what_kubectl_takes_them_for() {
        let json = |text: &str| plain(text).unwrap().to_string();
        for (text, wanted) in [
            ("0644", "420"),
            ("0o17", "15"),
            ("0X1F", "31"),
            ("-0b11", "-3"),
            ("1_000", "1000"),
            ("+5", "5"),
            ("08", "8"),
            ("1e3", "1000"),
            ("1.50", "1.5"),
            (".5", "0.5"),
            ("18446744073709551615", "18446744073709551615"),
            ("1.2.3", "\"1.2.3\""),
            ("2024-01-01", "\"2024-01-01\""),
            ("12:30:45", "\"12:30:45\""),
            ("-", "\"-\""),
            ("+", "\"+\""),
            ("0x", "\"0x\""),
            ("1e", "\"1e\""),
            ("nan", "\"nan\""),
            ("infinity", "\"infinity\""),
            ("on", "true"),
            ("Off", "false"),
            ("oN", "\"oN\""),
        ] {
            assert_eq!(json(text), wanted, "{text}");
        }
        assert!(plain(".inf").is_err());
    }

    #[test]
    fn tags_say_what_a_scalar_is_and_foreign_ones_leave_it_text() {
        let tagged = |text: &str, tag: &str| Scalar {
            anchor: None,
            tag: Some(tag.into()),
            text: text.into(),
            plain: false,
        };
        for (text, tag, wanted) in [
            ("1", "tag:yaml.org,2002:str", "\"1\""),
            ("1", "!own", "\"1\""),
            ("aGVs\n bG8=\n", "tag:yaml.org,2002:binary", "\"hello\""),
            ("12", "tag:yaml.org,2002:int", "12"),
        ] {
            assert_eq!(value(&tagged(text, tag)).unwrap().to_string(), wanted);
        }
        assert!(value(&tagged("x", "tag:yaml.org,2002:int")).is_err());
    }
}
