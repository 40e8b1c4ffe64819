//! `podctl top` and `podctl stats`: what pods and their containers use.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Error, Namespace,
    exec::{dial, unreachable_pod},
    pod_dir,
    run::seconds,
};
use crate::{
    state::{Home, Liveness, PodDir},
    wire::{self, Reply, Request, Usage},
};

/// The time CPU time is watched for a rate.
const SAMPLE: Duration = Duration::from_millis(500);

/// The time a pod may take to say what it uses.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(super) struct Args {
    /// `pod NAME`, `NAME`; every pod of the namespace else.
    names: Vec<String>,
    /// A row for each container.
    #[arg(long)]
    containers: bool,
    /// No line of headings.
    #[arg(long)]
    no_headers: bool,
}

#[derive(clap::Args)]
pub(super) struct StatsArgs {
    /// Tells which pods; every pod of the namespace else.
    names: Vec<String>,
    /// Again and again.
    #[arg(short, long)]
    watch: bool,
    /// With --watch: seconds between two looks.
    #[arg(long, default_value = "2", value_parser = seconds)]
    interval: Duration,
}

/// A container between two samples.
struct Row {
    pod: String,
    container: String,
    /// Thousandths of a CPU.
    cpu: u64,
    memory: u64,
    pids: u64,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let dirs = pods(&args.names, home, namespace)?;
    let rows = measured(&dirs, SAMPLE)?;
    let mut table = Vec::new();
    if args.containers {
        table.push(vec!["POD".to_owned(), "NAME".into(), "CPU(cores)".into(), "MEMORY(bytes)".into()]);
        table.extend(
            rows.iter().map(|r| vec![r.pod.clone(), r.container.clone(), cores(r.cpu), mebibytes(r.memory)]),
        );
    } else {
        table.push(vec!["NAME".to_owned(), "CPU(cores)".into(), "MEMORY(bytes)".into()]);
        let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for row in &rows {
            let sum = sums.entry(&row.pod).or_default();
            *sum = (sum.0 + row.cpu, sum.1 + row.memory);
        }
        table.extend(
            sums.iter().map(|(pod, (cpu, memory))| vec![(*pod).to_owned(), cores(*cpu), mebibytes(*memory)]),
        );
    }
    print(&table[usize::from(args.no_headers)..]);
    Ok(0)
}

pub(super) fn stats(args: &StatsArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    loop {
        let dirs = pods(&args.names, home, namespace)?;
        let rows = measured(&dirs, if args.watch { args.interval } else { SAMPLE })?;
        let mut table =
            vec![["POD", "NAME", "CPU(cores)", "MEMORY(bytes)", "PIDS"].map(str::to_owned).to_vec()];
        table.extend(rows.iter().map(|r| {
            vec![r.pod.clone(), r.container.clone(), cores(r.cpu), mebibytes(r.memory), r.pids.to_string()]
        }));
        if args.watch && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            super::print("\x1b[H\x1b[2J");
        }
        print(&table);
        if !args.watch {
            return Ok(0);
        }
    }
}

fn pods(names: &[String], home: &Home, namespace: &Namespace) -> Result<Vec<PodDir>, Error> {
    let kinds = ["pod", "pods", "po"];
    let names: Vec<_> =
        names.iter().enumerate().filter(|(i, n)| !(*i == 0 && kinds.contains(&n.as_str()))).collect();
    if names.is_empty() {
        let all = home.pods()?.into_iter();
        return Ok(all
            .filter(|d| d.namespace == *namespace && d.read_liveness() == Liveness::Alive)
            .collect());
    }
    names.into_iter().map(|(_, name)| pod_dir(home, namespace, name)).collect()
}

fn measured(dirs: &[PodDir], during: Duration) -> Result<Vec<Row>, Error> {
    let (mut first, mut failures) = (Vec::new(), Vec::new());
    for dir in dirs {
        match usage(dir) {
            Ok(usage) => first.push((dir, Instant::now(), usage)),
            Err(e) => failures.push(e),
        }
    }
    // One pod that does not answer must not hide the others.
    match failures.pop() {
        Some(only) if first.is_empty() && failures.is_empty() => return Err(only),
        last => failures.into_iter().chain(last).for_each(|e| super::print_error(&e)),
    }
    std::thread::sleep(during);
    let mut rows = Vec::new();
    for (dir, began, before) in first {
        let (after, ended) = match usage(dir) {
            Ok(usage) => (usage, Instant::now()),
            Err(e) => {
                super::print_error(&e);
                continue;
            }
        };
        let micros = ended.duration_since(began).as_micros().max(1) as u64;
        for now in after {
            // One that has started in between began at zero.
            let then = before.iter().find(|b| b.container == now.container).map_or(0, |b| b.cpu);
            let cpu = now.cpu.saturating_sub(then) * 1000 / micros;
            rows.push(Row {
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

fn usage(dir: &PodDir) -> Result<Vec<Usage>, Error> {
    let socket = dial(dir)?;
    wire::send_request(&socket, &Request::Usage, &[]).map_err(unreachable_pod(dir))?;
    match wire::receive_within::<Reply>(&socket, PATIENCE).map_err(unreachable_pod(dir))? {
        Some((Reply::Usage(usage), _)) => Ok(usage),
        _ => Ok(Vec::new()),
    }
}

fn cores(milli: u64) -> String {
    format!("{milli}m")
}

fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes >> 20)
}

fn print(table: &[Vec<String>]) {
    let columns = table.first().map_or(0, Vec::len);
    let width = |c: usize| table.iter().map(|r| r[c].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let lines = table.iter().map(|row| {
        let line: String = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:w$}   ")).collect();
        format!("{}\n", line.trim_end())
    });
    super::print(&lines.collect::<String>());
}
