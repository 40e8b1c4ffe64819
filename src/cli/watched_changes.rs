//! `get --watch`: objects as they change; and `--sort-by`.

use std::{
    collections::BTreeMap,
    io::Write,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    cli::{Error, durations::time_left, output_formats::Output, print},
    logs::Watch,
    state::Home,
    view::jsonpath::Template,
};

/// Puts objects in the order of what a JSONPath finds: numbers by size, all else as text; what has no such field first.
pub(super) fn sort<T: Serialize>(found: &mut [T], path: &str) -> Result<(), Error> {
    let template = Template::path(path)?;
    let key = |found: &T| -> Option<Value> {
        let object = serde_json::to_value(found).ok()?;
        let lists = template.find(&object, true).ok()?;
        lists.into_iter().flatten().next().cloned()
    };
    let number = |value: &Option<Value>| value.as_ref().and_then(Value::as_f64);
    let text = |value: &Option<Value>| value.as_ref().map(crate::view::jsonpath::text);
    found.sort_by_cached_key(|f| {
        let key = key(f);
        (key.is_some(), number(&key).map(|n| (n * 1000.0) as i64), text(&key))
    });
    Ok(())
}

/// Holds what is shown of objects as they change.
pub(super) struct Changes<'a, T> {
    output: Output,
    head: Vec<String>,
    row: &'a dyn Fn(&T) -> Vec<String>,
    /// A field that is missing is no error in a template.
    lenient: bool,
    /// Belongs to the columns, so far.
    widths: Vec<usize>,
    headed: bool,
    /// Tells whether each change is named, as the API names it.
    pub events: bool,
    /// When the watch ends; none is never.
    pub until: Option<Instant>,
}

impl<'a, T: Clone + PartialEq + Serialize> Changes<'a, T> {
    pub(super) fn new(
        output: Output,
        head: Vec<String>,
        row: &'a dyn Fn(&T) -> Vec<String>,
        headers: bool,
        lenient: bool,
    ) -> Changes<'a, T> {
        Changes {
            output,
            head,
            row,
            lenient,
            widths: Vec::new(),
            headed: !headers,
            events: false,
            until: None,
        }
    }

    /// Shows the `first` ones, unless changes `only` are asked for, and then whatever is not as it was in what `now`
    /// gives: when a pod has changed, and `every` so often. Returns when its
    /// time is over, or the reader has gone.
    pub(super) fn watch(
        &mut self,
        home: &Home,
        every: Option<Duration>,
        first: Vec<T>,
        only: bool,
        key: &dyn Fn(&T) -> (String, String),
        now: &dyn Fn() -> Result<Vec<T>, Error>,
    ) -> Result<i32, Error> {
        if !only {
            self.show("ADDED", &first)?;
        }
        let mut known: BTreeMap<_, T> = first.into_iter().map(|object| (key(&object), object)).collect();
        let watch = Watch::of_all(home)?;
        loop {
            // What is made now is watched before it is read: no change is missed.
            watch.refresh(home);
            let now = now()?;
            let present: Vec<_> = now.iter().map(key).collect();
            let gone: Vec<_> = known.keys().filter(|k| !present.contains(k)).cloned().collect();
            for name in gone {
                // kubectl shows what is gone once more.
                known.remove(&name).map(|object| self.show("DELETED", &[object])).transpose()?;
            }
            for object in now {
                let before = known.get(&key(&object));
                if before != Some(&object) {
                    let event = if before.is_some() { "MODIFIED" } else { "ADDED" };
                    self.show(event, std::slice::from_ref(&object))?;
                    known.insert(key(&object), object);
                }
            }
            match time_left(self.until) {
                Some(Duration::ZERO) => return Ok(0),
                left => watch.wait(every.into_iter().chain(left).min()),
            }
        }
    }

    /// Shows objects to which `event` has happened.
    fn show(&mut self, event: &str, all: &[T]) -> Result<(), Error> {
        if all.is_empty() {
            return Ok(());
        }
        if !matches!(self.output, Output::Table { .. }) {
            for object in all {
                let object = serde_json::to_value(object)?;
                print(&match (self.events, &self.output) {
                    // A line an event, as the API has them.
                    (true, Output::Json) => format!("{{\"type\":\"{event}\",\"object\":{object}}}\n"),
                    (true, output) if !matches!(output, Output::Name) => {
                        let named = json!({"type": event, "object": object});
                        output.print(&[named], true, self.lenient, !self.headed)?
                    }
                    (_, output) => output.print(&[object], true, self.lenient, !self.headed)?,
                });
                self.headed = true;
            }
            // A reader that has gone is noticed by the next print.
            let _ = std::io::stdout().flush();
            return Ok(());
        }
        let head = (!self.headed).then(|| self.head.clone());
        self.headed = true;
        // The names of changes are of different lengths, and their column is as wide as the longest.
        let named = |name: &str, row: Vec<String>| {
            let name = self.events.then(|| format!("{name:8}"));
            name.into_iter().chain(row).collect()
        };
        let rows = all.iter().map(|object| named(event, (self.row)(object)));
        let rows: Vec<Vec<String>> = head.map(|head| named("EVENT", head)).into_iter().chain(rows).collect();
        self.widths.resize(rows[0].len(), 3);
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in rows {
            let line: String =
                row.iter().zip(&self.widths).map(|(cell, w)| format!("{cell:w$}   ")).collect();
            print(&format!("{}\n", line.trim_end()));
        }
        // A reader that has gone is noticed by the next print.
        let _ = std::io::stdout().flush();
        Ok(())
    }
}
