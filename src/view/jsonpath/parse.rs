//! Text → nodes.

use serde_json::Value;

use super::{Node, Operator, Slice};

/// Names what ends a name; a backslash before it takes that from it.
const TERMINATORS: &str = ".,[]$@{} \t\r\n";

/// Reads a whole template. Ranges become a tree.
pub(super) fn parse_template(text: &str) -> Result<Vec<Node>, String> {
    // The enclosing ranges' paths, each with what came before it.
    let mut open: Vec<(Vec<Node>, Vec<Node>)> = Vec::new();
    let mut nodes = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some(brace) = rest.find('{') else {
            nodes.push(Node::Literal(rest.into()));
            break;
        };
        if brace > 0 {
            nodes.push(Node::Literal(rest[..brace].into()));
        }
        let end = find_closing(&rest[brace + 1..]).ok_or_else(|| name_open_part(&rest[brace..]))? + brace + 1;
        let action = rest[brace + 1..end].trim();
        rest = &rest[end + 1..];
        if let Some(over) =
            action.strip_prefix("range").filter(|p| p.starts_with(|c| TERMINATORS.contains(c)))
        {
            open.push((std::mem::take(&mut nodes), path(over)?));
        } else if action == "end" {
            match open.pop() {
                Some((before, over)) => {
                    let body = std::mem::replace(&mut nodes, before);
                    nodes.push(Node::Range { path: over, body });
                }
                None => nodes.push(Node::StrayEnd),
            }
        } else {
            nodes.push(Node::Path(path(action)?));
        }
    }
    // kubectl takes the end of the template for the end of what is open.
    while let Some((before, over)) = open.pop() {
        let body = std::mem::replace(&mut nodes, before);
        nodes.push(Node::Range { path: over, body });
    }
    Ok(nodes)
}

/// Tells where the brace closes; one in quotes does not.
fn find_closing(text: &str) -> Option<usize> {
    let mut quotes = Quotes::default();
    text.char_indices().find(|(_, c)| quotes.outside(*c) && *c == '}').map(|(at, _)| at)
}

/// Names what a template that breaks off leaves open: an array before the action around it.
fn name_open_part(text: &str) -> &'static str {
    let mut quotes = Quotes::default();
    for c in text.chars() {
        quotes.outside(c);
    }
    if quotes.open.is_some() {
        return "unterminated quoted string";
    }
    if text.rfind('[') > text.rfind(']') { "unterminated array" } else { "unclosed action" }
}

/// Tells what stands in quotes from what does not.
#[derive(Default)]
struct Quotes {
    open: Option<char>,
    escaped: bool,
}

impl Quotes {
    /// Takes the next character; whether it stands outside.
    fn outside(&mut self, c: char) -> bool {
        let was = self.open;
        match (self.escaped, c, self.open) {
            (true, ..) => self.escaped = false,
            (_, '\\', _) => self.escaped = true,
            (_, '"' | '\'', None) => self.open = Some(c),
            (_, _, Some(open)) if c == open => self.open = None,
            _ => {}
        }
        was.is_none() && !matches!(c, '"' | '\'')
    }
}

/// Returns what stands in one pair of braces.
fn path(text: &str) -> Result<Vec<Node>, String> {
    let mut nodes = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match c {
            ' ' | '\t' | '\n' | '@' | '$' => rest = &rest[1..],
            '.' if rest.starts_with("..") => {
                if nodes.last() == Some(&Node::Recursive) {
                    return Err("invalid multiple recursive descent".into());
                }
                nodes.push(Node::Recursive);
                // `..name` goes on as `.name` would.
                let is_name = rest[2..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
                rest = if is_name { &rest[1..] } else { &rest[2..] };
            }
            '.' => {
                let (name, after) = name(&rest[1..]);
                match name.as_str() {
                    "*" => nodes.push(Node::Wildcard),
                    _ => nodes.push(Node::Field(name)),
                }
                rest = after;
            }
            '[' => {
                let mut quotes = Quotes::default();
                let mut depth = 0;
                let end = rest.char_indices().find(|(_, c)| {
                    if quotes.outside(*c) {
                        depth += i32::from(*c == '[') - i32::from(*c == ']');
                    }
                    depth == 0
                });
                let end = end.ok_or("unterminated array")?.0;
                nodes.push(parse_array(&rest[1..end])?);
                rest = &rest[end + 1..];
            }
            '"' | '\'' => {
                let (literal, after) = parse_quoted(rest)?;
                nodes.push(Node::Literal(literal.into()));
                rest = after;
            }
            '+' | '-' | '0'..='9' => {
                let digits = |c: char| c == '.' || c.is_ascii_digit();
                let end = rest[1..].find(|c| !digits(c)).map_or(rest.len(), |end| end + 1);
                let number = &rest[..end];
                let value = number.trim_start_matches('+').parse::<i64>().map(Value::from);
                let value = value.ok().or_else(|| number.parse::<f64>().ok().map(Value::from));
                nodes.push(Node::Literal(value.ok_or(format!("cannot parse number {number}"))?));
                rest = &rest[end..];
            }
            c if c.is_alphanumeric() || c == '_' => {
                let (word, after) = name(rest);
                match word.as_str() {
                    "true" | "false" => nodes.push(Node::Literal((word == "true").into())),
                    _ => nodes.push(Node::Unknown(word)),
                }
                rest = after;
            }
            c => {
                return Err(format!("unrecognized character in action: U+{:04X} '{c}'", u32::from(c)));
            }
        }
    }
    Ok(nodes)
}

/// Returns a name without its backslashes, and what follows it.
fn name(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => out.extend(chars.next().map(|(_, escaped)| escaped)),
            c if TERMINATORS.contains(c) => return (out, &text[at..]),
            c => out.push(c),
        }
    }
    (out, "")
}

/// Returns a string in quotes, and what follows it.
fn parse_quoted(text: &str) -> Result<(String, &str), String> {
    let quote = text.chars().next().unwrap_or('"');
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((out, &text[at + 1..])),
            '\\' => out.extend(chars.next().map(|(_, c)| match c {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            })),
            c => out.push(c),
        }
    }
    Err("unterminated quoted string".into())
}

/// Returns what stands in one pair of brackets.
fn parse_array(text: &str) -> Result<Node, String> {
    if let Some(filter) = text.strip_prefix("?(") {
        return self::parse_filter(filter.strip_suffix(')').ok_or("unterminated filter")?);
    }
    let parts = split(text);
    if parts.len() > 1 {
        let paths = parts.into_iter().map(|part| Ok(vec![parse_array(part)?]));
        return Ok(Node::Union(paths.collect::<Result<_, String>>()?));
    }
    if text == "*" {
        return Ok(Node::Slice(Slice::Part { start: None, end: None, step: 1 }));
    }
    // A key may be a path.
    if let Some(key) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return Ok(Node::Path(path(&format!(".{key}"))?));
    }
    let number = |part: &str| match part {
        "" => Ok(None),
        digits => digits.parse::<i64>().map(Some).map_err(|_| format!("invalid array index {text}")),
    };
    let numbers = text.split(':').map(number).collect::<Result<Vec<_>, _>>()?;
    match numbers[..] {
        // Nothing is the first.
        [index] => Ok(Node::Slice(Slice::Index(index.unwrap_or(0)))),
        [start, end] => Ok(Node::Slice(Slice::Part { start, end, step: 1 })),
        [start, end, step] => Ok(Node::Slice(Slice::Part { start, end, step: step.unwrap_or(1) })),
        _ => Err(format!("invalid array index {text}")),
    }
}

/// The parts between commas that stand in no quotes.
fn split(text: &str) -> Vec<&str> {
    let mut quotes = Quotes::default();
    let mut parts = Vec::new();
    let mut begin = 0;
    for (at, c) in text.char_indices() {
        if quotes.outside(c) && c == ',' {
            parts.push(text[begin..at].trim());
            begin = at + 1;
        }
    }
    parts.push(text[begin..].trim());
    parts
}

fn parse_filter(text: &str) -> Result<Node, String> {
    let mut quotes = Quotes::default();
    let found = text.char_indices().find(|(_, c)| quotes.outside(*c) && "!<>=".contains(*c));
    let Some((at, _)) = found else {
        return Ok(Node::Filter { left: path(text)?, compared: None });
    };
    let end = text[at..].find(|c| !"!<>=".contains(c)).ok_or("unterminated filter")? + at;
    let operator = match &text[at..end] {
        "==" => Operator::Equal,
        "!=" => Operator::NotEqual,
        "<" => Operator::Less,
        "<=" => Operator::LessOrEqual,
        ">" => Operator::Greater,
        ">=" => Operator::GreaterOrEqual,
        other => Operator::Unknown(other.to_owned()),
    };
    Ok(Node::Filter { left: path(&text[..at])?, compared: Some((operator, path(text[end..].trim())?)) })
}
