//! JSON values as KYAML: YAML that no reader takes for something else, because braces, brackets and double quotes say
//! what is what. Source: KEP-5295.

use serde_json::Value;

/// Returns the whole document, with the marker before it and a newline at its end.
pub fn print_kyaml(value: &Value) -> String {
    let mut out = "---\n".to_owned();
    push_value(&mut out, value, 0);
    out.push('\n');
    out
}

fn push_value(out: &mut String, value: &Value, level: usize) {
    match value {
        Value::Object(all) if !all.is_empty() => {
            *out += "{\n";
            for (key, value) in all {
                push_indent(out, level + 1);
                push_key(out, key);
                *out += ": ";
                push_value(out, value, level + 1);
                *out += ",\n";
            }
            push_indent(out, level);
            out.push('}');
        }
        Value::Array(all) if all.iter().any(|item| item.is_object() || item.is_array()) => {
            // The braces of neighbours share lines.
            out.push('[');
            for (at, item) in all.iter().enumerate() {
                *out += if at > 0 { ", " } else { "" };
                push_value(out, item, level);
            }
            out.push(']');
        }
        Value::Array(all) if !all.is_empty() => {
            *out += "[\n";
            for item in all {
                push_indent(out, level + 1);
                push_value(out, item, level + 1);
                *out += ",\n";
            }
            push_indent(out, level);
            out.push(']');
        }
        Value::Object(_) => *out += "{}",
        Value::Array(_) => *out += "[]",
        Value::String(text) => push_string(out, text, level),
        plain => *out += &plain.to_string(),
    }
}

fn push_indent(out: &mut String, level: usize) {
    out.extend(std::iter::repeat_n("  ", level));
}

/// Keys are plain where nobody takes them for a number, a boolean, null or a time.
fn push_key(out: &mut String, key: &str) {
    let is_word = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let is_misread = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"]
        .contains(&key.to_ascii_lowercase().as_str());
    match is_word && !is_misread {
        true => *out += key,
        false => push_string(out, key, 0),
    }
}

/// A text of several lines is broken at its newlines, where YAML lets a line end in a backslash.
fn push_string(out: &mut String, text: &str, level: usize) {
    let quote_part = |part: &str| {
        let whole = serde_json::to_string(part).unwrap_or_default();
        whole[1..whole.len() - 1].to_owned()
    };
    // A tab stands for itself.
    let quoted = |part: &str| part.split('\t').map(quote_part).collect::<Vec<_>>().join("\t");
    if !text.contains('\n') {
        *out += &format!("\"{}\"", quoted(text));
        return;
    }
    *out += "\"\\\n";
    for line in text.split_inclusive('\n') {
        push_indent(out, level + 1);
        // A leading space would be taken for indentation.
        out.push(if line.starts_with([' ', '\t']) { '\\' } else { ' ' });
        *out += &quoted(line);
        *out += "\\\n";
    }
    push_indent(out, level + 1);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn braces_and_quotes_say_what_is_what() {
        let value = json!({"a": "1", "list": [{"name": "x"}, {"name": "y"}], "no": [1, "z"], "nothing": {}, "is": true});
        assert_eq!(
            print_kyaml(&value),
            "---\n{\n  a: \"1\",\n  is: true,\n  list: [{\n    name: \"x\",\n  }, {\n    name: \"y\",\n  }],\n  \"no\": [\n    1,\n    \"z\",\n  ],\n  nothing: {},\n}\n"
        );
        let value = json!({"d": {"a": "line\n", "b": "  lead\n  two"}});
        assert_eq!(
            print_kyaml(&value),
            "---\n{\n  d: {\n    a: \"\\\n       line\\n\\\n      \",\n    b: \"\\\n      \\  lead\\n\\\n      \\  two\\\n      \",\n  },\n}\n"
        );
    }
}
