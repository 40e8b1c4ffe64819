//! Label selectors and field selectors: which objects are meant.

use std::collections::BTreeMap;

use crate::pod::PodExt;
use k8s_openapi::api::core::v1::Pod;

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

impl Labels {
    /// Reads a selector.
    ///
    /// # Errors
    /// What is wrong with it, for the user.
    pub fn parse(text: &str) -> Result<Labels, String> {
        let mut all = Vec::new();
        for part in outside_parentheses(text).filter(|p| !p.is_empty()) {
            all.push(
                parse_requirement(part)
                    .ok_or_else(|| format!("unable to parse requirement: {part:?} in selector {text:?}"))?,
            );
        }
        Ok(Labels(all))
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

fn outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let comma = move |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0 && c == ','
    };
    text.split(comma).map(str::trim)
}

/// Tells whether a label could have this value; one that it cannot have is a mistake of who writes it in a selector.
fn is_label_value(value: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    value.is_empty()
        || value.len() <= 63
            && value.starts_with(ends)
            && value.ends_with(ends)
            && value.chars().all(|c| ends(c) || "-_.".contains(c))
}

fn parse_requirement(text: &str) -> Option<Requirement> {
    let made = |key: &str, test: Test| {
        let key = key.trim();
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let values = match &test {
            Test::In(all) | Test::NotIn(all) => &all[..],
            _ => &[],
        };
        let is_legal = !key.is_empty() && key.chars().all(legal) && values.iter().all(|v| is_label_value(v));
        is_legal.then(|| Requirement { key: key.into(), test })
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((key, value)) = text.split_once("!=") {
        return made(key, Test::NotIn(one(value)));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return made(key, Test::In(one(value)));
    }
    if let Some((left, values)) = text.split_once('(') {
        let values = values.strip_suffix(')')?.split(',').map(|v| v.trim().to_owned()).collect();
        let mut words = left.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => made(key, Test::In(values)),
            (Some(key), Some("notin"), None) => made(key, Test::NotIn(values)),
            _ => None,
        };
    }
    if let Some((key, limit)) = text.split_once('>') {
        return made(key, Test::Above(limit.trim().parse().ok()?));
    }
    if let Some((key, limit)) = text.split_once('<') {
        return made(key, Test::Below(limit.trim().parse().ok()?));
    }
    match text.strip_prefix('!') {
        Some(key) => made(key, Test::Absent),
        None => made(text, Test::Exists),
    }
}

/// Tells how a field is read.
type Field = fn(&Pod) -> String;

/// The fields of a pod that the API server selects by.
const FIELDS: [(&str, Field); 9] = [
    ("metadata.name", |p| p.name().to_owned()),
    ("metadata.namespace", |p| p.namespace().to_owned()),
    ("spec.nodeName", |p| p.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default()),
    ("spec.restartPolicy", |p| p.restart_policy().to_owned()),
    ("spec.schedulerName", |p| p.spec.as_ref().and_then(|s| s.scheduler_name.clone()).unwrap_or_default()),
    ("spec.serviceAccountName", |p| {
        p.spec.as_ref().and_then(|s| s.service_account_name.clone()).unwrap_or_default()
    }),
    ("spec.hostNetwork", |p| p.has_host_network().to_string()),
    ("status.phase", |p| p.phase().to_owned()),
    ("status.podIP", |p| p.status.as_ref().and_then(|s| s.pod_ip.clone()).unwrap_or_default()),
];

/// The `--field-selector`: `status.phase=Running,metadata.name!=x`.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(usize, bool, String)>);

impl Fields {
    /// Reads a selector.
    ///
    /// # Errors
    /// What is wrong with it, for the user.
    pub fn parse(text: &str) -> Result<Fields, String> {
        let mut all = Vec::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (name, value, wanted) =
                match (part.split_once("!="), part.split_once("==").or(part.split_once('='))) {
                    (Some((name, value)), _) => (name, value, false),
                    (None, Some((name, value))) => (name, value, true),
                    _ => {
                        return Err(format!(
                            "invalid field selector {part:?}; write FIELD=VALUE or FIELD!=VALUE"
                        ));
                    }
                };
            let at = FIELDS.iter().position(|(n, _)| *n == name.trim()).ok_or_else(|| {
                let known: Vec<&str> = FIELDS.iter().map(|(n, _)| *n).collect();
                format!("field label not supported: {name}; there are {}", known.join(", "))
            })?;
            all.push((at, wanted, value.trim().to_owned()));
        }
        Ok(Fields(all))
    }

    /// Tells whether this pod is meant.
    pub fn matches(&self, pod: &Pod) -> bool {
        self.0.iter().all(|(at, wanted, value)| (FIELDS[*at].1(pod) == *value) == *wanted)
    }
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
        for wrong in
            ["a in x", "a in (x", "=x", "a b", "a within (x)", "a===", "a=b c", "a=-b", "a>b", "a in (b/c)"]
        {
            assert!(Labels::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn field_selectors_know_the_fields_of_a_pod() {
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".into());
        pod.status.get_or_insert_default().phase = Some("Running".into());
        let matches = |text: &str| Fields::parse(text).unwrap().matches(&pod);
        assert!(matches("status.phase=Running,metadata.name==p"));
        assert!(!matches("status.phase!=Running"));
        assert!(Fields::parse("spec.foo=x").unwrap_err().contains("field label not supported: spec.foo"));
    }
}
