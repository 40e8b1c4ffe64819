//! A template carried out on an object.

use serde_json::Value;

use super::{
    DEEPEST, GoTemplate, Node, Operand, Pipeline,
    functions::{call_function, is_true, print_value},
};

/// The template on its way.
pub(super) struct Run<'a> {
    template: &'a GoTemplate,
    missing_allowed: bool,
    /// The newest last.
    variables: Vec<(String, Value)>,
    depth: usize,
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
        Run { template, missing_allowed, variables, depth: 0, out: String::new() }
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
            Node::Call { name, with } => {
                let body = self.template.named.get(name).ok_or(format!("template {name:?} not defined"))?;
                let value = with.as_ref().map(|with| self.evaluate(with, dot)).transpose()?.flatten();
                let value = value.unwrap_or_default();
                if self.depth == DEEPEST {
                    return Err(format!("exceeded maximum template depth ({DEEPEST})"));
                }
                self.depth += 1;
                let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), value.clone())]);
                self.print_body(body, &value)?;
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
        let plain = Pipeline { variables: Vec::new(), declares: false, commands: over.commands.clone() };
        let items: Vec<(Value, Value)> = match self.evaluate(&plain, dot)? {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(all)) => {
                all.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect()
            }
            Some(Value::Object(all)) => all.into_iter().map(|(key, item)| (key.into(), item)).collect(),
            Some(other) => {
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
        command: &[Operand],
        last: Option<Option<Value>>,
        dot: &Value,
    ) -> Result<Option<Value>, String> {
        let Some((first, rest)) = command.split_first() else { return Ok(None) };
        let Operand::Function(name) = first else {
            return match rest.is_empty() && last.is_none() {
                true => self.evaluate_operand(first, dot),
                false => Err("can't give argument to non-function".to_owned()),
            };
        };
        // As in Go, the rest of `and` and `or` is looked at only where it counts.
        let mut arguments = Vec::new();
        for operand in rest {
            let value = self.evaluate_operand(operand, dot)?.unwrap_or_default();
            let decides = matches!((name.as_str(), is_true(&value)), ("and", false) | ("or", true));
            if decides {
                return Ok(Some(value));
            }
            arguments.push(value);
        }
        arguments.extend(last.map(Option::unwrap_or_default));
        call_function(name, &arguments).map(Some).map_err(|why| format!("error calling {name}: {why}"))
    }

    fn evaluate_operand(&mut self, operand: &Operand, dot: &Value) -> Result<Option<Value>, String> {
        match operand {
            Operand::Dot => Ok(Some(dot.clone())),
            Operand::Nil => Ok(Some(Value::Null)),
            Operand::Literal(value) => Ok(Some(value.clone())),
            Operand::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                Ok(known.map(|(_, value)| value.clone()))
            }
            Operand::Function(name) => {
                call_function(name, &[]).map(Some).map_err(|why| format!("error calling {name}: {why}"))
            }
            Operand::Group(pipeline) => self.evaluate(pipeline, dot),
            Operand::Fields(of, fields) => {
                let Some(mut value) = self.evaluate_operand(of, dot)? else { return Ok(None) };
                for field in fields {
                    value = match value {
                        Value::Object(mut all) => match all.remove(field) {
                            Some(inner) => inner,
                            None if self.missing_allowed => return Ok(None),
                            None => return Err(format!("map has no entry for key {field:?}")),
                        },
                        Value::Null => return Ok(None),
                        other => {
                            let type_ = match other {
                                Value::String(_) => "string",
                                Value::Bool(_) => "bool",
                                Value::Number(_) => "number",
                                _ => "[]interface {}",
                            };
                            return Err(format!("can't evaluate field {field} in type {type_}"));
                        }
                    };
                }
                Ok(Some(value))
            }
        }
    }
}
