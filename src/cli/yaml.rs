//! JSON values as YAML, in kubectl's shape.

use serde_json::Value;

/// The value as a document.
pub(super) fn document(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

/// Writes a value on lines of its own, so far to the right.
fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = "  ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&format!("{pad}{}:", text(key)));
                after_key(value, indent, out);
            }
        }
        Value::Array(all) if !all.is_empty() => {
            for item in all {
                let mut inner = String::new();
                block(item, indent + 1, &mut inner);
                // The first line of the item stands beside its dash.
                out.push_str(&format!("{pad}- {}", inner.trim_start_matches(' ')));
            }
        }
        scalar => out.push_str(&format!("{pad}{}\n", flow(scalar))),
    }
}

fn after_key(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, indent + 1, out);
        }
        Value::Array(all) if !all.is_empty() => {
            out.push('\n');
            block(value, indent, out);
        }
        Value::String(lines) if is_literal(lines) => {
            let chomp = if lines.ends_with('\n') { "" } else { "-" };
            out.push_str(&format!(" |{chomp}\n"));
            let pad = "  ".repeat(indent + 1);
            for line in lines.lines() {
                out.push_str(&if line.is_empty() { "\n".to_owned() } else { format!("{pad}{line}\n") });
            }
        }
        scalar => out.push_str(&format!(" {}\n", flow(scalar))),
    }
}

/// Text that reads better over several lines, and is the same there.
fn is_literal(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\n'])
        && !text.ends_with("\n\n")
        && text.chars().all(|c| c == '\n' || (c >= ' ' && c != '\u{7f}'))
        && text.lines().all(|line| !line.ends_with(' '))
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(plain) => text(plain),
        Value::Array(_) => "[]".into(),
        Value::Object(_) => "{}".into(),
        other => other.to_string(),
    }
}

/// Plain where no reader could take it for anything else, else in JSON's quotes, which are YAML's.
fn text(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let words = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
    let safe = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(plain)
        && !words.contains(&text.to_lowercase().as_str());
    if safe { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_reads_as_it_was() {
        let value = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "m", "labels": {"a/b": "on", "n": "1", "e": ""}},
            "data": {"lines": "a: b\n  c\n\nd\n", "last": "x\ny", "odd": " \tx\n", "colon": "a: b # c", "yes": "no"},
            "items": [[1, 2], {"a": {"b": [true, null]}}, {}, []],
        });
        let text = document(&value);
        assert!(text.contains("lines: |\n"), "{text}");
        let source = crate::manifest::Source {
            name: "y".into(),
            text: document(&json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": value["metadata"], "data": value["data"],
            })),
        };
        let read = crate::manifest::load(&[source]).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        assert_eq!(serde_json::to_value(&read.config_maps[0].data).unwrap(), value["data"]);
        assert_eq!(serde_json::to_value(&read.config_maps[0].metadata).unwrap(), value["metadata"]);
    }
}
