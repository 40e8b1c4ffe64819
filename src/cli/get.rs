//! `podctl get`: pods and events in kubectl's columns.

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};

use super::{
    Error, Namespace,
    changes::{self, Changes},
    events, objects,
    output::Output,
    which::{Which, is_pod, not_found},
};
use crate::{
    state::Home,
    view::{
        pods::{self, Columns},
        tab_stops,
    },
};

#[derive(clap::Args, Clone)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// One of wide, json, yaml, name, jsonpath=…, jsonpath-as-json=…, jsonpath-file=…,
    /// custom-columns=…, custom-columns-file=…; a table else.
    #[arg(short, long)]
    output: Option<String>,
    /// The template, where -o does not hold it.
    #[arg(long)]
    template: Option<String>,
    /// Go on and show each change.
    #[arg(short, long)]
    watch: bool,
    /// Show changes only.
    #[arg(long)]
    watch_only: bool,
    /// Leave the table's first line out.
    #[arg(long)]
    no_headers: bool,
    /// Show all labels in the last column.
    #[arg(long)]
    show_labels: bool,
    /// A column for each of these labels, comma-separated.
    #[arg(short = 'L', long, value_delimiter = ',')]
    label_columns: Vec<String>,
    /// `pod/NAME` rather than `NAME`.
    #[arg(long)]
    show_kind: bool,
    /// Order by what this JSONPath finds, such as `.metadata.creationTimestamp`.
    #[arg(long)]
    sort_by: Option<String>,
    /// No error when there is no such pod.
    #[arg(long)]
    ignore_not_found: bool,
    /// A field that is missing is no error in a template.
    #[arg(long, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    allow_missing_template_keys: bool,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let kinds = kinds(&args.which.names)?;
    if !kinds.is_empty() {
        return several(args, &kinds, home, namespace);
    }
    if let Some((kind, names)) = objects::asked(&args.which.names) {
        let only_pods = [
            (args.show_labels, "show-labels"),
            (!args.label_columns.is_empty(), "label-columns"),
            (args.which.field_selector.is_some(), "field-selector"),
            (!args.which.filename.is_empty(), "filename"),
        ];
        if let Some((_, flag)) = only_pods.iter().find(|(given, _)| *given) {
            return Err(Error::Said(format!("--{flag} is for pods; other objects have no such view here")));
        }
        let shown = objects::Shown {
            output: args.output.as_deref(),
            template: args.template.as_deref(),
            headers: !args.no_headers,
            kinds: args.show_kind,
            selector: args.which.selector.as_deref(),
            all_namespaces: args.which.all_namespaces,
            sort_by: args.sort_by.as_deref(),
            watch: args.watch || args.watch_only,
            watch_only: args.watch_only,
        };
        return objects::get(home, namespace, kind, &names, &shown);
    }
    if let Some(("events" | "event" | "ev", names)) =
        args.which.names.split_first().map(|(kind, names)| (kind.as_str(), names))
    {
        let all = args.which.all_namespaces;
        return events::get(home, namespace, all, names, args.output.as_deref(), args.no_headers, args.watch);
    }
    if (args.watch || args.watch_only) && args.which.filename.iter().any(|f| f == "-") {
        return Err(Error::Said(
            "standard input can be read once only; name a file to watch its pods".into(),
        ));
    }
    let output = Output::parse(args.output.as_deref(), args.template.as_deref())?;
    let chosen = args.which.choose(home, namespace)?;
    let named = args.which.names_pods();
    let mut code = i32::from(!chosen.damaged.is_empty());
    for name in &chosen.missing {
        if !args.ignore_not_found && !args.watch {
            super::complain(&not_found(name));
            code = 1;
        }
    }
    let mut shown: Vec<Pod> = chosen.found.into_iter().map(|f| f.pod).collect();
    if let Some(path) = &args.sort_by {
        changes::sort(&mut shown, path)?;
    }
    let columns = Columns {
        namespace: args.which.all_namespaces,
        wide: matches!(output, Output::Table { wide: true }),
        labels: args.label_columns.clone(),
        all_labels: args.show_labels,
        kind: args.show_kind,
    };
    if args.watch || args.watch_only {
        let key = |pod: &Pod| {
            let meta = &pod.metadata;
            (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
        };
        let row = |pod: &Pod| pods::row(pod, &columns, Timestamp::now());
        let now = || Ok(args.which.list(home, namespace)?.found.into_iter().map(|f| f.pod).collect());
        let lenient = args.allow_missing_template_keys;
        let mut changes = Changes::new(output, pods::head(&columns), &row, !args.no_headers, lenient);
        return changes.watch(home, None, shown, args.watch_only, &key, &now);
    }
    if matches!(output, Output::Table { .. }) {
        if shown.is_empty() {
            if !named && !args.ignore_not_found {
                match args.which.all_namespaces {
                    true => eprintln!("No resources found"),
                    false => eprintln!("No resources found in {namespace} namespace."),
                }
            }
            return Ok(code);
        }
        let now = Timestamp::now();
        let head = (!args.no_headers).then(|| pods::head(&columns));
        let rows = shown.iter().map(|p| pods::row(p, &columns, now));
        super::print(&tab_stops::table(&head.into_iter().chain(rows).collect::<Vec<_>>()));
    } else if !(named && shown.is_empty()) {
        let alone = named && args.which.named(home, namespace)?.len() == 1;
        super::print(&output.print(&shown, alone, args.allow_missing_template_keys, !args.no_headers)?);
    }
    Ok(code)
}

/// The kinds of `all`, or of a list such as `pods,svc`; none for a single kind.
fn kinds(words: &[String]) -> Result<Vec<String>, Error> {
    let list = match words {
        [all] if all == "all" => "pods,services",
        [list, ..] if list.contains(',') => list,
        _ => return Ok(Vec::new()),
    };
    let kinds: Vec<String> = list.split(',').filter(|kind| !kind.is_empty()).map(str::to_owned).collect();
    let unknown = |kind: &&String| !is_pod(kind) && objects::asked(std::slice::from_ref(kind)).is_none();
    match kinds.iter().find(unknown) {
        Some(kind) => Err(Error::Said(format!(
            "there is no kind \"{kind}\" to list here; there are pods, services, endpoints, endpointslices, configmaps, secrets and persistentvolumeclaims"
        ))),
        None => Ok(kinds),
    }
}

/// Several kinds, each as a table of its own; those that there are none of are passed over.
fn several(args: &Args, kinds: &[String], home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if args.watch || args.watch_only || !matches!(args.output.as_deref(), None | Some("wide" | "name")) {
        let words =
            "several kinds are printed as tables and names; ask for one kind to watch it or in other formats";
        return Err(Error::Said(words.into()));
    }
    let of = |kind: &String| {
        let names = std::iter::once(kind).chain(&args.which.names[1..]).cloned().collect();
        let which = Which { names, ..args.which.clone() };
        Args { which, show_kind: true, ..args.clone() }
    };
    let own = (!args.which.all_namespaces).then_some(namespace);
    let any = |kind: &String| match objects::asked(std::slice::from_ref(kind)) {
        Some((kind, _)) => objects::any(home, own, kind),
        None => Ok(!of(kind).which.list(home, namespace)?.found.is_empty()),
    };
    let mut shown: Vec<&String> = Vec::new();
    for kind in kinds {
        if args.which.names.len() > 1 || any(kind)? {
            shown.push(kind);
        }
    }
    if shown.is_empty() {
        shown.extend(kinds.first());
    }
    let mut code = 0;
    for (at, kind) in shown.into_iter().enumerate() {
        if at > 0 && args.output.as_deref() != Some("name") {
            println!();
        }
        code |= run(&of(kind), home, namespace)?;
    }
    Ok(code)
}
