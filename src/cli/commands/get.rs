//! `podctl get`: objects of every kind in kubectl's columns and formats.

use std::collections::HashSet;

use http::Method;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Event, Pod, Secret, Service},
    jiff::Timestamp,
};
use serde_json::Value;

use crate::{
    cli::{
        Error, Namespace, UsageError,
        durations::parse_request_timeout,
        kind_words::is_namespaced,
        manifest_files::FileArgs,
        object_selection::{Target, Words, check_flags, parse_words, targets_of_sources},
        output_formats::{Output, OutputArgs},
        pod_selection::Which,
        print, print_error,
        raw_requests::{RawArgs, send_raw},
        watched_changes::{self, Changes},
    },
    engine::{Engine, ErrorKind},
    pod::ObjectKind,
    state::{self, Home, PodDir},
    view::{
        events, object_table,
        pods::{self, Columns},
        tab_stops,
    },
};

#[derive(clap::Args)]
#[command(mut_arg("output", |arg| arg.help(FORMATS_HELP)))]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    raw: RawArgs,
    /// Go on and show each change.
    #[arg(short, long)]
    watch: bool,
    /// Show changes only.
    #[arg(long)]
    watch_only: bool,
    /// With --watch: say of each change which it is.
    #[arg(long)]
    output_watch_events: bool,
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
    /// How long a watch lasts, such as `30s`; without end else.
    #[arg(long, value_name = "TIME")]
    request_timeout: Option<String>,
}

/// The help of -o, which has tables here as well.
const FORMATS_HELP: &str = "One of wide, json, yaml, kyaml, name, jsonpath=…, jsonpath-as-json=…, jsonpath-file=…, go-template=…, go-template-file=…, custom-columns=…, custom-columns-file=…; a table else";

/// The objects of one kind that are shown together.
struct Section {
    kind: ObjectKind,
    objects: Vec<Value>,
}

/// Holds what was asked for, and the errors about what is not there.
struct Found {
    sections: Vec<Section>,
    missing: Vec<Error>,
    /// The errors about kinds of which nothing can be chosen so.
    failed: Vec<Error>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if let Some(path) = &args.raw.raw {
        args.check_raw()?;
        return send_raw(Method::GET, path, &FileArgs::default(), home);
    }
    let watch = args.watch || args.watch_only;
    if watch && args.which.files.reads_stdin() {
        let words = "standard input can be read once only; name a file to watch its objects";
        return Err(Error::contradiction(words));
    }
    if args.output_watch_events && !watch {
        let words = "--output-watch-events option can only be used with --watch or --watch-only";
        return Err(Error::contradiction(words));
    }
    // What is no time is an error without a watch as well.
    parse_request_timeout(args.request_timeout.as_deref())?;
    let output = Output::parse(args.output.output.as_deref(), args.output.template.as_deref())?;
    if let Some(format) =
        args.output.output.as_deref().filter(|format| args.show_labels && !format.is_empty())
        && !matches!(output, Output::Table { .. })
    {
        let what = format!("--show-labels option cannot be used with {format} printer");
        return Err(Error::contradiction(what));
    }
    let words = match parse_words(&args.which.names) {
        Err(e) if args.ignore_not_found && e.reason() == Some("NotFound") => return Ok(0),
        words => words?,
    };
    check_flags(&args.which.names, &words, args.which.narrowing())?;
    let engine = Engine::over(home);
    let find = || args.find(&engine, home, namespace, &words);
    let found = find()?;
    if watch {
        let missing = found.missing.into_iter().filter(|_| !args.ignore_not_found);
        let wrong: Vec<Error> = missing.chain(found.failed).collect();
        if !wrong.is_empty() {
            return Err(Error::Several(wrong));
        }
        let found = Found { sections: found.sections, missing: Vec::new(), failed: Vec::new() };
        return args.watch_changes(home, output, found, &|| Ok(find()?.into_objects()));
    }
    let (mut code, named) = (0, args.names_objects(&words));
    let missing = found.missing.iter().filter(|_| !args.ignore_not_found);
    for wrong in missing.chain(&found.failed) {
        print_error(wrong);
        code = 1;
    }
    let count: usize = found.sections.iter().map(|section| section.objects.len()).sum();
    if let Output::Table { wide } = output {
        // Files may name nothing.
        let is_empty = !named || found.sections.is_empty();
        if count == 0 && is_empty && !args.ignore_not_found && found.failed.is_empty() {
            let is_namespaced = match &found.sections[..] {
                [] => args.which.names.iter().all(|word| is_namespaced(word)),
                sections => sections.iter().any(|section| section.kind.is_namespaced()),
            };
            match args.which.filter.all_namespaces || !is_namespaced {
                true => eprintln!("No resources found"),
                false => eprintln!("No resources found in {namespace} namespace."),
            }
        }
        args.print_tables(&found.sections, wide);
    } else if count > 0 || !named {
        let objects = found.into_objects();
        let alone = named && args.asks_for_one(&words) && objects.len() == 1;
        let (lenient, headers) = (args.output.allow_missing_template_keys, !args.no_headers);
        print(&match args.output.show_managed_fields {
            true => output.print_whole(objects, alone, lenient, headers)?,
            false => output.print(&objects, alone, lenient, headers)?,
        });
    }
    Ok(code)
}

impl Found {
    fn into_objects(self) -> Vec<Value> {
        self.sections.into_iter().flat_map(|section| section.objects).collect()
    }
}

impl Args {
    /// Tells whether it asks for all objects of a kind, and not for those of some names alone.
    pub(super) fn lists_names(&self) -> bool {
        self.which.names.len() < 2 && !self.which.names.iter().any(|word| word.contains('/'))
    }

    /// Refuses what has no meaning beside --raw.
    fn check_raw(&self) -> Result<(), Error> {
        if self.watch || self.watch_only || self.which.filter.selector.is_some() {
            let what = "--raw may not be specified with other flags that filter the server request or alter the output";
            return Err(Error::contradiction(what));
        }
        if self.output.output.is_some() {
            return Err(UsageError::Exclusive { one: "--raw", other: "--output" }.into());
        }
        match self.which.names.is_empty() {
            true => Ok(()),
            false => Err(Error::contradiction("arguments may not be passed when --raw is specified")),
        }
    }

    /// Asks for the names alone.
    pub(super) fn print_names(&mut self) {
        self.output.output = Some("name".into());
    }

    /// Tells whether objects are named rather than listed.
    fn names_objects(&self, words: &Words) -> bool {
        self.which.files.is_given() || matches!(words, Words::Objects(_))
    }

    /// Tells whether what is asked for is one object, which is then printed as itself and not as a list.
    fn asks_for_one(&self, words: &Words) -> bool {
        self.which.files.names_one() || matches!(words, Words::Objects(all) if all.len() == 1)
    }

    /// Reads what is asked for, ordered by kind as it was asked for.
    fn find(
        &self,
        engine: &Engine,
        home: &Home,
        namespace: &Namespace,
        words: &Words,
    ) -> Result<Found, Error> {
        let mut found = match words {
            _ if self.which.files.is_given() => {
                let (targets, failed) = targets_of_sources(&self.which, home, namespace)?;
                let found = find_named(engine, targets.into_iter().map(|(target, _)| target).collect())?;
                Found { failed, ..found }
            }
            Words::Objects(all) => {
                let target = |(kind, name): &(_, _)| Target {
                    kind: *kind,
                    namespace: namespace.clone(),
                    name: Clone::clone(name),
                };
                find_named(engine, all.iter().map(target).collect())?
            }
            Words::Kinds(kinds) => {
                let (found, failed) = self.which.list_kinds(engine, kinds, namespace);
                let section = |(kind, objects)| Section { kind, objects };
                let sections: Vec<_> = found.into_iter().map(section).collect();
                let missing = self.find_damaged(home, namespace, &sections)?;
                Found { sections, missing, failed }
            }
        };
        if let Some(path) = &self.sort_by {
            for section in &mut found.sections {
                watched_changes::sort(&mut section.objects, path)?;
            }
        }
        Ok(found)
    }

    /// Returns what is there of these kinds and cannot be read; it hides no other.
    fn find_damaged(
        &self,
        home: &Home,
        namespace: &Namespace,
        sections: &[Section],
    ) -> Result<Vec<Error>, Error> {
        let mut damaged = Vec::new();
        let meant = |own: &Namespace| self.which.filter.all_namespaces || own == namespace;
        if let Some(Section { objects, .. }) = sections.iter().find(|section| section.kind == ObjectKind::Pod)
        {
            let word = |pod: &Value, pointer| pod.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            let place = |pod| (word(pod, "/metadata/namespace"), word(pod, "/metadata/name"));
            let listed: HashSet<_> = objects.iter().map(place).collect();
            let is_listed = |dir: &PodDir| {
                listed.contains(&(Some(dir.namespace.to_string()), Some(dir.name.to_string())))
            };
            let own = home.pods()?.into_iter().filter(|dir| meant(&dir.namespace) && !is_listed(dir));
            let wrong = own.filter_map(|dir| dir.read().err());
            damaged.extend(wrong.filter(|e| matches!(e, state::Error::Damaged { .. })).map(Error::from));
        }
        for own in home.namespaces()?.iter().filter(|own| meant(own)) {
            for kind in sections.iter().map(|section| section.kind) {
                let wrong = match kind {
                    ObjectKind::ConfigMap => home.damaged_objects::<ConfigMap>(own)?,
                    ObjectKind::Secret => home.damaged_objects::<Secret>(own)?,
                    ObjectKind::Service => home.damaged_objects::<Service>(own)?,
                    _ => Vec::new(),
                };
                damaged.extend(wrong.into_iter().map(Error::from));
            }
        }
        Ok(damaged)
    }

    /// Each kind as a table of its own; those that there are none of are passed over.
    fn print_tables(&self, sections: &[Section], wide: bool) {
        let several = sections.len() > 1;
        let mut first = true;
        for section in sections.iter().filter(|section| !section.objects.is_empty()) {
            if !std::mem::take(&mut first) && !self.no_headers {
                print("\n");
            }
            let table = Table::new(self, section.kind, wide, several);
            let now = Timestamp::now();
            let head = (!self.no_headers).then(|| table.head());
            let rows = section.objects.iter().map(|object| table.row(object, now));
            print(&tab_stops::table(&head.into_iter().chain(rows).collect::<Vec<_>>()));
        }
    }

    fn watch_changes(
        &self,
        home: &Home,
        output: Output,
        found: Found,
        now: &dyn Fn() -> Result<Vec<Value>, Error>,
    ) -> Result<i32, Error> {
        let [section] = &found.sections[..] else {
            return Err(Error::contradiction("you may only specify a single resource type"));
        };
        if self.sort_by.is_some() {
            eprintln!("warning: --watch requested, --sort-by will be ignored for watch events received");
        }
        let table = Table::new(self, section.kind, matches!(output, Output::Table { wide: true }), false);
        // What lies behind a Service is asked of the network, which changes no file.
        let follows_network =
            matches!(section.kind, ObjectKind::Service | ObjectKind::Endpoints | ObjectKind::EndpointSlice);
        let every = follows_network.then_some(std::time::Duration::from_secs(1));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = |o: &Value| (text(&o["metadata"]["namespace"]), text(&o["metadata"]["name"]));
        let row = |object: &Value| table.row(object, Timestamp::now());
        let lenient = self.output.allow_missing_template_keys;
        let mut changes = Changes::new(output, table.head(), &row, !self.no_headers, lenient);
        changes.events = self.output_watch_events;
        changes.until = parse_request_timeout(self.request_timeout.as_deref())?;
        changes.watch(home, every, found.into_objects(), self.watch_only, &key, now)
    }
}

/// Reads objects that are named, those of one kind together.
fn find_named(engine: &Engine, targets: Vec<Target>) -> Result<Found, Error> {
    let mut found = Found { sections: Vec::new(), missing: Vec::new(), failed: Vec::new() };
    for Target { kind, namespace, name } in targets {
        let at = found.sections.iter().position(|section| section.kind == kind);
        let at = at.unwrap_or_else(|| {
            found.sections.push(Section { kind, objects: Vec::new() });
            found.sections.len() - 1
        });
        match engine.get_object(kind, &namespace, &name) {
            Ok(object) => found.sections[at].objects.push(object),
            Err(e) if e.kind() == ErrorKind::NotFound => found.missing.push(e.into()),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(found)
}

/// The columns of one kind.
struct Table<'a> {
    args: &'a Args,
    kind: ObjectKind,
    columns: Columns,
}

impl Table<'_> {
    fn new(args: &Args, kind: ObjectKind, wide: bool, several: bool) -> Table<'_> {
        let columns = Columns {
            namespace: args.which.filter.all_namespaces && kind.is_namespaced(),
            wide,
            labels: args.label_columns.clone(),
            all_labels: args.show_labels,
            kind: args.show_kind || several,
        };
        Table { args, kind, columns }
    }

    fn head(&self) -> Vec<String> {
        let mut head: Vec<String> = match self.kind {
            ObjectKind::Pod => return pods::head(&self.columns),
            kind => {
                let namespace = self.columns.namespace.then(|| "NAMESPACE".to_owned());
                namespace.into_iter().chain(object_table::head(kind, self.columns.wide)).collect()
            }
        };
        head.extend(
            self.args.label_columns.iter().map(|l| l.rsplit('/').next().unwrap_or_default().to_uppercase()),
        );
        head.extend(self.args.show_labels.then(|| "LABELS".to_owned()));
        head
    }

    /// Puts an object's namespace before its cells, where it is shown.
    fn with_namespace(&self, object: &Value, row: Vec<String>) -> Vec<String> {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        self.columns.namespace.then_some(namespace).into_iter().chain(row).collect()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<String> {
        let mut row = match self.kind {
            ObjectKind::Pod => {
                let pod: Pod = serde_json::from_value(object.clone()).unwrap_or_default();
                return pods::row(&pod, &self.columns, now);
            }
            ObjectKind::Event => {
                let event: Event = serde_json::from_value(object.clone()).unwrap_or_default();
                let row = events::table_row(&event, self.columns.wide, now);
                self.with_namespace(object, row)
            }
            kind => {
                let mut row = object_table::row(kind, object, self.columns.wide, now);
                if self.columns.kind {
                    row[0].insert_str(0, &format!("{}/", kind.singular()));
                }
                self.with_namespace(object, row)
            }
        };
        let labels = &object["metadata"]["labels"];
        let value = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        row.extend(self.args.label_columns.iter().map(|label| value(&labels[label])));
        if self.args.show_labels {
            let all = labels.as_object().into_iter().flatten().map(|(key, l)| format!("{key}={}", value(l)));
            let all = all.collect::<Vec<_>>().join(",");
            row.push(if all.is_empty() { "<none>".to_owned() } else { all });
        }
        row
    }
}

#[derive(clap::Args)]
pub(super) struct PsArgs {
    #[command(flatten)]
    get: Args,
    /// Those that have ended as well: they are always shown.
    #[arg(short, long)]
    all: bool,
    /// Names alone, as `-o name` has them.
    #[arg(short, long)]
    quiet: bool,
}

/// Shows pods: the same as `podctl get pods`.
pub(super) fn list_pods(args: PsArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let mut get = args.get;
    if args.quiet {
        get.print_names();
    }
    run(&get, home, namespace)
}
