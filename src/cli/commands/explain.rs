//! `podctl explain`: the fields of a kind, out of the API's own description.

use crate::{
    cli::{Error, kind_words::unknown_kind, print},
    engine::openapi::plain_document,
    pod::ObjectKind,
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
    /// The group and version, such as `v1`; there is one of each kind.
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
    if !args.api_version.is_empty() && args.api_version != version {
        let (group, asked) = args.api_version.split_once('/').unwrap_or(("", &args.api_version));
        let plural = kind.plural();
        return Err(Error::absent(format!(
            "couldn't find resource for \"{group}/{asked}, Resource={plural}\""
        )));
    }
    let document = match version.split_once('/') {
        Some(_) => format!("apis/{version}"),
        None => format!("api/{version}"),
    };
    let text = plain_document(&document).unwrap_or_default();
    let document = serde_json::from_slice(&text).unwrap_or_default();
    let wanted = Wanted {
        group: kind.group(),
        version: version.rsplit('/').next().unwrap_or_default(),
        kind: kind.name(),
        path: &path,
        recursive: args.recursive,
        max_depth: args.max_depth,
    };
    let (text, found) = explain_kind(&document, &wanted)
        .ok_or_else(|| Error::absent(format!("the API has no description of {}", kind.name())))?;
    print(&text);
    found.map_err(|field| Error::absent(format!("field {field:?} does not exist"))).map(|()| 0)
}

/// The kind of `KIND.FIELD…`, or of `KIND.GROUP` when the whole names one, and the fields.
fn split_path(word: &str) -> Result<(ObjectKind, Vec<&str>), Error> {
    if let Some(kind) =
        ObjectKind::of_word(word).filter(|kind| !kind.group().is_empty() || !word.contains('.'))
    {
        return Ok((kind, Vec::new()));
    }
    if word.is_empty() {
        return Err(Error::bad_value("a resource must be present, got: /, Resource="));
    }
    let mut parts = word.split('.');
    let first = parts.next().unwrap_or_default();
    let kind = ObjectKind::of_word(first).ok_or_else(|| unknown_kind(first))?;
    let path: Vec<&str> = parts.collect();
    match path.contains(&"") {
        true => Err(Error::bad_value("invalid jsonpath syntax, first node must be field node")),
        false => Ok((kind, path)),
    }
}
