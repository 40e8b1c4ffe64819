//! `-o custom-columns=HEADER:PATH,…`

use serde_json::Value;

use super::{
    jsonpath::{Error, Template},
    tab_stops,
};

/// The column.
#[derive(Clone, Debug)]
pub struct Column {
    header: String,
    /// What is wrong with a path is said when it is used.
    path: Result<Template, Error>,
}

/// Reads `HEADER:PATH,…`.
///
/// # Errors
/// [`Error::Columns`], and [`Error::Parse`] of a path.
pub fn parse(spec: &str) -> Result<Vec<Column>, Error> {
    let column = |part: &str| match part.split_once(':') {
        Some((header, path)) => Column::new(header, path),
        None => Err(Error::Columns(format!(
            "unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"
        ))),
    };
    spec.split(',').map(column).collect()
}

/// Reads a file of two lines: headers, and below them paths.
///
/// # Errors
/// [`Error::Columns`], and [`Error::Parse`] of a path.
pub fn parse_file(text: &str) -> Result<Vec<Column>, Error> {
    let mut lines = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
    let mut read_line = |what: &str| {
        lines.next().ok_or_else(|| {
            Error::Columns(format!(
                "invalid template, missing {what} line. Expected format is one line of space separated headers, one line of space separated column specs."
            ))
        })
    };
    let (headers, paths) = (read_line("header")?, read_line("spec")?);
    if headers.len() != paths.len() {
        let what = format!(
            "number of headers ({}) and field specifications ({}) don't match",
            headers.len(),
            paths.len()
        );
        return Err(Error::Columns(what));
    }
    headers.into_iter().zip(paths).map(|(header, path)| Column::new(header, path)).collect()
}

impl Column {
    fn new(header: &str, path: &str) -> Result<Column, Error> {
        let path = match Template::path(path) {
            Err(Error::Parse { why, .. }) => Err(Error::Columns(why)),
            read => Ok(read?),
        };
        Ok(Column { header: header.into(), path })
    }
}

/// The table.
///
/// # Errors
/// [`Error::Execute`].
pub fn print(columns: &[Column], objects: &[Value], headers: bool) -> Result<String, Error> {
    let mut rows = Vec::new();
    if headers {
        rows.push(columns.iter().map(|c| c.header.clone()).collect());
    }
    for object in objects {
        let cell = |column: &Column| {
            let path = column.path.as_ref().map_err(Clone::clone)?;
            let found = path.find(object, true).map_err(|e| match e {
                Error::Execute { why, .. } => Error::Columns(why),
                other => other,
            })?;
            let all: Vec<String> = found.into_iter().flatten().map(plain).collect();
            Ok(if all.is_empty() { "<none>".to_owned() } else { all.join(",") })
        };
        rows.push(columns.iter().map(cell).collect::<Result<Vec<_>, Error>>()?);
    }
    Ok(tab_stops::table(&rows))
}

/// Lists and maps as kubectl shows them here: `[a b]`, `map[k:v]`.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(all) => format!("[{}]", all.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(all) => {
            let pairs: Vec<String> = all.iter().map(|(k, v)| format!("{k}:{}", plain(v))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_joined_with_commas_and_what_is_missing_is_none() {
        let columns = parse("NAME:.metadata.name,IMAGES:.spec.c[*].image,M:m,X:.x").unwrap();
        let object = json!({"metadata": {"name": "p"}, "spec": {"c": [{"image": "a"}, {"image": "b"}]}, "m": {"k": [1, 2]}});
        let table = print(&columns, &[object], true).unwrap();
        assert_eq!(
            table,
            "NAME   IMAGES   M            X\np      a,b      map[k:[1 2]]   <none>\n"
                .replace("M            X", "M              X")
        );
        assert!(parse("NAME").unwrap_err().to_string().starts_with("unexpected custom-columns spec: NAME"));
        assert_eq!(parse_file("A  B\n.a .b\n").unwrap().len(), 2);
    }
}
