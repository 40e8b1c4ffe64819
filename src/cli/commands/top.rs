//! `podctl top` and `podctl stats`: what pods and their containers use.

use std::time::{Duration, Instant};

use crate::{
    cli::{
        Error, Namespace,
        durations::parse_seconds,
        pod_dir,
        pod_selection::{FilterArgs, Which},
        print, print_error,
    },
    engine::{self, Engine, PodHandle},
    pod::ObjectKind,
    sandbox::downward_api::memory_of_machine,
    server::raw_request::Refusal,
    state::{Home, Liveness, PodDir},
    view::{field_selector::FieldSelector, selectors::Labels, tab_stops},
};

/// The time CPU time is watched for a rate.
const SAMPLE: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl top pod -A --sort-by=memory --sum
  podctl top pod web --containers
  podctl top node")]
pub(super) struct Args {
    /// `pod [NAME…]` or `node`; every pod of the namespace else.
    names: Vec<String>,
    /// A row for each container.
    #[arg(long)]
    containers: bool,
    /// No line of headings.
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// `cpu` or `memory`: the most first.
    #[arg(long, value_parser = ["cpu", "memory"])]
    sort_by: Option<String>,
    /// The sum of all pods below them.
    #[arg(long)]
    sum: bool,
    /// Of the node: in parts of all that it has; it has nothing beside that for its own use.
    #[arg(long)]
    show_capacity: bool,
}

#[derive(clap::Args)]
pub(super) struct StatsArgs {
    /// Tells which pods; every pod of the namespace else.
    names: Vec<String>,
    /// Again and again.
    #[arg(short, long)]
    watch: bool,
    /// With --watch: seconds between two looks.
    #[arg(long, default_value = "2", value_parser = parse_seconds)]
    interval: Duration,
}

/// The container between two samples.
struct Row {
    namespace: String,
    pod: String,
    container: String,
    /// Thousandths of a CPU.
    cpu: u64,
    memory: u64,
    pids: u64,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if matches!(args.names.first().map(String::as_str), Some("node" | "nodes" | "no")) {
        let node = engine::node_name();
        if let Some(other) = args.names.get(1).filter(|name| **name != node) {
            let what = format!("Error from server (NotFound): nodes.metrics.k8s.io {other:?} not found");
            eprintln!("{what}");
            return Ok(1);
        }
        args.check_node_selector(home)?;
        return show_node(args);
    }
    let dirs = args.find_pods(home, namespace)?;
    if dirs.is_empty() {
        match args.filter.all_namespaces {
            true => eprintln!("No resources found"),
            false => eprintln!("No resources found in {namespace} namespace."),
        }
        return Ok(0);
    }
    let mut rows = measured(home, &dirs, SAMPLE)?;
    if !args.containers {
        rows = sum_by_pod(rows);
    }
    match args.sort_by.as_deref() {
        Some("cpu") => rows.sort_by_key(|row| std::cmp::Reverse(row.cpu)),
        Some(_) => rows.sort_by_key(|row| std::cmp::Reverse(row.memory)),
        None => {}
    }
    let names = |namespace: &str, pod: &str, container: &str| {
        let own =
            args.filter.all_namespaces.then(|| namespace.to_owned()).into_iter().chain([pod.to_owned()]);
        own.chain(args.containers.then(|| container.to_owned())).collect::<Vec<_>>()
    };
    let mut table = Vec::new();
    if !args.no_headers {
        let head = names("NAMESPACE", if args.containers { "POD" } else { "NAME" }, "NAME");
        table.push([head, vec!["CPU(cores)".into(), "MEMORY(bytes)".into()]].concat());
    }
    for row in &rows {
        let own = names(&row.namespace, &row.pod, &row.container);
        table.push([own, vec![cores(row.cpu), mebibytes(row.memory)]].concat());
    }
    if args.sum {
        let (cpu, memory) = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.cpu, sum.1 + row.memory));
        let empty = names("", "", "");
        table.push([empty.clone(), vec!["________".into(), "________".into()]].concat());
        table.push([empty, vec![cores(cpu), mebibytes(memory)]].concat());
    }
    print_padded(table);
    Ok(0)
}

/// Returns a row a pod, in the order of the first of each.
fn sum_by_pod(rows: Vec<Row>) -> Vec<Row> {
    let mut sums: Vec<Row> = Vec::new();
    for row in rows {
        match sums.iter_mut().find(|sum| sum.pod == row.pod && sum.namespace == row.namespace) {
            Some(sum) => {
                sum.cpu += row.cpu;
                sum.memory += row.memory;
            }
            None => sums.push(row),
        }
    }
    sums
}

/// Shows what this machine uses, and which part of it that is.
fn show_node(args: &Args) -> Result<i32, Error> {
    let (nano_cpus, memory) = engine::measure_node(SAMPLE);
    let milli = nano_cpus / 1_000_000;
    let all_milli = std::thread::available_parallelism().map_or(1, usize::from) as u64 * 1000;
    let all_memory = u64::try_from(memory_of_machine()).unwrap_or(0).max(1);
    let mut table = Vec::new();
    if !args.no_headers {
        table
            .push(["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"].map(str::to_owned).to_vec());
    }
    table.push(vec![
        engine::node_name(),
        cores(milli),
        format!("{}%", milli * 100 / all_milli),
        mebibytes(memory),
        format!("{}%", memory * 100 / all_memory),
    ]);
    print_padded(table);
    Ok(0)
}

impl Args {
    /// Refuses selectors that make no sense, in the words that kubectl has here.
    fn check_selectors(&self, kind: &str) -> Result<Labels, Error> {
        let wrong = |why: String| Error::bad_value(why.replace('"', "'"));
        FieldSelector::parse(kind, self.filter.field_selector.as_deref().unwrap_or_default())
            .map_err(wrong)?;
        Labels::parse(self.filter.selector.as_deref().unwrap_or_default()).map_err(Error::bad_value)
    }

    /// Checks that this machine has the labels that are asked for.
    fn check_node_selector(&self, home: &Home) -> Result<(), Error> {
        let labels = self.check_selectors("Node")?;
        let node = Engine::over(home).get_object(ObjectKind::Node, "", &engine::node_name())?;
        match labels.matches_object(&node) {
            true => Ok(()),
            false => Err(Error::absent("metrics not available yet")),
        }
    }

    /// The living pods that are meant; one that is named may have ended, which is then said.
    fn find_pods(&self, home: &Home, namespace: &Namespace) -> Result<Vec<PodDir>, Error> {
        let named = pod_words(&self.names);
        if !named.is_empty() {
            if self.filter.selector.is_some() || self.filter.field_selector.is_some() {
                return Err(Error::contradiction("only one of NAME or selector can be provided"));
            }
            return named.into_iter().map(|name| find_pod(home, namespace, name)).collect();
        }
        self.check_selectors("Pod")?;
        let which = Which { filter: self.filter.clone(), ..Which::default() };
        let chosen = which.choose(home, namespace)?.found.into_iter().map(|found| found.dir);
        Ok(chosen.filter(|dir| dir.read_liveness() == Liveness::Alive).collect())
    }
}

/// Finds a pod that is named; of one that is not there the API says which kind of object it looked for.
fn find_pod(home: &Home, namespace: &Namespace, name: &str) -> Result<PodDir, Error> {
    let dir = pod_dir(home, namespace, name)?;
    match dir.read_liveness() {
        Liveness::Absent => {
            let message = format!("pods.metrics.k8s.io {name:?} not found");
            Err(Refusal { reason: "NotFound".to_owned(), message }.into())
        }
        _ => Ok(dir),
    }
}

/// The names among words that may begin with `pod`.
fn pod_words(words: &[String]) -> Vec<&String> {
    let kinds = ["pod", "pods", "po"];
    let named = words.iter().enumerate().filter(|(at, word)| !(*at == 0 && kinds.contains(&word.as_str())));
    named.map(|(_, word)| word).collect()
}

/// Prints a table as kubectl does here: the last column is padded, too.
fn print_padded(mut table: Vec<Vec<String>>) {
    table.iter_mut().for_each(|row| row.push(String::new()));
    print(&tab_stops::table(&table));
}

pub(super) fn stats(args: &StatsArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    loop {
        let dirs = pods(&args.names, home, namespace)?;
        let rows = measured(home, &dirs, if args.watch { args.interval } else { SAMPLE })?;
        let mut table =
            vec![["POD", "NAME", "CPU(cores)", "MEMORY(bytes)", "PIDS"].map(str::to_owned).to_vec()];
        table.extend(rows.iter().map(|r| {
            vec![r.pod.clone(), r.container.clone(), cores(r.cpu), mebibytes(r.memory), r.pids.to_string()]
        }));
        if args.watch && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            print("\x1b[H\x1b[2J");
        }
        print_table(&table);
        if !args.watch {
            return Ok(0);
        }
    }
}

fn pods(names: &[String], home: &Home, namespace: &Namespace) -> Result<Vec<PodDir>, Error> {
    let names = pod_words(names);
    if names.is_empty() {
        let all = home.pods()?.into_iter();
        return Ok(all
            .filter(|d| d.namespace == *namespace && d.read_liveness() == Liveness::Alive)
            .collect());
    }
    names.into_iter().map(|name| pod_dir(home, namespace, name)).collect()
}

fn measured(home: &Home, dirs: &[PodDir], during: Duration) -> Result<Vec<Row>, Error> {
    let (mut first, mut failures) = (Vec::new(), Vec::new());
    for dir in dirs {
        match PodHandle::of(home, dir).usage() {
            Ok(usage) => first.push((dir, Instant::now(), usage)),
            Err(e) => failures.push(Error::from(e)),
        }
    }
    // One pod that does not answer must not hide the others.
    match failures.pop() {
        Some(only) if first.is_empty() && failures.is_empty() => return Err(only),
        last => failures.into_iter().chain(last).for_each(|e| print_error(&e)),
    }
    std::thread::sleep(during);
    let mut rows = Vec::new();
    for (dir, began, before) in first {
        let (after, ended) = match PodHandle::of(home, dir).usage() {
            Ok(usage) => (usage, Instant::now()),
            // It has ended meanwhile, and uses nothing.
            Err(engine::Error::Ended(_)) => continue,
            Err(e) => {
                print_error(&e.into());
                continue;
            }
        };
        let micros = ended.duration_since(began).as_micros().max(1) as u64;
        for now in after {
            // One that has started in between began at zero.
            let then = before.iter().find(|b| b.container == now.container).map_or(0, |b| b.cpu);
            let cpu = now.cpu.saturating_sub(then) * 1000 / micros;
            rows.push(Row {
                namespace: dir.namespace.to_string(),
                pod: dir.name.to_string(),
                container: now.container,
                cpu,
                memory: now.memory,
                pids: now.pids,
            });
        }
    }
    Ok(rows)
}

fn cores(milli: u64) -> String {
    format!("{milli}m")
}

fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes >> 20)
}

fn print_table(table: &[Vec<String>]) {
    let columns = table.first().map_or(0, Vec::len);
    let width = |c: usize| table.iter().map(|r| r[c].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let lines = table.iter().map(|row| {
        let line: String = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:w$}   ")).collect();
        format!("{}\n", line.trim_end())
    });
    print(&lines.collect::<String>());
}
