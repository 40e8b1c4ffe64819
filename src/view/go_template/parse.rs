//! From a template's text to its nodes.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{Command, Node, Operand, OperandKind, Pipeline, Place, functions::is_function};

/// The line on which something is wrong, and what.
type Wrong = (usize, String);

/// The piece of a template: text, or what stands between braces.
enum Piece<'a> {
    Text(&'a str),
    Action(Vec<Placed>),
}

/// A token and where it stands.
#[derive(Clone, Debug)]
struct Placed {
    token: Token,
    place: Place,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// The keyword or the name of a function.
    Word(String),
    /// `.name`; empty for the dot alone. Whether white space stands before it.
    Field(String, bool),
    Variable(String),
    Literal(Value),
    Pipe,
    Open,
    /// Tells whether fields may follow is told by their not having white space before them.
    Close,
    Comma,
    Declare,
    Assign,
}

/// Reads a template; those that it defines are put into `named`.
pub(super) fn parse_template(text: &str, named: &mut HashMap<String, Vec<Node>>) -> Result<Vec<Node>, Wrong> {
    let pieces = split_pieces(text)?;
    let line = 1 + text.matches('\n').count();
    let mut reader =
        Reader { pieces: pieces.into_iter(), named, variables: vec!["$".to_owned()], line: 1, loops: 0 };
    let (body, end) = reader.read_body()?;
    match end {
        None => Ok(body),
        Some(End::End) => Err((reader.line, "unexpected {{end}}".into())),
        Some(End::Else(_)) => Err((line, "unexpected {{else}}".into())),
    }
}

/// Splits a template into text and actions, each with its line; `{{-` and `-}}` take white space away.
fn split_pieces(text: &str) -> Result<Vec<(usize, Piece<'_>)>, Wrong> {
    let mut pieces = Vec::new();
    let (mut rest, mut line, mut trims) = (text, 1, false);
    loop {
        let (before, inside) = match rest.split_once("{{") {
            Some((before, inside)) => (before, Some(inside)),
            None => (rest, None),
        };
        let at = line;
        line += before.matches('\n').count();
        let before = if trims { before.trim_start() } else { before };
        let Some(inside) = inside else {
            pieces.push((at, Piece::Text(before)));
            return Ok(pieces);
        };
        let left = inside.strip_prefix('-').filter(|rest| rest.starts_with(char::is_whitespace));
        let before = if left.is_some() { before.trim_end() } else { before };
        pieces.push((at, Piece::Text(before)));
        let inside = left.unwrap_or(inside);
        let end = find_end(inside).map_err(|why| (line, why.to_owned()))?;
        let (action, after) = (&inside[..end], &inside[end + 2..]);
        let right = action.strip_suffix('-').filter(|rest| rest.ends_with(char::is_whitespace));
        trims = right.is_some();
        let action = right.unwrap_or(action);
        if !action.trim().starts_with("/*") {
            pieces.push((line, Piece::Action(split_tokens(action, text).map_err(|why| (line, why))?)));
        }
        line += inside[..end].matches('\n').count();
        rest = after;
    }
}

/// Finds where an action ends: braces in quotes and comments do not count.
fn find_end(inside: &str) -> Result<usize, &'static str> {
    if let Some(comment) = inside.trim_start().strip_prefix("/*") {
        let end = comment.find("*/").ok_or("unclosed comment")?;
        let from = inside.len() - comment.len() + end + 2;
        return inside[from..].find("}}").map(|at| from + at).ok_or("comment ends before closing delimiter");
    }
    let mut quote = None;
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            Some(q) if c == q => quote = None,
            Some('"' | '\'') if c == '\\' => drop(chars.next()),
            Some('"' | '\'') if c == '\n' => return Err("unterminated quoted string"),
            Some(_) => {}
            None if "\"'`".contains(c) => quote = Some(c),
            None if inside[at..].starts_with("}}") => return Ok(at),
            None => {}
        }
    }
    Err(if quote.is_some() { "unterminated quoted string" } else { "unclosed action" })
}

/// Splits an action of a template into tokens.
fn split_tokens(action: &str, template: &str) -> Result<Vec<Placed>, String> {
    let mut tokens = Vec::new();
    let mut rest = action;
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let length = |text: &str| text.find(|c| !is_name(c)).unwrap_or(text.len());
    loop {
        let trimmed = rest.trim_start();
        let spaced = trimmed.len() < rest.len() || tokens.is_empty();
        rest = trimmed;
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let (token, used) = match first {
            '|' => (Token::Pipe, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            '=' => (Token::Assign, 1),
            '.' if !is_number(&rest[1..]) => {
                let end = 1 + length(&rest[1..]);
                (Token::Field(rest[1..end].to_owned(), spaced), end)
            }
            '$' => {
                let end = 1 + length(&rest[1..]);
                (Token::Variable(rest[..end].to_owned()), end)
            }
            '"' | '\'' | '`' => {
                let end = 1 + find_quote(&rest[1..], first).ok_or("unterminated quoted string")?;
                (read_quoted(&rest[..=end], first)?, end + 1)
            }
            c if is_number(rest) || "+-.".contains(c) => {
                let end = rest.find(|c: char| !(is_name(c) || "+-.".contains(c))).unwrap_or(rest.len());
                (read_number(&rest[..end])?, end)
            }
            c if is_name(c) => {
                let end = length(rest);
                let token = match &rest[..end] {
                    "true" => Token::Literal(Value::Bool(true)),
                    "false" => Token::Literal(Value::Bool(false)),
                    word => Token::Word(word.to_owned()),
                };
                (token, end)
            }
            other => return Err(format!("unexpected {:?} in command", other.to_string())),
        };
        let at = rest.as_ptr() as usize - template.as_ptr() as usize;
        tokens.push(Placed { token, place: Place { at, text: rest[..used].to_owned() } });
        rest = &rest[used..];
    }
}

fn find_quote(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some(at),
            '\\' if quote != '`' => drop(chars.next()),
            _ => {}
        }
    }
    None
}

fn read_quoted(text: &str, quote: char) -> Result<Token, String> {
    let inner = &text[1..text.len() - 1];
    if quote == '`' {
        return Ok(Token::Literal(inner.into()));
    }
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let digits = |chars: &mut std::str::Chars<'_>, count| {
            let text: String = chars.take(count).collect();
            u32::from_str_radix(&text, 16).ok().and_then(char::from_u32)
        };
        let wrong = || format!("invalid syntax: {text}");
        out.push(match chars.next() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('a') => '\x07',
            Some('b') => '\x08',
            Some('f') => '\x0c',
            Some('v') => '\x0b',
            Some('x') => digits(&mut chars, 2).ok_or_else(wrong)?,
            Some('u') => digits(&mut chars, 4).ok_or_else(wrong)?,
            Some('U') => digits(&mut chars, 8).ok_or_else(wrong)?,
            Some(c @ ('\\' | '"' | '\'')) => c,
            _ => return Err(wrong()),
        });
    }
    match (quote, out.chars().next()) {
        ('\'', Some(c)) if out.chars().count() == 1 => Ok(Token::Literal(u32::from(c).into())),
        ('\'', _) => Err(format!("malformed character constant: {text}")),
        _ => Ok(Token::Literal(out.into())),
    }
}

fn read_number(text: &str) -> Result<Token, String> {
    let plain = text.replace('_', "");
    let unsigned = plain.trim_start_matches(['+', '-']);
    let sign = if plain.starts_with('-') { -1 } else { 1 };
    let radix = |prefix: &str, radix| {
        unsigned.strip_prefix(prefix).and_then(|digits| i64::from_str_radix(digits, radix).ok())
    };
    let whole = radix("0x", 16).or_else(|| radix("0b", 2)).or_else(|| radix("0o", 8));
    if let Some(number) = whole.or_else(|| unsigned.parse().ok()) {
        return Ok(Token::Literal((sign * number).into()));
    }
    let number: f64 = plain.parse().map_err(|_| format!("bad number syntax: {text:?}"))?;
    Ok(Token::Literal(json!(number)))
}

/// Tells how a body ends.
enum End {
    End,
    /// Reads what follows `else` as well.
    Else(Vec<Placed>),
}

struct Reader<'a, 'n> {
    pieces: std::vec::IntoIter<(usize, Piece<'a>)>,
    named: &'n mut HashMap<String, Vec<Node>>,
    /// Those that are known here.
    variables: Vec<String>,
    line: usize,
    /// Loops around this place.
    loops: usize,
}

impl Reader<'_, '_> {
    /// Reads nodes up to the end of the template or of the body that they are in.
    fn read_body(&mut self) -> Result<(Vec<Node>, Option<End>), Wrong> {
        let mut nodes = Vec::new();
        while let Some((line, piece)) = self.pieces.next() {
            self.line = line;
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.to_owned()));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let Some(Token::Word(word)) = tokens.first().map(|first| &first.token) else {
                nodes.push(Node::Print(self.read_pipeline(&tokens, "command")?));
                continue;
            };
            let rest = &tokens[1..];
            match word.as_str() {
                "end" => return Ok((nodes, Some(End::End))),
                "else" => return Ok((nodes, Some(End::Else(rest.to_vec())))),
                "if" | "with" | "range" => {
                    let node = self.read_block(word, rest)?;
                    nodes.push(node);
                }
                "break" | "continue" if self.loops == 0 => {
                    return Err((line, format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                "template" => nodes.push(self.read_call(rest)?),
                "define" | "block" => {
                    let call = self.read_call(rest)?;
                    let (known, loops) = (
                        std::mem::replace(&mut self.variables, vec!["$".into()]),
                        std::mem::take(&mut self.loops),
                    );
                    let body = self.read_until_end()?;
                    (self.variables, self.loops) = (known, loops);
                    if let Node::Call { name, .. } = &call {
                        self.named.insert(name.clone(), body);
                    }
                    nodes.extend((word == "block").then_some(call));
                }
                _ => nodes.push(Node::Print(self.read_pipeline(&tokens, "command")?)),
            }
        }
        Ok((nodes, None))
    }

    fn read_until_end(&mut self) -> Result<Vec<Node>, Wrong> {
        match self.read_body()? {
            (body, Some(End::End)) => Ok(body),
            (_, Some(End::Else(_))) => Err((self.line, "expected end; found {{else}}".into())),
            (_, None) => Err((self.line, "unexpected EOF".into())),
        }
    }

    /// `if`, `with` and `range`, and what of it comes after `else`.
    fn read_block(&mut self, word: &str, tokens: &[Placed]) -> Result<Node, Wrong> {
        let known = self.variables.len();
        let head = self.read_pipeline(tokens, word)?;
        self.loops += usize::from(word == "range");
        let (then, end) = self.read_body()?;
        self.loops -= usize::from(word == "range");
        let otherwise = match end {
            None => return Err((self.line, "unexpected EOF".into())),
            Some(End::End) => Vec::new(),
            Some(End::Else(tokens)) => match tokens.split_first() {
                None => self.read_until_end()?,
                Some((Placed { token: Token::Word(next), .. }, rest)) if next == word && word != "range" => {
                    vec![self.read_block(word, rest)?]
                }
                Some(_) => return Err((self.line, "unexpected token in {{else}}".into())),
            },
        };
        self.variables.truncate(known);
        Ok(match word {
            "if" => Node::If { condition: head, then, otherwise },
            "with" => Node::With { value: head, then, otherwise },
            _ => Node::Range { over: head, each: then, otherwise },
        })
    }

    /// `template "name" PIPELINE`
    fn read_call(&mut self, tokens: &[Placed]) -> Result<Node, Wrong> {
        let Some((Placed { token: Token::Literal(Value::String(name)), place }, rest)) = tokens.split_first()
        else {
            let found = tokens.first().map_or("}}", |token| &token.place.text);
            return Err((self.line, format!("unexpected {found:?} in template clause")));
        };
        let with = (!rest.is_empty()).then(|| self.read_pipeline(rest, "template clause")).transpose()?;
        let argument = with.as_ref().map(|with| format!(" {}", with.place.text)).unwrap_or_default();
        let text = format!("{{{{template {}{argument}}}}}", place.text);
        Ok(Node::Call { name: name.clone(), with, place: Place { at: place.at, text } })
    }

    /// Reads a pipeline that is the value of `what`.
    fn read_pipeline(&mut self, tokens: &[Placed], what: &str) -> Result<Pipeline, Wrong> {
        let (mut variables, mut declares, mut rest) = (Vec::new(), false, tokens);
        let kinds: Vec<&Token> = tokens.iter().map(|placed| &placed.token).collect();
        match kinds[..] {
            [Token::Variable(a), how @ (Token::Declare | Token::Assign), ..] => {
                (variables, declares, rest) = (vec![a.clone()], *how == Token::Declare, &tokens[2..]);
            }
            [
                Token::Variable(a),
                Token::Comma,
                Token::Variable(b),
                how @ (Token::Declare | Token::Assign),
                ..,
            ] if what == "range" => {
                let all = vec![a.clone(), b.clone()];
                (variables, declares, rest) = (all, *how == Token::Declare, &tokens[4..]);
            }
            _ => {}
        }
        let mut at = 0;
        let (commands, place) = self.read_commands(rest, &mut at, what)?;
        if at < rest.len() {
            return Err((self.line, "unexpected right paren".into()));
        }
        let unknown = variables.iter().find(|name| !declares && !self.variables.contains(name));
        if let Some(name) = unknown {
            return Err((self.line, format!("undefined variable {name:?}")));
        }
        self.variables.extend(variables.iter().filter(|_| declares).cloned());
        Ok(Pipeline { variables, declares, commands, place })
    }

    /// Reads commands up to the end or to what closes a group; with the place of them all.
    fn read_commands(
        &self,
        tokens: &[Placed],
        at: &mut usize,
        what: &str,
    ) -> Result<(Vec<Command>, Place), Wrong> {
        let mut commands: Vec<Vec<Operand>> = vec![Vec::new()];
        while let Some(Placed { token, place }) = tokens.get(*at) {
            if *token == Token::Close {
                break;
            }
            *at += 1;
            let place = place.clone();
            let mut operand = match token {
                Token::Pipe => {
                    if commands.last().is_some_and(Vec::is_empty) {
                        return Err((self.line, "unexpected \"|\" in command".into()));
                    }
                    commands.push(Vec::new());
                    continue;
                }
                Token::Open => {
                    let (commands, inner) = self.read_commands(tokens, at, "parenthesized pipeline")?;
                    if tokens.get(*at).map(|placed| &placed.token) != Some(&Token::Close) {
                        return Err((self.line, "unclosed left paren".into()));
                    }
                    *at += 1;
                    let place = Place { at: place.at, text: format!("({})", inner.text) };
                    let group = Pipeline { variables: Vec::new(), declares: false, commands, place: inner };
                    Operand { kind: OperandKind::Group(Box::new(group)), place }
                }
                token => Operand { kind: self.read_operand(token, &place)?, place },
            };
            let (mut fields, mut chained) = (Vec::new(), None);
            while let Some(Placed { token: Token::Field(name, false), place }) = tokens.get(*at) {
                fields.push(name.clone());
                // Go notes where the second part of a path stands.
                chained.get_or_insert(place.at);
                operand.place.text += &place.text;
                *at += 1;
            }
            if let Some(chained) = chained {
                operand.place.at = chained;
                operand = match operand {
                    Operand { kind: OperandKind::Fields(of, mut own), place } => {
                        own.extend(fields);
                        Operand { kind: OperandKind::Fields(of, own), place }
                    }
                    other => {
                        let place = other.place.clone();
                        Operand { kind: OperandKind::Fields(Box::new(other), fields), place }
                    }
                };
            }
            commands.last_mut().into_iter().for_each(|command| command.push(operand.clone()));
        }
        // A pipe at the end leads nowhere.
        if commands.len() > 1 && commands.last().is_some_and(Vec::is_empty) {
            commands.pop();
        }
        if commands.last().is_some_and(Vec::is_empty) {
            return Err((self.line, format!("missing value for {what}")));
        }
        for (stage, command) in commands.iter().enumerate().skip(1) {
            if let [Operand { kind: OperandKind::Literal(_) | OperandKind::Dot | OperandKind::Nil, .. }, ..] =
                command[..]
            {
                let what = format!("non executable command in pipeline stage {}", stage + 1);
                return Err((self.line, what));
            }
        }
        let made: Vec<Command> = commands.into_iter().map(make_command).collect();
        let texts: Vec<&str> = made.iter().map(|command| command.place.text.as_str()).collect();
        let begin = made.first().map_or(0, |command| command.place.at);
        let place = Place { at: begin, text: texts.join(" | ") };
        Ok((made, place))
    }

    fn read_operand(&self, token: &Token, place: &Place) -> Result<OperandKind, Wrong> {
        Ok(match token {
            Token::Field(name, _) if name.is_empty() => OperandKind::Dot,
            Token::Field(name, _) => {
                let dot = Operand { kind: OperandKind::Dot, place: place.clone() };
                OperandKind::Fields(Box::new(dot), vec![name.clone()])
            }
            Token::Literal(value) => OperandKind::Literal(value.clone()),
            Token::Word(word) if word == "nil" => OperandKind::Nil,
            Token::Word(word) if is_function(word) => OperandKind::Function(word.clone()),
            Token::Word(word) => return Err((self.line, format!("function {word:?} not defined"))),
            Token::Variable(name) if self.variables.contains(name) => OperandKind::Variable(name.clone()),
            Token::Variable(name) => return Err((self.line, format!("undefined variable {name:?}"))),
            _ => return Err((self.line, format!("unexpected {:?} in operand", place.text))),
        })
    }
}

fn make_command(operands: Vec<Operand>) -> Command {
    let texts: Vec<&str> = operands.iter().map(|operand| operand.place.text.as_str()).collect();
    let text = texts.join(" ");
    let at = operands.first().map_or(0, |first| first.begin());
    Command { place: Place { at, text }, operands }
}

impl Operand {
    /// Tells where it begins, which for a path is before the place that Go notes.
    fn begin(&self) -> usize {
        match &self.kind {
            OperandKind::Fields(of, _) => of.begin(),
            _ => self.place.at,
        }
    }
}
