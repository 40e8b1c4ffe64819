//! `podctl explain`: the fields of a kind, out of the API's own description.

use crate::{
    cli::{
        Error,
        kind_words::{find_served_kind, unknown_kind},
        print,
    },
    engine::openapi::plain_document,
    pod::ObjectKind,
    server::kinds::{Kind, find_kind},
    view::explain::{Wanted, explain_kind},
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl explain pod.spec.containers.livenessProbe
  podctl explain svc --recursive

`podctl explain-file FILE` says what a run of a manifest would do; docs/fields.md says what podctl does with each field.")]
pub(super) struct Args {
    /// `KIND` or `KIND.FIELD.FIELD…`.
    kind: Option<String>,
    /// The names of all fields below, and no descriptions.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// With --recursive: levels of fields; 0 is all.
    #[arg(long, default_value = "0")]
    max_depth: usize,
    /// The group and version, such as `v1`.
    #[arg(long, default_value = "")]
    api_version: String,
    /// `plaintext`.
    #[arg(short, long, default_value = "plaintext")]
    output: String,
}

pub(super) fn run(args: &Args) -> Result<i32, Error> {
    if !["plaintext", "plaintext-openapiv2"].contains(&args.output.as_str()) {
        return Err(Error::bad_value(format!("unrecognized format: {}", args.output)));
    }
    let word = args.kind.as_deref().ok_or_else(|| {
        let what = "You must specify the type of resource to explain. Use \"podctl api-resources\" for a complete list of supported resources.";
        Error::missing(what)
    })?;
    let (kind, path) = match split_path(word.trim_end_matches('.')) {
        Ok(split) => split,
        Err(e @ Error::Usage(_)) => return Err(e),
        // kubectl has no word before it here.
        Err(e) => {
            eprintln!("{e}");
            return Ok(1);
        }
    };
    let version = kind.api_version();
    let version = if args.api_version.is_empty() { &version } else { &args.api_version };
    let (group, number) = version.split_once('/').unwrap_or(("", version));
    let document = if group.is_empty() { format!("api/{version}") } else { format!("apis/{version}") };
    let Some(text) = plain_document(&document) else {
        let plural = kind.plural;
        return Err(Error::absent(format!(
            "couldn't find resource for \"{group}/{number}, Resource={plural}\""
        )));
    };
    let document = serde_json::from_slice(&text).unwrap_or_default();
    let kind = find_kind(group, number, kind.plural).unwrap_or(kind);
    let wanted = Wanted {
        group,
        version: number,
        kind: kind.kind,
        path: &path,
        recursive: args.recursive,
        max_depth: args.max_depth,
    };
    let (text, found) = explain_kind(&document, &wanted).ok_or_else(|| {
        let plural = kind.plural;
        Error::absent(format!("GVR ({group}/{number}, Resource={plural}) not found in OpenAPI schema"))
    })?;
    print(&text);
    found.map_err(|field| Error::absent(format!("field {field:?} does not exist"))).map(|()| 0)
}

/// The kind of `KIND.FIELD…`, or of `KIND.GROUP` when the whole names one, and the fields.
fn split_path(word: &str) -> Result<(&'static Kind, Vec<&str>), Error> {
    if let Some(kind) = find_described_kind(word).filter(|kind| !kind.group.is_empty() || !word.contains('.'))
    {
        return Ok((kind, Vec::new()));
    }
    if word.is_empty() {
        return Err(Error::bad_value("a resource must be present, got: /, Resource="));
    }
    let mut parts = word.split('.');
    let first = parts.next().unwrap_or_default();
    let kind = find_described_kind(first).ok_or_else(|| unknown_kind(first))?;
    let path: Vec<&str> = parts.collect();
    match path.iter().any(|part| part.is_empty() || part.contains('[')) {
        true => Err(Error::bad_value("invalid jsonpath syntax, first node must be field node")),
        false => Ok((kind, path)),
    }
}

/// Finds the kind that a word is for, also one of which podctl has no objects.
fn find_described_kind(word: &str) -> Option<&'static Kind> {
    match ObjectKind::of_word(word) {
        Some(kind) => {
            let version = kind.api_version();
            find_kind(kind.group(), version.rsplit('/').next().unwrap_or_default(), kind.plural())
        }
        None => find_served_kind(word),
    }
}
