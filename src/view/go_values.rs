//! Plain data as Go's `fmt` prints it, in whose words templates complain. PURE.

use serde_json::Value;

/// Names the type that a value has in Go.
pub(super) fn type_name(value: &Value) -> &'static str {
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
        Value::Number(number) if number.is_f64() => print_float(number.as_f64().unwrap_or(0.0)),
        plain => plain.to_string(),
    }
}

/// Prints a number as Go's `%v` does: with an exponent of two digits where it is very small or very large.
pub(super) fn print_float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..21).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => number.to_string(),
    }
}

/// Prints a value as Go's `%#v` does.
pub(super) fn print_literal(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(all) => {
            let items: Vec<_> = all.iter().map(print_literal).collect();
            format!("{}{{{}}}", type_name(value), items.join(", "))
        }
        Value::Object(all) => {
            let mut pairs: Vec<_> = all.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            let pairs: Vec<_> = pairs
                .into_iter()
                .map(|(key, value)| format!("{}:{}", quote(key), print_literal(value)))
                .collect();
            format!("{}{{{}}}", type_name(value), pairs.join(", "))
        }
        Value::String(text) => quote(text),
        plain => plain.to_string(),
    }
}

/// Quotes a text as Go's `%q` does.
pub(super) fn quote(text: &str) -> String {
    let escape = |c: char| match c {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        '\r' => "\\r".to_owned(),
        c if c.is_control() => format!("\\x{:02x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}
