//! Nodes and an object → what they find.

use std::cmp::Ordering;

use serde_json::Value;

use super::{
    super::go_values::{print_value, type_name},
    Node, Operator, Slice,
};

type Found<'a> = Vec<&'a Value>;

/// Returns what each part of a template finds.
pub(super) fn all<'a>(nodes: &'a [Node], object: &'a Value, lenient: bool) -> Result<Vec<Found<'a>>, String> {
    let mut lists = Vec::new();
    for node in nodes {
        match node {
            Node::Range { path, body } => {
                for each in walk(vec![object], path, lenient)? {
                    lists.extend(all(body, each, lenient)?);
                }
            }
            Node::Path(path) => lists.push(walk(vec![object], path, lenient)?),
            node => lists.push(step(vec![object], node, lenient)?),
        }
    }
    Ok(lists)
}

fn walk<'a>(from: Found<'a>, path: &'a [Node], lenient: bool) -> Result<Found<'a>, String> {
    path.iter().try_fold(from, |found, node| step(found, node, lenient))
}

fn step<'a>(from: Found<'a>, node: &'a Node, lenient: bool) -> Result<Found<'a>, String> {
    match node {
        Node::Literal(value) => Ok(vec![value]),
        Node::Field(name) => {
            let found: Found<'a> = from.iter().filter_map(|v| v.get(name)).collect();
            if found.is_empty() && !lenient { Err(format!("{name} is not found")) } else { Ok(found) }
        }
        Node::Wildcard => Ok(from.into_iter().flat_map(child_values).collect()),
        Node::Recursive => {
            let mut found = Vec::new();
            from.into_iter().for_each(|v| descend_values(v, &mut found));
            Ok(found)
        }
        Node::Slice(slice) => {
            let parts = from.into_iter().filter(|v| !v.is_null()).map(|v| match v {
                Value::Array(all) => cut(all, *slice),
                other => Err(format!("{} is not array or slice", type_name(other))),
            });
            Ok(parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        }
        Node::Union(paths) => {
            let parts = paths.iter().map(|path| walk(from.clone(), path, lenient));
            Ok(parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        }
        Node::Filter { left, compared } => {
            let mut found = Vec::new();
            for value in from.into_iter().filter(|v| !v.is_null()) {
                let Value::Array(all) = value else {
                    let value = print_value(value);
                    return Err(format!("{value} is not array or slice and cannot be filtered"));
                };
                for each in all {
                    if passes(each, left, compared.as_ref())? {
                        found.push(each);
                    }
                }
            }
            Ok(found)
        }
        Node::Path(path) => walk(from, path, lenient),
        Node::Range { path, .. } => walk(from, path, lenient),
        Node::Unknown(word) => Err(format!("unrecognized identifier {word}")),
        Node::StrayEnd => Err("not in range, nothing to end".into()),
    }
}

fn child_values(value: &Value) -> Found<'_> {
    match value {
        Value::Array(all) => all.iter().collect(),
        Value::Object(all) => all.values().collect(),
        _ => Vec::new(),
    }
}

/// The value itself and all below it that has something below it.
fn descend_values<'a>(value: &'a Value, found: &mut Found<'a>) {
    let below = child_values(value);
    if !below.is_empty() {
        found.push(value);
        below.into_iter().for_each(|v| descend_values(v, found));
    }
}

fn cut(all: &[Value], slice: Slice) -> Result<Found<'_>, String> {
    let length = all.len() as i64;
    let from_end = |at: i64| if at < 0 { at + length } else { at };
    let (start, end, step) = match slice {
        Slice::Index(at) => (from_end(at), from_end(at) + 1, 1),
        Slice::Part { start, end, step } => {
            (from_end(start.unwrap_or(0)), from_end(end.unwrap_or(length)), step)
        }
    };
    if start == end {
        return Ok(Vec::new());
    }
    let outside = |at: i64| Err(format!("array index out of bounds: index {at}, length {length}"));
    match (start, end) {
        (start, _) if start < 0 || start >= length => outside(start),
        (_, end) if end < 0 || end > length => outside(end - 1),
        (start, end) if start > end => {
            Err(format!("starting index {start} is greater than ending index {end}"))
        }
        _ if step < 1 => Err("step must be > 0".into()),
        (start, end) => Ok(all[start as usize..end as usize].iter().step_by(step as usize).collect()),
    }
}

fn passes(each: &Value, left: &[Node], compared: Option<&(Operator, Vec<Node>)>) -> Result<bool, String> {
    let lefts = walk(vec![each], left, true)?;
    let Some((operator, right)) = compared else { return Ok(!lefts.is_empty()) };
    let rights = walk(vec![each], right, true)?;
    let (left, right) = match (&lefts[..], &rights[..]) {
        ([], _) | (_, []) => return Ok(false),
        ([left], [right]) => (*left, *right),
        _ => return Err("can only compare one element at a time".into()),
    };
    if let Operator::Unknown(operator) = operator {
        return Err(format!("unrecognized filter operator {operator}"));
    }
    let order = match (left, right) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => return Err("incompatible types for comparison".into()),
    };
    Ok(match operator {
        Operator::Unknown(_) => false,
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
    })
}
