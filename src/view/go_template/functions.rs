//! The functions of templates: Go's own, and kubectl's `base64decode` and `exists`.

use std::cmp::Ordering;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::view::go_values::{print_value, type_name};

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

/// Checks how many arguments a function is given.
pub(super) fn check_count(name: &str, count: usize) -> Result<(), String> {
    let exact = match name {
        "not" | "len" | "base64decode" => Some(1),
        "ne" | "lt" | "le" | "gt" | "ge" => Some(2),
        _ => None,
    };
    let least = usize::from(!matches!(name, "print" | "println" | "html" | "js" | "urlquery"));
    match exact {
        Some(exact) if exact != count => {
            Err(format!("wrong number of args for {name}: want {exact} got {count}"))
        }
        None if count < least => {
            Err(format!("wrong number of args for {name}: want at least {least} got {count}"))
        }
        _ => Ok(()),
    }
}

/// Calls a function with as many arguments as it takes, whose types Go would name so.
pub(super) fn call_function(name: &str, arguments: &[Value], types: &[&str]) -> Result<Value, String> {
    let last = || arguments.last().cloned().unwrap_or_default();
    let joined = || arguments.iter().map(print_value).collect::<Vec<_>>().join("");
    match name {
        "and" | "or" => Ok(last()),
        "not" => Ok(json!(!is_true(&arguments[0]))),
        "len" => match &arguments[0] {
            Value::String(text) => Ok(text.len().into()),
            Value::Array(all) => Ok(all.len().into()),
            Value::Object(all) => Ok(all.len().into()),
            Value::Null => Err("reflect: call of reflect.Value.Type on zero Value".to_owned()),
            _ => Err(format!("len of type {}", types[0])),
        },
        "index" => find_by_index(arguments, types),
        "slice" => cut_slice(arguments, types),
        "print" => Ok(print_operands(arguments).into()),
        "println" => {
            let all: Vec<_> = arguments.iter().map(print_value).collect();
            Ok(format!("{}\n", all.join(" ")).into())
        }
        "printf" => {
            let format = arguments[0].as_str().unwrap_or_default();
            Ok(print_format(format, &arguments[1..], &types[1..]).into())
        }
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
            let decoded: ByteString = serde_json::from_value(arguments[0].clone()).map_err(|_| {
                let at = find_base64_fault(arguments[0].as_str().unwrap_or_default());
                format!("base64 decode failed: illegal base64 data at input byte {at}")
            })?;
            Ok(String::from_utf8_lossy(&decoded.0).into_owned().into())
        }
        "exists" => {
            let found = arguments[1..].iter().try_fold(&arguments[0], |value, key| match key {
                Value::String(key) => value.get(key),
                key => key.as_u64().and_then(|at| value.get(usize::try_from(at).ok()?)),
            });
            Ok(found.is_some().into())
        }
        _ => compare_values(name, arguments, types),
    }
}

/// Tells where a text is no base64, as Go counts it.
fn find_base64_fault(text: &str) -> usize {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
    let end = text.bytes().position(|byte| !is_digit(byte)).unwrap_or(text.len());
    if end < text.len() && (text.as_bytes()[end] != b'=' || end % 4 < 2) { end } else { end - end % 4 }
}

fn find_by_index(arguments: &[Value], types: &[&str]) -> Result<Value, String> {
    let mut value = arguments[0].clone();
    for (at, (key, type_)) in arguments.iter().zip(types).enumerate().skip(1) {
        let number = key.as_i64().filter(|_| key.is_number());
        let within = |length: usize| {
            let number = number.ok_or_else(|| format!("cannot index slice/array with type {type_}"))?;
            let place = usize::try_from(number).ok().filter(|place| *place < length);
            place.ok_or_else(|| format!("index out of range: {number}"))
        };
        value = match (value, key) {
            (Value::Object(mut all), Value::String(key)) => all.remove(key).unwrap_or_default(),
            (Value::Object(_), _) => return Err(format!("value has type {type_}; should be string")),
            (Value::Array(mut all), _) => {
                let place = within(all.len())?;
                all.swap_remove(place)
            }
            (Value::String(text), _) => text.as_bytes()[within(text.len())?].into(),
            (Value::Null, _) if at == 1 => return Err("index of untyped nil".to_owned()),
            (Value::Null, _) => return Err("index of nil pointer".to_owned()),
            (other, _) => return Err(format!("can't index item of type {}", type_name(&other))),
        };
    }
    Ok(value)
}

fn cut_slice(arguments: &[Value], types: &[&str]) -> Result<Value, String> {
    let length = match &arguments[0] {
        Value::String(text) => text.len(),
        Value::Array(all) => all.len(),
        Value::Null => return Err("slice of untyped nil".to_owned()),
        _ => return Err(format!("can't slice item of type {}", types[0])),
    };
    let bound = |at: usize, otherwise: usize| match arguments.get(at) {
        None => Ok(otherwise),
        Some(key) if !key.is_i64() => Err(format!("cannot index slice/array with type {}", types[at])),
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

fn compare_values(name: &str, arguments: &[Value], types: &[&str]) -> Result<Value, String> {
    let (first, others) = (&arguments[0], &arguments[1..]);
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    // Whole numbers of any size are of one kind.
    let kind = |at: usize| match types[at] {
        "int" | "int64" => "int",
        other => other,
    };
    let check = |at: usize| match (kind(0), kind(at)) {
        (a, b) if a == b => Ok(()),
        _ => Err(format!("incompatible types for comparison: {} and {}", types[0], types[at])),
    };
    let order = || {
        let plain = |value: &Value| value.is_string() || value.is_number();
        if !plain(first) || !plain(&others[0]) {
            return Err("invalid type for comparison".to_owned());
        }
        check(1)?;
        Ok(match (first.as_str(), others[0].as_str()) {
            (Some(a), Some(b)) => a.cmp(b),
            _ => first.as_f64().partial_cmp(&others[0].as_f64()).unwrap_or(Ordering::Equal),
        })
    };
    let same = |at: usize| {
        let other = &arguments[at];
        if first.is_object() || first.is_array() {
            let type_ = types[0];
            return Err(format!("non-comparable type {}: {type_}", print_value(first)));
        }
        // Nothing is like nothing only.
        if !first.is_null() && !other.is_null() {
            check(at)?;
        }
        Ok(first == other || (first.is_number() && first.as_f64() == other.as_f64()))
    };
    Ok(Value::Bool(match name {
        "eq" => {
            for at in 1..arguments.len() {
                if same(at)? {
                    return Ok(Value::Bool(true));
                }
            }
            false
        }
        "ne" => !same(1)?,
        "lt" => order()? == Ordering::Less,
        "le" => order()? != Ordering::Greater,
        "gt" => order()? == Ordering::Greater,
        _ => order()? != Ordering::Less,
    }))
}

/// Go's `Sprintf` for plain data: flags, width, precision and the verbs that fit.
fn print_format(format: &str, arguments: &[Value], types: &[&str]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter().zip(types);
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
        let Some((value, type_)) = arguments.next() else {
            out += &format!("%!{verb}(MISSING)");
            continue;
        };
        let text = print_verb(verb, (value, type_), precision, &flags);
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
    let extra: Vec<_> = arguments.map(|(value, type_)| format!("{type_}={}", print_value(value))).collect();
    if !extra.is_empty() {
        out += &format!("%!(EXTRA {})", extra.join(", "));
    }
    out
}

fn print_verb(verb: char, (value, type_): (&Value, &str), precision: Option<usize>, flags: &str) -> String {
    let plus =
        |text: String| if flags.contains('+') && !text.starts_with('-') { format!("+{text}") } else { text };
    let wrong = || format!("%!{verb}({type_}={})", print_value(value));
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
        ('g', Value::Number(number)) if number.is_f64() => plus(print_value(value)),
        ('T', _) => type_.to_owned(),
        ('s', Value::Array(_) | Value::Object(_)) => print_value(value),
        _ => wrong(),
    }
}
