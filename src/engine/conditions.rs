//! What objects are waited for, as `podctl wait --for` has it.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Engine, Error, ErrorKind, ObjectKind, ObjectWatch};
use crate::view::jsonpath::{self, Template};

/// Holds what an object is waited for.
#[derive(Debug)]
pub struct WaitCondition(Kind);

#[derive(Debug)]
enum Kind {
    Create,
    Delete,
    Status { name: String, value: String },
    JsonPath { template: Template, value: Option<String> },
}

impl WaitCondition {
    /// Reads `create`, `delete`, `condition=NAME[=VALUE]` or `jsonpath='{PATH}'[=VALUE]`.
    ///
    /// # Errors
    /// [`Error::Condition`].
    pub fn parse(text: &str) -> Result<WaitCondition, Error> {
        let wrong = |e: jsonpath::Error| Error::Condition(e.to_string());
        if let Some(condition) = text.strip_prefix("condition=") {
            let (name, value) = condition.split_once('=').unwrap_or((condition, "true"));
            return Ok(WaitCondition(Kind::Status { name: name.into(), value: value.into() }));
        }
        if let Some(expression) = text.strip_prefix("jsonpath=") {
            if expression.is_empty() {
                return Err(Error::Condition("jsonpath expression cannot be empty".into()));
            }
            // An = inside the braces is a filter's.
            let end = expression.rfind('}').map_or(0, |at| at + 1);
            let (path, value) = match expression[end..].find('=') {
                Some(at) => (&expression[..end + at], Some(expression[end + at + 1..].to_owned())),
                None => (expression, None),
            };
            let path = path.trim();
            if path.starts_with('{') != path.ends_with('}') {
                return Err(Error::Condition(
                    "unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'"
                        .into(),
                ));
            }
            let template = Template::path(path).map_err(wrong)?;
            return Ok(WaitCondition(Kind::JsonPath { template, value }));
        }
        match text.to_lowercase().as_str() {
            "create" => Ok(WaitCondition(Kind::Create)),
            "delete" => Ok(WaitCondition(Kind::Delete)),
            _ => Err(Error::Condition(format!("unrecognized condition: {text:?}"))),
        }
    }

    /// Tells whether objects are waited for that need not be there yet.
    pub(crate) fn is_create(&self) -> bool {
        matches!(self.0, Kind::Create)
    }

    /// Tells whether the end of objects is waited for.
    pub(crate) fn is_delete(&self) -> bool {
        matches!(self.0, Kind::Delete)
    }

    /// Tells whether this object, which is there, is as it should be.
    fn holds(&self, object: &Value) -> Result<bool, Error> {
        match &self.0 {
            Kind::Create => Ok(true),
            Kind::Delete => Ok(false),
            Kind::Status { name, value } => {
                let is_same = |field: &Value, wanted: &str| {
                    field.as_str().is_some_and(|field| field.eq_ignore_ascii_case(wanted))
                };
                let mut all = object["status"]["conditions"].as_array().into_iter().flatten();
                Ok(all.any(|c| is_same(&c["type"], name) && is_same(&c["status"], value)))
            }
            Kind::JsonPath { template, value } => {
                // kubectl waits for what is not there yet.
                let Ok(found) = template.find(object, true) else { return Ok(false) };
                let found: Vec<_> = found.into_iter().flatten().collect();
                match (&found[..], value) {
                    ([], _) => Ok(false),
                    (_, None) => Ok(true),
                    ([one], Some(value)) if !one.is_object() && !one.is_array() => {
                        Ok(jsonpath::text(one).trim() == value.trim())
                    }
                    ([_, _, ..], _) => {
                        Err(Error::Condition("given jsonpath expression matches more than one value".into()))
                    }
                    _ => Err(Error::Condition(
                        "jsonpath leads to a nested object or list which is not supported".into(),
                    )),
                }
            }
        }
    }
}

impl Engine {
    /// Waits until an object is as it should be; tells whether that came in time.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), podctl::Error> {
    /// # let engine = podctl::Engine::of_user()?;
    /// use podctl::{ObjectKind, WaitCondition};
    ///
    /// let ready = WaitCondition::parse("condition=Ready")?;
    /// let minute = std::time::Duration::from_secs(60);
    /// assert!(engine.wait_for_object(ObjectKind::Pod, "default", "web", &ready, minute)?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoObject`] when there is none that could come to be so; those of [`Engine::get_object`].
    pub fn wait_for_object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        condition: &WaitCondition,
        timeout: Duration,
    ) -> Result<bool, Error> {
        let watch = self.watch_objects()?;
        self.wait_until_holds(&watch, (kind, namespace, name), condition, Instant::now() + timeout)
    }

    /// Does as [`Engine::wait_for_object`], with a watch that serves several waits.
    ///
    /// # Errors
    /// As [`Engine::wait_for_object`].
    pub(crate) fn wait_until_holds(
        &self,
        watch: &ObjectWatch,
        (kind, namespace, name): (ObjectKind, &str, &str),
        condition: &WaitCondition,
        deadline: Instant,
    ) -> Result<bool, Error> {
        loop {
            // What is made now is watched before it is read: no change is missed.
            watch.refresh();
            let holds = match self.get_object(kind, namespace, name) {
                Ok(object) => condition.holds(&object)?,
                Err(e) if e.kind() == ErrorKind::NotFound => match condition.0 {
                    Kind::Delete => true,
                    Kind::Create => false,
                    // It will not come to be so any more.
                    _ => return Err(e),
                },
                Err(e) => return Err(e),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if holds || left.is_zero() {
                return Ok(holds);
            }
            // What lies behind a Service changes no file.
            watch.wait(Some(left.min(Duration::from_secs(1))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filters_equals_sign_is_not_the_values() {
        let text = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True";
        let Ok(WaitCondition(Kind::JsonPath { value, .. })) = WaitCondition::parse(text) else {
            panic!("not understood")
        };
        assert_eq!(value.as_deref(), Some("True"));
    }
}
