//! Label selectors: which objects are meant. PURE.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::pod::identifiers::check_subdomain;

/// The condition on labels; all of a selector's must hold.
#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    /// Means that a label that is absent passes.
    NotIn(Vec<String>),
    /// Means a label that is a number above this one.
    Above(i64),
    /// Means a label that is a number below this one.
    Below(i64),
}

/// The `-l` selector: `a=b`, `a!=b`, `a in (x,y)`, `a notin (x)`, `a`, `!a`, `a>1`, `a<1`, joined by commas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels(Vec<Requirement>);

/// The words of Kubernetes' about a key and a value that no label can have.
const NAME_PART: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const PREFIX: &str = "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// The length in bytes of the longest value, and of the longest name in a key.
const LONGEST: usize = 63;

impl Labels {
    /// Reads a selector.
    ///
    /// # Errors
    /// What is wrong with it, in Kubernetes' words.
    pub fn parse(text: &str) -> Result<Labels, String> {
        let mut tokens = Tokens { all: split_tokens(text), at: 0 };
        let mut all = Vec::new();
        let begins = |token: &str| token == "!" || is_word(token);
        match tokens.peek() {
            "" => return Ok(Labels(all)),
            token if !begins(token) => {
                return Err(format!("found '{token}', expected: !, identifier, or 'end of string'"));
            }
            _ => {}
        }
        loop {
            let read = tokens.read_requirement();
            all.push(read.map_err(|why| format!("unable to parse requirement: {why}"))?);
            match tokens.next() {
                "" => return Ok(Labels(all)),
                "," if begins(tokens.peek()) => {}
                "," => return Err(format!("found '{}', expected: identifier after ','", tokens.peek())),
                token => return Err(format!("found '{token}', expected: ',' or 'end of string'")),
            }
        }
    }

    /// Tells whether an object is meant, which has its labels as JSON.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(serde_json::from_value(object["metadata"]["labels"].clone()).ok().as_ref())
    }

    /// Tells whether these labels are meant.
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.0.iter().all(|r| {
            let value = labels.and_then(|l| l.get(&r.key));
            let number = value.and_then(|v| v.parse::<i64>().ok());
            match &r.test {
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::In(all) => value.is_some_and(|v| all.contains(v)),
                Test::NotIn(all) => value.is_none_or(|v| !all.contains(v)),
                Test::Above(limit) => number.is_some_and(|n| n > *limit),
                Test::Below(limit) => number.is_some_and(|n| n < *limit),
            }
        })
    }
}

/// Checks that a label can have this value.
///
/// # Errors
/// What is wrong with it, in Kubernetes' words.
pub(crate) fn check_label_value(value: &str) -> Result<(), String> {
    if value.len() > LONGEST {
        return Err(format!("must be no more than {LONGEST} bytes"));
    }
    if value.is_empty() || is_name(value) { Ok(()) } else { Err(VALUE.to_owned()) }
}

fn is_name(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(ends) && text.ends_with(ends) && text.chars().all(|c| ends(c) || "-_.".contains(c))
}

/// Returns what is wrong with a label's key.
fn find_faults_of_key(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = match key.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else if check_subdomain(prefix).is_err() {
                faults.push(PREFIX.to_owned());
            }
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {NAME_PART} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > LONGEST {
        faults.push(format!("name part must be no more than {LONGEST} bytes"));
    }
    if !is_name(name) {
        faults.push(format!("name part {NAME_PART}"));
    }
    faults
}

/// Tells whether a token is a key, a value or an operator that is a word.
fn is_word(token: &str) -> bool {
    !token.is_empty() && !token.starts_with(is_sign)
}

fn is_sign(c: char) -> bool {
    "=!(),><".contains(c)
}

fn split_tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let length = match rest.starts_with(is_sign) {
            true if rest.starts_with("==") || rest.starts_with("!=") => 2,
            true => 1,
            false => rest.find(|c| is_sign(c) || c.is_ascii_whitespace()).unwrap_or(rest.len()),
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// The words and signs of a selector; past their end there are empty ones.
struct Tokens<'a> {
    all: Vec<&'a str>,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn peek(&self) -> &'a str {
        self.all.get(self.at).copied().unwrap_or_default()
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn read_word(&mut self) -> Result<&'a str, String> {
        match self.next() {
            token if is_word(token) => Ok(token),
            token => Err(format!("found '{token}', expected: identifier")),
        }
    }

    fn read_requirement(&mut self) -> Result<Requirement, String> {
        let is_absent = self.peek() == "!";
        self.at += usize::from(is_absent);
        let key = self.read_word()?;
        let faults = find_faults_of_key(key);
        if !faults.is_empty() {
            return Err(format!("<nil>: Invalid value: {key:?}: {}", faults.join("; ")));
        }
        let made = |test| Ok(Requirement { key: key.to_owned(), test });
        if is_absent {
            return made(Test::Absent);
        }
        if matches!(self.peek(), "" | ",") {
            return made(Test::Exists);
        }
        let operator = self.next();
        let values = match operator {
            "in" | "notin" => self.read_values()?,
            "=" | "==" | "!=" | ">" | "<" => match self.peek() {
                "" | "," => vec![String::new()],
                _ => vec![self.read_word()?.to_owned()],
            },
            other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        let faults = values.iter().enumerate().filter_map(|(at, value)| {
            let why = check_label_value(value).err()?;
            Some(format!("values[{at}][{key}]: Invalid value: {value:?}: {why}"))
        });
        match &faults.collect::<Vec<_>>()[..] {
            [] => {}
            [one] => return Err(one.clone()),
            many => return Err(format!("[{}]", many.join(", "))),
        }
        match operator {
            ">" => made(Test::Above(read_limit(&values)?)),
            "<" => made(Test::Below(read_limit(&values)?)),
            "!=" | "notin" => made(Test::NotIn(values)),
            _ => made(Test::In(values)),
        }
    }

    /// `(a,b)`, in which a value may be missing.
    fn read_values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            "(" => {}
            token => return Err(format!("found '{token}' expected: '('")),
        }
        let mut values = vec![String::new()];
        loop {
            match (self.next(), values.last_mut()) {
                (")", _) => return Ok(values),
                (",", _) => values.push(String::new()),
                (token, Some(last)) if last.is_empty() && is_word(token) => token.clone_into(last),
                (token, _) => return Err(format!("found '{token}', expected: ',' or ')'")),
            }
        }
    }
}

fn read_limit(values: &[String]) -> Result<i64, String> {
    let value = values.first().map(String::as_str).unwrap_or_default();
    value.parse().map_err(|_| {
        let rule = "for 'Gt', 'Lt' operators, the value must be an integer";
        format!("values[0]: Invalid value: {value:?}: {rule}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_selectors_choose_as_the_api_server_does() {
        let labels = BTreeMap::from([
            ("app".to_owned(), "web".to_owned()),
            ("tier".into(), "front".into()),
            ("n".into(), "5".into()),
        ]);
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=back", false),
            ("app!=web", false),
            ("other!=x", true),
            ("app in (db, web),tier", true),
            ("app notin (web)", false),
            ("other notin (x)", true),
            ("other in (x)", false),
            ("!other", true),
            ("!app", false),
            ("app", true),
            ("n>4,n<6", true),
            ("n > 5", false),
            ("app<9", false),
        ] {
            assert_eq!(Labels::parse(selector).unwrap().matches(Some(&labels)), expected, "{selector}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_selector_is_said_as_kubectl_says_it() {
        for (selector, said) in [
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a in (b) c", "found 'c', expected: ',' or 'end of string'"),
            ("!a in (b)", "found 'in', expected: ',' or 'end of string'"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("a=b,=", "found '=', expected: identifier after ','"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a===b", "unable to parse requirement: found '=', expected: identifier"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a)", "unable to parse requirement: found ')', expected: in, notin, =, ==, !=, gt, lt"),
            ("a in", "unable to parse requirement: found '' expected: '('"),
            ("a in x", "unable to parse requirement: found 'x' expected: '('"),
            ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
            (
                "a>b",
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            (
                "a/=b",
                "unable to parse requirement: <nil>: Invalid value: \"a/\": name part must be non-empty; name part must consist",
            ),
            (
                "/a=b",
                "unable to parse requirement: <nil>: Invalid value: \"/a\": prefix part must be non-empty",
            ),
            (
                "a/b/c",
                "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must consist of",
            ),
            (
                "U.x/a=b",
                "unable to parse requirement: <nil>: Invalid value: \"U.x/a\": prefix part a lowercase RFC 1123 subdomain",
            ),
            (
                "a=-b",
                "unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label must be",
            ),
            (
                "a in (b/c,ä)",
                "unable to parse requirement: [values[0][a]: Invalid value: \"b/c\": a valid label must be",
            ),
        ] {
            let error = Labels::parse(selector).unwrap_err();
            assert!(error.starts_with(said), "{selector}: {error}");
        }
        for fine in ["", " ", "a=", "a in ()", "a in (,b,,c)", "in", "in in (in)", "notin=x", "a!=b , c"] {
            assert_eq!(Labels::parse(fine).err(), None, "{fine}");
        }
    }
}
