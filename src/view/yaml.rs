//! JSON values as YAML, laid out as kubectl does: keys in alphabetical order, lists at their key's
//! column, block literals, quotes only where a plain word would be read as something else.

use serde_json::Value;

/// Lines longer than this are folded at the next space.
const WIDTH: usize = 80;

/// The whole document, newline at its end.
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(all) if !all.is_empty() => map(&mut out, all, 0),
        Value::Array(all) if !all.is_empty() => list(&mut out, all, 0),
        value => write_scalar(&mut out, value, 0),
    }
    out
}

fn map(out: &mut String, all: &serde_json::Map<String, Value>, indent: usize) {
    // The first key may stand behind a list's dash.
    for (at, (key, value)) in all.iter().enumerate() {
        if at > 0 || out.is_empty() || out.ends_with('\n') {
            *out += &" ".repeat(indent);
        }
        text(out, key, indent, true);
        out.push(':');
        match value {
            Value::Object(all) if !all.is_empty() => {
                out.push('\n');
                map(out, all, indent + 2);
            }
            Value::Array(all) if !all.is_empty() => {
                out.push('\n');
                list(out, all, indent);
            }
            value => {
                out.push(' ');
                write_scalar(out, value, indent + 2);
            }
        }
    }
}

fn list(out: &mut String, all: &[Value], indent: usize) {
    for (at, value) in all.iter().enumerate() {
        if at > 0 || out.is_empty() || out.ends_with('\n') {
            *out += &" ".repeat(indent);
        }
        *out += "- ";
        match value {
            Value::Object(all) if !all.is_empty() => map(out, all, indent + 2),
            Value::Array(all) if !all.is_empty() => list(out, all, indent + 2),
            value => write_scalar(out, value, indent + 2),
        }
    }
}

/// A leaf and its newline; `indent` is where its further lines begin.
fn write_scalar(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(string) => text(out, string, indent, false),
        other => *out += &other.to_string(),
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

/// Tells how a string may be written without changing.
struct Shape {
    plain: bool,
    single: bool,
    literal: bool,
}

fn shape(text: &str) -> Shape {
    let chars: Vec<char> = text.chars().collect();
    let space = |at: Option<&char>| at.is_none_or(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
    let mut indicator = text.starts_with("---") || text.starts_with("...");
    let mut space_before_break = false;
    for (at, c) in chars.iter().enumerate() {
        let space_follows = space(chars.get(at + 1));
        indicator |= match c {
            ':' => space_follows,
            '#' => at == 0 || space(chars.get(at - 1)),
            '-' | '?' => at == 0 && space_follows,
            c => at == 0 && ",[]{}&*!|>'\"%@`".contains(*c),
        };
        space_before_break |= *c == ' ' && chars.get(at + 1) == Some(&'\n');
    }
    let special = chars.iter().any(|c| !printable(*c));
    let broken = text.contains('\n');
    let edge = |c: Option<&char>| c.is_some_and(|c| matches!(c, ' ' | '\n'));
    let spaced = edge(chars.first()) || edge(chars.last());
    Shape {
        plain: !indicator && !special && !broken && !spaced,
        single: !special && !broken,
        literal: !special && !space_before_break && chars.last() != Some(&' '),
    }
}

fn printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

fn text(out: &mut String, text: &str, indent: usize, key: bool) {
    let shape = shape(text);
    let misread = is_misread(text);
    if text.contains('\n') && shape.literal && !key {
        write_literal(out, text, indent);
    } else if shape.plain && !misread {
        write_folded(out, text, indent, key, |out, c| out.push(c));
    } else if shape.single && !misread {
        out.push('\'');
        write_folded(out, text, indent, key, |out, c| {
            out.extend(std::iter::repeat_n(c, if c == '\'' { 2 } else { 1 }));
        });
        out.push('\'');
    } else {
        out.push('"');
        write_double(out, text, indent, key);
        out.push('"');
    }
}

fn write_literal(out: &mut String, text: &str, indent: usize) {
    let body = text.trim_end_matches('\n');
    out.push('|');
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    *out += match text.len() - body.len() {
        0 => "-",
        1 if !body.is_empty() => "",
        _ => "+",
    };
    out.push('\n');
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            *out += &" ".repeat(indent);
            *out += line;
        }
        out.push('\n');
    }
}

fn column(out: &str) -> usize {
    out.rsplit('\n').next().unwrap_or_default().chars().count()
}

fn break_line(out: &mut String, indent: usize) {
    out.push('\n');
    *out += &" ".repeat(indent);
}

/// Writes what needs no escapes, broken at single spaces where it grows too long.
fn write_folded(out: &mut String, text: &str, indent: usize, key: bool, put: impl Fn(&mut String, char)) {
    let chars: Vec<char> = text.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let inside = at > 0 && at + 1 < chars.len();
        let alone = inside && *c == ' ' && chars[at - 1] != ' ' && chars[at + 1] != ' ';
        if alone && !key && column(out) > WIDTH {
            break_line(out, indent);
        } else {
            put(out, *c);
        }
    }
}

fn write_double(out: &mut String, text: &str, indent: usize, key: bool) {
    let chars: Vec<char> = text.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let inside = at > 0 && at + 1 < chars.len();
        match c {
            ' ' if inside && chars[at - 1] != ' ' && !key && column(out) > WIDTH => {
                break_line(out, indent);
                if chars[at + 1] == ' ' {
                    out.push('\\');
                }
            }
            '"' => *out += "\\\"",
            '\\' => *out += "\\\\",
            '\n' => *out += "\\n",
            '\t' => *out += "\\t",
            '\r' => *out += "\\r",
            '\0' => *out += "\\0",
            '\x07' => *out += "\\a",
            '\x08' => *out += "\\b",
            '\x0b' => *out += "\\v",
            '\x0c' => *out += "\\f",
            '\x1b' => *out += "\\e",
            c if printable(*c) => out.push(*c),
            c => {
                *out += &match u32::from(*c) {
                    code @ ..=0xff => format!("\\x{code:02X}"),
                    code @ ..=0xffff => format!("\\u{code:04X}"),
                    code => format!("\\U{code:08X}"),
                }
            }
        }
    }
}

/// Tells whether a YAML 1.1 reader would take the plain word for null, a boolean, a number or a time.
fn is_misread(text: &str) -> bool {
    const WORDS: [&str; 12] = ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", ".nan"];
    let lower = text.to_ascii_lowercase();
    let cased = text == lower || text == text.to_ascii_uppercase() || text[1..] == lower[1..];
    if WORDS.contains(&lower.as_str()) && (cased || lower == ".nan") {
        return true;
    }
    let number = lower.replace('_', "");
    let unsigned = number.strip_prefix(['+', '-']).unwrap_or(&number);
    if unsigned == ".inf" {
        return true;
    }
    let digits = |text: &str, allowed: &str| !text.is_empty() && text.chars().all(|c| allowed.contains(c));
    for (prefix, allowed) in [("0x", "0123456789abcdef"), ("0b", "01"), ("0o", "01234567")] {
        if unsigned.strip_prefix(prefix).is_some_and(|rest| digits(rest, allowed)) {
            return true;
        }
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    let sexagesimal = unsigned.contains(':') && digits(unsigned, "0123456789:.");
    sexagesimal || unsigned.parse::<f64>().is_ok() || dated(text)
}

/// `2006-1-2`, alone or before a time.
fn dated(text: &str) -> bool {
    let end = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let parts: Vec<&str> = text[..end].split('-').collect();
    let numbers = parts.iter().all(|p| !p.is_empty() && p.chars().all(|c| c.is_ascii_digit()));
    parts.len() == 3 && parts[0].len() == 4 && numbers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(value: &str) -> String {
        let document = document(&json!({ "k": value }));
        document.strip_prefix("k: ").unwrap().strip_suffix('\n').unwrap().to_owned()
    }

    #[test]
    fn strings_are_quoted_as_kubectl_quotes_them() {
        for plain in [
            "a, b",
            "?x",
            "-x",
            "=",
            "<<",
            ":x",
            "a\\b",
            "6Mi",
            "~x",
            "a:b",
            "123abc",
            "é ü",
            "e1",
            "1.2.3",
            "nginx:1.21",
        ] {
            assert_eq!(line(plain), plain);
        }
        for double in [
            "true",
            "123",
            "no",
            "y",
            "1e3",
            "0x1f",
            "",
            "~",
            "null",
            "12:30:45",
            "2020-01-01",
            "1_000",
            ".5",
            "0o7",
            "010",
            "+1",
            "0b1",
            ".inf",
            "-.5",
            "12e03",
            "N",
            "Off",
            "1.5",
            "1:2",
            "2020-01-01T00:00:00Z",
        ] {
            assert_eq!(line(double), format!("\"{double}\""));
        }
        for single in [
            "a: b", " lead", "trail ", "- x", "#x", "a #b", "@x", "`x", "%x", "*x", "{a}", "[a]", "-", "x:",
            "...", "---", ",x", "  ",
        ] {
            assert_eq!(line(single), format!("'{single}'"));
        }
        assert_eq!(line("it's: x"), "'it''s: x'");
        assert_eq!(line("tab\there"), "\"tab\\there\"");
        assert_eq!(line("\u{7}bell \u{1f600}"), "\"\\abell \\U0001F600\"");
    }

    #[test]
    fn several_lines_are_a_block_literal() {
        assert_eq!(line("a\nb\n"), "|\n  a\n  b");
        assert_eq!(line("a\nb"), "|-\n  a\n  b");
        assert_eq!(line("a\n\n\n"), "|+\n  a\n\n");
        assert_eq!(line("\n lead"), "|2-\n\n   lead");
        assert_eq!(line("trail \nx"), "\"trail \\nx\"");
    }

    #[test]
    fn lists_stand_at_their_keys_column_and_long_lines_are_folded() {
        let value = json!({"spec": {"c": [{"args": ["a", ["b"]], "name": "x", "r": {}, "e": []}]}, "e": null, "i": 1,
            "m": "back-off 10s restarting failed container=app pod=p_default(aaaaaaaaaaaaaaaaaaaaaaa): and so on and so forth till long"});
        let expected = "\
e: null
i: 1
m: 'back-off 10s restarting failed container=app pod=p_default(aaaaaaaaaaaaaaaaaaaaaaa):
  and so on and so forth till long'
spec:
  c:
  - args:
    - a
    - - b
    e: []
    name: x
    r: {}
";
        assert_eq!(document(&value), expected);
    }

    #[test]
    fn what_is_written_is_read_again_as_the_same() {
        let strings = [
            "true",
            "a: b",
            "x\ny\n",
            "x\n\n",
            "\n x",
            "tab\t",
            "it's",
            "\"q\"",
            "é\u{1f600}",
            " x ",
            "#",
            "a  b",
            "0x1",
            "a very long line with  two spaces and then many more words until it goes far beyond the width of a line",
            "tab\t a very long line with  two spaces and then many more words until it goes beyond  the width  of a line",
        ];
        let annotations: serde_json::Map<String, Value> =
            strings.iter().enumerate().map(|(at, s)| (format!("k{at}"), json!(s))).collect();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": annotations},
            "spec": {"containers": [{"name": "c", "image": "i", "args": strings}]}});
        let source = crate::manifest::Source { name: "p".into(), text: document(&pod) };
        let read = crate::manifest::load(&[source]).unwrap_or_else(|e| panic!("{e:?}\n{}", document(&pod)));
        let read = serde_json::to_value(&read.pods[0]).unwrap();
        assert_eq!(read["metadata"]["annotations"], pod["metadata"]["annotations"]);
        assert_eq!(read["spec"]["containers"][0]["args"], pod["spec"]["containers"][0]["args"]);
    }
}
