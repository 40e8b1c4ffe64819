//! A template carried out on an object.

use serde_json::Value;

use super::{
    super::go_values::{print_value, type_name},
    Command, DEEPEST, GoTemplate, Node, Operand, OperandKind, Pipeline, Place,
    functions::{call_function, check_count, is_true},
};

/// The number up to which a template's ranges may count together: Go would go on for as long as one wants to wait.
const MOST_COUNTED: u64 = 1_000_000;

/// The template on its way.
pub(super) struct Run<'a> {
    template: &'a GoTemplate,
    missing_allowed: bool,
    /// The newest last.
    variables: Vec<(String, Value)>,
    depth: usize,
    /// The sum of all numbers that have been counted to.
    counted: u64,
    /// The name of the template that is carried out, and what of it is just looked at, for errors.
    name: String,
    place: Place,
    pub(super) out: String,
}

/// Tells how a body was left.
#[derive(PartialEq)]
pub(super) enum Left {
    AtItsEnd,
    ByBreak,
    ByContinue,
}

impl<'a> Run<'a> {
    pub(super) fn new(template: &'a GoTemplate, object: &Value, missing_allowed: bool) -> Run<'a> {
        let variables = vec![("$".to_owned(), object.clone())];
        Run {
            template,
            missing_allowed,
            variables,
            depth: 0,
            counted: 0,
            name: "output".to_owned(),
            place: Place::default(),
            out: String::new(),
        }
    }

    /// Says where in the template something is wrong, as Go says it.
    pub(super) fn locate(&self, why: &str) -> String {
        let (Place { at, text }, name) = (&self.place, &self.name);
        let before = self.template.text.get(..*at).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |end| end + 1);
        format!("template: output:{line}:{column}: executing {name:?} at <{text}>: {why}")
    }

    fn note_place(&mut self, place: &Place) {
        place.clone_into(&mut self.place);
    }

    pub(super) fn print_body(&mut self, body: &[Node], dot: &Value) -> Result<Left, String> {
        let known = self.variables.len();
        let mut left = Left::AtItsEnd;
        for node in body {
            left = self.print_node(node, dot)?;
            if left != Left::AtItsEnd {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(left)
    }

    fn print_node(&mut self, node: &Node, dot: &Value) -> Result<Left, String> {
        match node {
            Node::Text(text) => self.out += text,
            Node::Print(pipeline) => {
                let value = self.evaluate(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out += &value.map_or("<no value>".to_owned(), |value| print_value(&value));
                }
            }
            Node::If { condition, then, otherwise } => {
                let known = self.variables.len();
                let value = self.evaluate(condition, dot)?;
                let body = if value.is_some_and(|value| is_true(&value)) { then } else { otherwise };
                let left = self.print_body(body, dot)?;
                self.variables.truncate(known);
                return Ok(left);
            }
            Node::With { value, then, otherwise } => {
                let known = self.variables.len();
                let left = match self.evaluate(value, dot)?.filter(is_true) {
                    Some(value) => self.print_body(then, &value)?,
                    None => self.print_body(otherwise, dot)?,
                };
                self.variables.truncate(known);
                return Ok(left);
            }
            Node::Range { over, each, otherwise } => return self.print_range(over, each, otherwise, dot),
            Node::Call { name, with, place } => {
                self.note_place(place);
                let body = self.template.named.get(name).ok_or(format!("template {name:?} not defined"))?;
                let value = with.as_ref().map(|with| self.evaluate(with, dot)).transpose()?.flatten();
                let value = value.unwrap_or_default();
                if self.depth == DEEPEST {
                    return Err(format!("exceeded maximum template depth ({DEEPEST})"));
                }
                self.depth += 1;
                let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), value.clone())]);
                let caller = std::mem::replace(&mut self.name, name.clone());
                self.print_body(body, &value)?;
                self.name = caller;
                self.variables = outer;
                self.depth -= 1;
            }
            Node::Break => return Ok(Left::ByBreak),
            Node::Continue => return Ok(Left::ByContinue),
        }
        Ok(Left::AtItsEnd)
    }

    fn print_range(
        &mut self,
        over: &Pipeline,
        each: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Left, String> {
        let known = self.variables.len();
        // The variables are each item's, not the whole's.
        let plain = Pipeline { variables: Vec::new(), declares: false, ..over.clone() };
        let items: Vec<(Value, Value)> = match self.evaluate(&plain, dot)? {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(all)) => {
                all.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect()
            }
            Some(Value::Object(all)) => all.into_iter().map(|(key, item)| (key.into(), item)).collect(),
            Some(Value::Number(count)) if !count.is_f64() => {
                self.note_place(&over.place);
                if over.variables.len() > 1 {
                    return Err(format!("can't use {count} to iterate over more than one variable"));
                }
                let count = count.as_u64().unwrap_or(0);
                self.counted = self.counted.saturating_add(count);
                if self.counted > MOST_COUNTED {
                    return Err(format!("range counts further than to {MOST_COUNTED}"));
                }
                (0..count).map(|at| (at.into(), at.into())).collect()
            }
            Some(other) => {
                self.note_place(&over.place);
                return Err(format!("range can't iterate over {}", print_value(&other)));
            }
        };
        if items.is_empty() {
            return self.print_body(otherwise, dot);
        }
        for (key, item) in items {
            match &over.variables[..] {
                [value] => self.set_variable(value, item.clone(), over.declares),
                [at, value] => {
                    self.set_variable(at, key, over.declares);
                    self.set_variable(value, item.clone(), over.declares);
                }
                _ => {}
            }
            let left = self.print_body(each, &item)?;
            if over.declares {
                self.variables.truncate(known);
            }
            if left == Left::ByBreak {
                break;
            }
        }
        Ok(Left::AtItsEnd)
    }

    fn set_variable(&mut self, name: &str, value: Value, declares: bool) {
        match self.variables.iter_mut().rev().find(|(known, _)| !declares && known == name) {
            Some((_, known)) => *known = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }

    /// The value of a pipeline; `None` for a key that is not there.
    fn evaluate(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Option<Value>, String> {
        self.note_place(&pipeline.place);
        let mut last: Option<Option<Value>> = None;
        for command in &pipeline.commands {
            last = Some(self.evaluate_command(command, last, dot)?);
        }
        let value = last.flatten();
        for name in &pipeline.variables {
            self.set_variable(name, value.clone().unwrap_or_default(), pipeline.declares);
        }
        Ok(value)
    }

    fn evaluate_command(
        &mut self,
        command: &Command,
        last: Option<Option<Value>>,
        dot: &Value,
    ) -> Result<Option<Value>, String> {
        let Some((first, rest)) = command.operands.split_first() else { return Ok(None) };
        self.note_place(&first.place);
        let has_arguments = !rest.is_empty() || last.is_some();
        let name = match &first.kind {
            OperandKind::Function(name) => name,
            OperandKind::Fields(_, fields) if has_arguments => {
                let last = fields.last().map_or("", String::as_str);
                return Err(format!("{last} is not a method but has arguments"));
            }
            _ if has_arguments => {
                return Err(format!("can't give argument to non-function {}", first.place.text));
            }
            OperandKind::Nil => return Err("nil is not a command".to_owned()),
            _ => return self.evaluate_operand(first, dot),
        };
        check_count(name, rest.len() + usize::from(last.is_some()))?;
        let (mut arguments, mut types) = (Vec::new(), Vec::new());
        for operand in rest {
            let value = self.evaluate_argument(operand, name, arguments.is_empty(), dot)?;
            // As in Go, the rest of `and` and `or` is looked at only where it counts.
            if matches!((name.as_str(), is_true(&value)), ("and", false) | ("or", true)) {
                return Ok(Some(value));
            }
            types.push(match &operand.kind {
                OperandKind::Literal(Value::Number(number)) if !number.is_f64() => "int",
                _ => type_name(&value),
            });
            arguments.push(value);
        }
        if let Some(last) = last {
            let last = last.unwrap_or_default();
            types.push(type_name(&last));
            arguments.push(last);
        }
        let called = call_function(name, &arguments, &types).map_err(|why| {
            self.note_place(&command.place);
            format!("error calling {name}: {why}")
        })?;
        Ok(Some(called).filter(|value| !value.is_null()))
    }

    /// The value of a function's argument, which for some functions has to be a text.
    fn evaluate_argument(
        &mut self,
        operand: &Operand,
        function: &str,
        is_first: bool,
        dot: &Value,
    ) -> Result<Value, String> {
        self.note_place(&operand.place);
        let wants_text = is_first && matches!(function, "printf" | "base64decode");
        match &operand.kind {
            OperandKind::Literal(value) if wants_text && !value.is_string() => {
                Err(format!("expected string; found {}", operand.place.text))
            }
            _ => {
                let value = self.evaluate_operand(operand, dot)?.unwrap_or_default();
                match wants_text && !value.is_string() {
                    true if value.is_null() => Err("invalid value; expected string".to_owned()),
                    true => Err(format!("wrong type for value; expected string; got {}", type_name(&value))),
                    false => Ok(value),
                }
            }
        }
    }

    fn evaluate_operand(&mut self, operand: &Operand, dot: &Value) -> Result<Option<Value>, String> {
        match &operand.kind {
            OperandKind::Dot => Ok(Some(dot.clone())),
            OperandKind::Nil => Ok(Some(Value::Null)),
            OperandKind::Literal(value) => Ok(Some(value.clone())),
            OperandKind::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                Ok(known.map(|(_, value)| value.clone()))
            }
            OperandKind::Function(name) => {
                check_count(name, 0)?;
                call_function(name, &[], &[]).map(Some).map_err(|why| format!("error calling {name}: {why}"))
            }
            OperandKind::Group(pipeline) => self.evaluate(pipeline, dot),
            OperandKind::Fields(of, fields) => {
                let Some(mut value) = self.evaluate_operand(of, dot)? else { return Ok(None) };
                for (at, field) in fields.iter().enumerate() {
                    value = match value {
                        Value::Object(mut all) => match all.remove(field) {
                            Some(inner) => inner,
                            None if self.missing_allowed => return Ok(None),
                            None => return Err(format!("map has no entry for key {field:?}")),
                        },
                        Value::Null => return Ok(None),
                        // What a map holds is of no known type.
                        other => {
                            let known = if at == 0 { type_name(&other) } else { "interface {}" };
                            return Err(format!("can't evaluate field {field} in type {known}"));
                        }
                    };
                }
                Ok(Some(value))
            }
        }
    }
}
