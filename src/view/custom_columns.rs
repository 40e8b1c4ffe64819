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
    path: Template,
}

/// Reads `HEADER:PATH,…`; `None` when it is not of that form.
///
/// # Errors
/// [`Error::Parse`] of a path.
pub fn parse(spec: &str) -> Result<Option<Vec<Column>>, Error> {
    let mut columns = Vec::new();
    for part in spec.split(',') {
        let Some((header, path)) = part.split_once(':').filter(|(h, p)| !h.is_empty() && !p.is_empty())
        else {
            return Ok(None);
        };
        columns.push(Column { header: header.into(), path: Template::path(path)? });
    }
    Ok(Some(columns))
}

/// Reads a file of two lines: headers, and below them paths. `None` when it is not of that form.
///
/// # Errors
/// [`Error::Parse`] of a path.
pub fn parse_file(text: &str) -> Result<Option<Vec<Column>>, Error> {
    let mut lines = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
    let (headers, paths) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if headers.is_empty() || headers.len() != paths.len() {
        return Ok(None);
    }
    let column =
        |(header, path): (&str, &str)| Ok(Column { header: header.into(), path: Template::path(path)? });
    headers.into_iter().zip(paths).map(column).collect::<Result<_, _>>().map(Some)
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
            let found = column.path.find(object, true)?;
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
        let columns = parse("NAME:.metadata.name,IMAGES:.spec.c[*].image,M:m,X:.x").unwrap().unwrap();
        let object = json!({"metadata": {"name": "p"}, "spec": {"c": [{"image": "a"}, {"image": "b"}]}, "m": {"k": [1, 2]}});
        let table = print(&columns, &[object], true).unwrap();
        assert_eq!(
            table,
            "NAME   IMAGES   M            X\np      a,b      map[k:[1 2]]   <none>\n"
                .replace("M            X", "M              X")
        );
        assert!(parse("NAME").unwrap().is_none());
        assert_eq!(parse_file("A  B\n.a .b\n").unwrap().unwrap().len(), 2);
    }
}
