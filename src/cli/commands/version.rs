//! `podctl version`, `api-resources` and `api-versions`: what this podctl is, and what it knows.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::{
    cli::{Error, output_formats, print},
    server::{
        discovery::version_info,
        kinds::{Kind, all_kinds, group_versions, join_group},
    },
    view::{tab_stops, yaml},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The command's own version alone.
    #[arg(long)]
    client: bool,
    /// `json` or `yaml`.
    #[arg(short, long)]
    output: Option<String>,
}

/// The version of Kubernetes' API that is spoken.
fn kubernetes_version() -> String {
    version_info()["gitVersion"].as_str().unwrap_or_default().to_owned()
}

/// The commit that this program was built from, where the build knew it.
fn find_commit() -> Option<&'static str> {
    option_env!("PODCTL_COMMIT").filter(|commit| !commit.is_empty())
}

/// Returns what `--version` prints: the version, the commit where the build knew it, and the API that is spoken.
pub(super) fn describe_version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let commit = find_commit().map(|commit| format!("commit {commit}, ")).unwrap_or_default();
        format!("{} ({commit}Kubernetes {})", env!("CARGO_PKG_VERSION"), kubernetes_version())
    });
    &TEXT
}

pub(super) fn run(args: &Args) -> Result<i32, Error> {
    let server = version_info();
    let mut client = server.clone();
    client["gitVersion"] = concat!("v", env!("CARGO_PKG_VERSION")).into();
    client["gitCommit"] = find_commit().unwrap_or_default().into();
    let mut whole = json!({"clientVersion": client});
    if !args.client {
        whole["serverVersion"] = server;
    }
    match args.output.as_deref() {
        Some("json") => print(&(serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n")),
        Some("yaml") => print(&yaml::document(&whole)),
        Some(_) => return Err(Error::bad_value("--output must be 'yaml' or 'json'")),
        None => {
            let commit = find_commit().map(|commit| format!(" ({commit})")).unwrap_or_default();
            println!("Client Version: podctl {}{commit}", env!("CARGO_PKG_VERSION"));
            if !args.client {
                println!("Server Version: {}", kubernetes_version());
            }
        }
    }
    Ok(0)
}

#[derive(clap::Args)]
pub(super) struct ResourcesArgs {
    /// Of this API group only; the core group is ''.
    #[arg(long)]
    api_group: Option<String>,
    /// Those that lie in namespaces, or with `=false` the others.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    namespaced: Option<bool>,
    /// Those with which all of these can be done, such as `list,watch`.
    #[arg(long, value_delimiter = ',')]
    verbs: Vec<String>,
    /// Those that belong to all of these, such as `all`.
    #[arg(long, value_delimiter = ',')]
    categories: Vec<String>,
    /// Leave the table's first line out.
    #[arg(long)]
    no_headers: bool,
    /// `name` or `kind` instead of by group.
    #[arg(long, default_value = "", value_parser = ["", "name", "kind"])]
    sort_by: String,
    /// `wide`, `name`, `json` or `yaml`.
    #[arg(short, long, value_parser = ["wide", "name", "json", "yaml"])]
    output: Option<String>,
}

pub(super) fn list_resources(args: &ResourcesArgs) -> Result<i32, Error> {
    let has_all = |own: &[&str], wanted: &[String]| wanted.iter().all(|word| own.contains(&word.as_str()));
    let mut kinds: Vec<&Kind> = all_kinds()
        .iter()
        .filter(|kind| args.api_group.as_deref().is_none_or(|group| kind.group == group))
        .filter(|kind| args.namespaced.is_none_or(|namespaced| kind.namespaced == namespaced))
        .filter(|kind| has_all(&kind.verbs, &args.verbs) && has_all(&kind.categories, &args.categories))
        .collect();
    kinds.sort_by_key(|kind| match args.sort_by.as_str() {
        "name" => ("", kind.plural),
        "kind" => ("", kind.kind),
        _ => (kind.group, kind.plural),
    });
    let full_name = |kind: &Kind| match kind.group {
        "" => kind.plural.to_owned(),
        group => format!("{}.{group}", kind.plural),
    };
    match args.output.as_deref() {
        Some("name") => {
            kinds.iter().for_each(|kind| println!("{}", full_name(kind)));
            return Ok(0);
        }
        Some(format @ ("json" | "yaml")) => {
            let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "",
                "resources": kinds.iter().map(|kind| describe_kind(kind)).collect::<Vec<_>>()});
            output_formats::print_value(&list, format)?;
            return Ok(0);
        }
        _ => {}
    }
    let wide = args.output.is_some();
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !args.no_headers {
        let head = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", "VERBS", "CATEGORIES"];
        rows.push(head[..if wide { 7 } else { 5 }].iter().map(|word| (*word).to_owned()).collect());
    }
    rows.extend(kinds.iter().map(|kind| {
        let mut row = vec![
            kind.plural.to_owned(),
            kind.short_names.join(","),
            kind.api_version(),
            kind.namespaced.to_string(),
            kind.kind.to_owned(),
        ];
        if wide {
            row.extend([kind.verbs.join(","), kind.categories.join(",")]);
        }
        row
    }));
    print(&tab_stops::table(&rows));
    Ok(0)
}

fn describe_kind(kind: &Kind) -> Value {
    let mut value = json!({"name": kind.plural, "singularName": kind.singular(), "namespaced": kind.namespaced,
        "version": kind.version, "kind": kind.kind, "verbs": kind.verbs});
    if !kind.group.is_empty() {
        value["group"] = kind.group.into();
    }
    if !kind.categories.is_empty() {
        value["categories"] = json!(kind.categories);
    }
    if !kind.short_names.is_empty() {
        value["shortNames"] = json!(kind.short_names);
    }
    value
}

/// `podctl api-versions`
pub(super) fn list_versions() -> Result<i32, Error> {
    let mut all: Vec<String> =
        group_versions().into_iter().map(|(group, version)| join_group(group, version)).collect();
    all.sort();
    all.iter().for_each(|version| println!("{version}"));
    Ok(0)
}
