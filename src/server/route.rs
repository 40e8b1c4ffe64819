//! Paths of the API, and what requests say beside their bodies: query, Accept. PURE.

use std::collections::HashMap;

use super::{
    discovery::{AGGREGATED_V2, AGGREGATED_V2BETA1},
    kinds::{Kind, find_kind},
};

/// Names what a path names.
#[derive(Debug, PartialEq)]
pub enum Route {
    /// `/`
    Root,
    Version,
    /// `healthz`, `livez`, `readyz`
    Health,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`
    Resources(String, String),
    OpenApiIndex,
    /// The older form.
    OpenApiV2,
    /// Below `/openapi/v3/`.
    OpenApi(String),
    Objects(Target),
    /// HTTP of a pod or Service, and the path there, as it was written.
    Proxy(Target, String),
}

/// Objects of a kind, or one of them, or what lies below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The kind of the object.
    pub kind: &'static Kind,
    /// Tells in which namespace; in all of them else.
    pub namespace: Option<String>,
    /// Tells which one.
    pub name: Option<String>,
    /// Holds what of it.
    pub subresource: Option<String>,
}

/// Reads a path; `None` for one that names nothing.
pub fn parse_path(path: &str) -> Option<Route> {
    let parts: Vec<String> =
        path.split('/').filter(|p| !p.is_empty()).map(decode_percent).collect::<Option<_>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Some(match parts[..] {
        [] => Route::Root,
        ["version"] => Route::Version,
        ["healthz" | "livez" | "readyz", ..] => Route::Health,
        ["api"] => Route::CoreVersions,
        ["apis"] => Route::Groups,
        ["openapi", "v3"] => Route::OpenApiIndex,
        ["openapi", "v2"] => Route::OpenApiV2,
        ["openapi", "v3", ref rest @ ..] => Route::OpenApi(rest.join("/")),
        ["apis", group] => Route::Group(group.into()),
        ["api", version] => Route::Resources(String::new(), version.into()),
        ["apis", group, version] => Route::Resources(group.into(), version.into()),
        ["api", version, "namespaces", namespace, plural @ ("pods" | "services"), name, "proxy", ..] => {
            let target = finish_target(find_kind("", version, plural)?, Some(namespace), &[name, "proxy"])?;
            // As many parts as there are before it.
            let beyond = path.trim_start_matches('/').splitn(8, '/').nth(7).unwrap_or_default();
            Route::Proxy(target, beyond.to_owned())
        }
        ["api", version, ref rest @ ..] => Route::Objects(parse_target("", version, rest)?),
        ["apis", group, version, ref rest @ ..] => Route::Objects(parse_target(group, version, rest)?),
        _ => return None,
    })
}

fn parse_target(group: &str, version: &str, parts: &[&str]) -> Option<Target> {
    let find = |plural: &str| find_kind(group, version, plural);
    // `namespaces/x/status` is of the Namespace; `namespaces/x/pods` are the pods in it.
    if let ["namespaces", namespace, plural, rest @ ..] = parts
        && let Some(kind) = find(plural).filter(|kind| kind.namespaced)
    {
        return finish_target(kind, Some(namespace), rest);
    }
    let (plural, rest) = parts.split_first()?;
    let kind = find(plural)?;
    if kind.namespaced && !rest.is_empty() {
        return None;
    }
    finish_target(kind, None, rest)
}

fn finish_target(kind: &'static Kind, namespace: Option<&str>, rest: &[&str]) -> Option<Target> {
    let (name, subresource) = match rest {
        [] => (None, None),
        [name] => (Some(*name), None),
        [name, below] => (Some(*name), Some(kind.find_subresource(below)?.name)),
        _ => return None,
    };
    // Names become parts of paths on disk.
    let is_name = |text: &&str| !matches!(*text, "." | "..") && !text.contains(['/', '%']);
    if !namespace.iter().chain(&name).all(is_name) {
        return None;
    }
    let own = |text: Option<&str>| text.map(str::to_owned);
    Some(Target { kind, namespace: own(namespace), name: own(name), subresource: own(subresource) })
}

/// The parameters of a query, in order; a name may come several times.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what follows the question mark.
    pub fn parse(text: &str) -> Query {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let plain = |text: &str| decode_percent(&text.replace('+', " "));
            Some((plain(name)?, plain(value)?))
        };
        Query(text.split('&').filter(|p| !p.is_empty()).filter_map(pair).collect())
    }

    /// The first of that name, if it says anything.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// All of that name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let name = name.to_owned();
        self.0.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Tells whether it says yes.
    pub fn is_true(&self, name: &str) -> bool {
        matches!(self.find(name), Some("true" | "1" | "True"))
    }

    /// Writes all of it as it stands in an address.
    pub fn encode(&self) -> String {
        let pair = |(name, value): &(String, String)| match value.as_str() {
            "" => encode_percent(name),
            value => format!("{}={}", encode_percent(name), encode_percent(value)),
        };
        self.0.iter().map(pair).collect::<Vec<_>>().join("&")
    }

    /// The number of that name.
    ///
    /// # Errors
    /// What it says, when that is no number.
    pub fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let parse = |text: &str| text.parse().map_err(|_| format!("{name}: {text:?} is no number from 0"));
        self.find(name).map(parse).transpose()
    }
}

/// Writes text as it stands in a query.
pub(crate) fn encode_percent(text: &str) -> String {
    let write = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => (byte as char).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(write).collect()
}

fn decode_percent(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(out).ok().filter(|text| !text.contains('\0'))
}

/// The form in which a client wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Objects as they are.
    Plain,
    /// Rows.
    Table,
    /// Metadata alone.
    Partial,
    /// All of discovery in one; `true` for the older version.
    Aggregated(bool),
}

/// Chooses the first form of an Accept header that can be given.
pub fn choose_form(accept: Option<&str>) -> Option<Form> {
    let Some(accept) = accept.filter(|text| !text.trim().is_empty()) else { return Some(Form::Plain) };
    accept.split(',').find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let type_ = parts.next()?;
        let parameters: HashMap<&str, &str> = parts.filter_map(|p| p.split_once('=')).collect();
        match (type_, parameters.get("as").copied()) {
            ("application/json", Some("Table")) => Some(Form::Table),
            ("application/json", Some("PartialObjectMetadata" | "PartialObjectMetadataList")) => {
                Some(Form::Partial)
            }
            ("application/json", Some("APIGroupDiscoveryList")) => match parameters.get("v").copied() {
                Some("v2") => Some(Form::Aggregated(false)),
                Some("v2beta1") => Some(Form::Aggregated(true)),
                _ => None,
            },
            ("application/json" | "application/*" | "*/*", None) => Some(Form::Plain),
            _ => None,
        }
    })
}

impl Form {
    /// The answer's Content-Type.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Plain | Form::Table | Form::Partial => "application/json",
            Form::Aggregated(false) => AGGREGATED_V2,
            Form::Aggregated(true) => AGGREGATED_V2BETA1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(path: &str) -> Option<String> {
        let words = |Target { kind, namespace, name, subresource }: Target| {
            let all = [namespace, Some(kind.plural.to_owned()), name, subresource];
            all.map(Option::unwrap_or_default).join("|")
        };
        match parse_path(path)? {
            Route::Objects(target) => Some(words(target)),
            Route::Proxy(target, beyond) => Some(format!("{} {beyond}", words(target))),
            other => Some(format!("{other:?}")),
        }
    }

    #[test]
    fn paths_name_objects() {
        for (path, expected) in [
            ("/api/v1/pods", "|pods||"),
            ("/api/v1/namespaces/default/pods", "default|pods||"),
            ("/api/v1/namespaces/default/pods/web/log", "default|pods|web|log"),
            ("/api/v1/namespaces/default", "|namespaces|default|"),
            ("/api/v1/namespaces/default/finalize", "|namespaces|default|finalize"),
            ("/apis/metrics.k8s.io/v1beta1/namespaces/x/pods/a%2Db", "x|pods|a-b|"),
            ("/openapi/v3/api/v1", "OpenApi(\"api/v1\")"),
            ("/", "Root"),
            ("/api/v1/namespaces/d/pods/p:80/proxy/a%20b/c/", "d|pods|p:80|proxy a%20b/c/"),
            ("/api/v1/namespaces/d/services/s/proxy", "d|services|s|proxy "),
            ("/apis/discovery.k8s.io/v1", "Resources(\"discovery.k8s.io\", \"v1\")"),
        ] {
            assert_eq!(words(path).as_deref(), Some(expected), "{path}");
        }
        for nothing in [
            "/api/v1/pods/web",
            "/api/v1/namespaces/default/pods/web/nothing",
            "/apis/apps/v1/deployments",
            "/api/v1/namespaces/d/pods/%zz",
            "/api/v1/namespaces/d/pods/..%2Fother",
            "/api/v1/namespaces/%2e%2e/configmaps/x",
            "/api/v1/namespaces/d/pods/a/log/b",
        ] {
            assert_eq!(words(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("command=sh&command=-c&command=echo+a%20b&stdin=true&limit=x");
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c", "echo a b"]);
        assert_eq!(Query::parse("a=b+c&d&e=%26").encode(), "a=b%20c&d&e=%26");
        assert!(query.is_true("stdin") && !query.is_true("tty"));
        assert!(query.number("limit").is_err() && query.number("tailLines") == Ok(None));
    }

    #[test]
    fn the_first_form_that_can_be_given_is_chosen() {
        for (accept, expected) in [
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some(Form::Table)),
            ("application/vnd.kubernetes.protobuf,application/json", Some(Form::Plain)),
            ("application/vnd.kubernetes.protobuf, */*", Some(Form::Plain)),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some(Form::Partial)),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                Some(Form::Aggregated(false)),
            ),
            ("application/vnd.kubernetes.protobuf", None),
            ("", Some(Form::Plain)),
        ] {
            assert_eq!(choose_form(Some(accept)), expected, "{accept}");
        }
    }
}
