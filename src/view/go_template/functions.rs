//! The functions of templates: Go's own, and kubectl's `base64decode` and `exists`.

use std::cmp::Ordering;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

const NAMES: &str = "and or not len index slice print printf println html js urlquery eq ne lt le gt ge base64decode \
    exists";

pub(super) fn is_function(word: &str) -> bool {
    NAMES.split_whitespace().any(|name| name == word)
}

/// Tells whether a value counts as true: what is empty or zero does not.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
    }
}

/// Prints a value as Go's `%v` does.
pub(super) fn print_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(all) => format!("[{}]", all.iter().map(print_value).collect::<Vec<_>>().join(" ")),
        Value::Object(all) => {
            let mut pairs: Vec<_> = all.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            let pairs: Vec<_> =
                pairs.into_iter().map(|(key, value)| format!("{key}:{}", print_value(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        plain => plain.to_string(),
    }
}

pub(super) fn call_function(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let needs = |least: usize| match arguments.len() < least {
        true => Err(format!("wrong number of args: want at least {least} got {}", arguments.len())),
        false => Ok(()),
    };
    let last = || arguments.last().cloned().unwrap_or_default();
    let joined = || arguments.iter().map(print_value).collect::<Vec<_>>().join("");
    match name {
        "and" | "or" => needs(1).map(|()| last()),
        "not" => needs(1).map(|()| json!(!is_true(&arguments[0]))),
        "len" => needs(1).and_then(|()| match &arguments[0] {
            Value::String(text) => Ok(text.len().into()),
            Value::Array(all) => Ok(all.len().into()),
            Value::Object(all) => Ok(all.len().into()),
            other => Err(format!("len of {}", print_value(other))),
        }),
        "index" => needs(1).and_then(|()| find_by_index(arguments)),
        "slice" => needs(1).and_then(|()| cut_slice(arguments)),
        "print" => Ok(print_operands(arguments).into()),
        "println" => {
            let all: Vec<_> = arguments.iter().map(print_value).collect();
            Ok(format!("{}\n", all.join(" ")).into())
        }
        "printf" => needs(1).and_then(|()| match &arguments[0] {
            Value::String(format) => Ok(print_format(format, &arguments[1..]).into()),
            _ => Err("wrong type for value; expected string".to_owned()),
        }),
        "html" => {
            let escape = |c: char| match c {
                '&' => "&amp;".to_owned(),
                '<' => "&lt;".to_owned(),
                '>' => "&gt;".to_owned(),
                '"' => "&#34;".to_owned(),
                '\'' => "&#39;".to_owned(),
                c => c.to_string(),
            };
            Ok(joined().chars().map(escape).collect::<String>().into())
        }
        "js" => {
            let text = serde_json::to_string(&joined()).unwrap_or_default();
            Ok(text[1..text.len() - 1]
                .replace('\'', "\\'")
                .replace('<', "\\u003C")
                .replace('>', "\\u003E")
                .into())
        }
        "urlquery" => {
            let escape = |byte: u8| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    char::from(byte).to_string()
                }
                b' ' => "+".to_owned(),
                other => format!("%{other:02X}"),
            };
            Ok(joined().bytes().map(escape).collect::<String>().into())
        }
        "base64decode" => {
            needs(1)?;
            let decoded: ByteString =
                serde_json::from_value(arguments[0].clone()).map_err(|_| "illegal base64 data".to_owned())?;
            Ok(String::from_utf8_lossy(&decoded.0).into_owned().into())
        }
        "exists" => {
            needs(1)?;
            let found = arguments[1..].iter().try_fold(&arguments[0], |value, key| match key {
                Value::String(key) => value.get(key),
                key => key.as_u64().and_then(|at| value.get(usize::try_from(at).ok()?)),
            });
            Ok(found.is_some().into())
        }
        _ => compare_values(name, arguments),
    }
}

fn find_by_index(arguments: &[Value]) -> Result<Value, String> {
    let mut value = arguments[0].clone();
    for key in &arguments[1..] {
        value = match (value, key) {
            (Value::Object(mut all), Value::String(key)) => all.remove(key).unwrap_or_default(),
            (Value::Array(mut all), key) if key.is_i64() || key.is_u64() => {
                let at = key.as_u64().and_then(|at| usize::try_from(at).ok());
                let at = at.filter(|at| *at < all.len());
                all.swap_remove(at.ok_or_else(|| format!("index out of range: {key}"))?)
            }
            (Value::Null, _) => return Err("index of untyped nil".to_owned()),
            (Value::Object(_) | Value::Array(_), key) => {
                return Err(format!("cannot index with {}", print_value(key)));
            }
            (other, _) => return Err(format!("can't index item of {}", print_value(&other))),
        };
    }
    Ok(value)
}

fn cut_slice(arguments: &[Value]) -> Result<Value, String> {
    let length = match &arguments[0] {
        Value::String(text) => text.len(),
        Value::Array(all) => all.len(),
        other => return Err(format!("can't slice item of {}", print_value(other))),
    };
    let bound = |at: usize, otherwise: usize| match arguments.get(at) {
        None => Ok(otherwise),
        Some(number) => number
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
            .filter(|number| *number <= length)
            .ok_or_else(|| format!("index out of range: {number}")),
    };
    let (from, to) = (bound(1, 0)?, bound(2, length)?);
    let wrong = || format!("invalid slice index: {from} > {to}");
    match &arguments[0] {
        Value::String(text) => Ok(text.get(from..to).ok_or_else(wrong)?.into()),
        Value::Array(all) => Ok(all.get(from..to).ok_or_else(wrong)?.into()),
        _ => Ok(Value::Null),
    }
}

/// Joins with spaces between operands when neither side is a string, as Go's `Sprint`.
fn print_operands(all: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in all.iter().enumerate() {
        if at > 0 && !value.is_string() && !all[at - 1].is_string() {
            out.push(' ');
        }
        out += &print_value(value);
    }
    out
}

fn compare_values(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let [first, others @ ..] = arguments else { return Err("missing argument for comparison".to_owned()) };
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    let same = |other: &Value| match (first.as_f64(), other.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => first == other,
    };
    let order = || match (first, &others[0]) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (a, b) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.partial_cmp(&b).ok_or("invalid type for comparison".to_owned()),
            _ => Err("incompatible types for comparison".to_owned()),
        },
    };
    Ok(Value::Bool(match name {
        "eq" => others.iter().any(same),
        "ne" => !same(&others[0]),
        "lt" => order()? == Ordering::Less,
        "le" => order()? != Ordering::Greater,
        "gt" => order()? == Ordering::Greater,
        _ => order()? != Ordering::Less,
    }))
}

/// Go's `Sprintf` for plain data: flags, width, precision and the verbs that fit.
fn print_format(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(flag) = chars.next_if(|c| "+-# 0".contains(*c)) {
            flags.push(flag);
        }
        let mut number = || {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            // Bounded: a width is no way to fill memory.
            digits.parse::<usize>().ok().map(|number| number.min(4096))
        };
        let width = number().unwrap_or(0);
        let precision = chars.next_if_eq(&'.').map(|_| {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            digits.parse::<usize>().unwrap_or(0).min(4096)
        });
        let Some(verb) = chars.next() else {
            out += "%!(NOVERB)";
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = arguments.next() else {
            out += &format!("%!{verb}(MISSING)");
            continue;
        };
        let text = print_verb(verb, value, precision, &flags);
        let missing = width.saturating_sub(text.chars().count());
        match (flags.contains('-'), flags.contains('0') && value.is_number()) {
            (true, _) => out += &format!("{text}{}", " ".repeat(missing)),
            (false, true) => {
                let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
                out += &format!("{sign}{}{digits}", "0".repeat(missing));
            }
            (false, false) => out += &format!("{}{text}", " ".repeat(missing)),
        }
    }
    let extra: Vec<_> =
        arguments.map(|value| format!("{}={}", type_name(value), print_value(value))).collect();
    if !extra.is_empty() {
        out += &format!("%!(EXTRA {})", extra.join(", "));
    }
    out
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn print_verb(verb: char, value: &Value, precision: Option<usize>, flags: &str) -> String {
    let plus =
        |text: String| if flags.contains('+') && !text.starts_with('-') { format!("+{text}") } else { text };
    let wrong = || format!("%!{verb}({}={})", type_name(value), print_value(value));
    match (verb, value) {
        ('v', _) => print_value(value),
        ('s', Value::String(text)) => text.chars().take(precision.unwrap_or(usize::MAX)).collect(),
        ('q', Value::String(text)) => serde_json::to_string(text).unwrap_or_default(),
        ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('t', Value::Bool(is)) => is.to_string(),
        ('d', Value::Number(number)) if !number.is_f64() => plus(number.to_string()),
        ('x', Value::Number(number)) if number.is_i64() => format!("{:x}", number.as_i64().unwrap_or(0)),
        ('o', Value::Number(number)) if number.is_i64() => format!("{:o}", number.as_i64().unwrap_or(0)),
        ('b', Value::Number(number)) if number.is_i64() => format!("{:b}", number.as_i64().unwrap_or(0)),
        ('c', Value::Number(number)) => {
            let letter = number.as_u64().and_then(|code| char::from_u32(u32::try_from(code).ok()?));
            letter.map_or_else(wrong, String::from)
        }
        ('f' | 'F', Value::Number(number)) if number.is_f64() => {
            plus(format!("{:.*}", precision.unwrap_or(6), number.as_f64().unwrap_or(0.0)))
        }
        ('g', Value::Number(number)) if number.is_f64() => plus(number.to_string()),
        ('T', _) => type_name(value).to_owned(),
        ('s', Value::Array(_) | Value::Object(_)) => print_value(value),
        _ => wrong(),
    }
}
