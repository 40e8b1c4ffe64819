//! `podctl delete`: ends pods and forgets them; deletes kept objects.

use std::time::{Duration, Instant};

use http::Method;

use crate::{
    cli::{
        Error, Namespace,
        durations::parse_duration,
        io,
        object_selection::{
            NO_NAME, NO_RESOURCES, Narrowing, OfFiles, Target, Words, check_flags, parse_words,
            targets_of_sources,
        },
        output_formats::{DryRun, DryRunArgs},
        pod_selection::Told,
        print, print_error,
        raw_requests::{RawArgs, send_raw},
        result_lines::print_deleted,
        warn_as_kubectl,
    },
    engine::{DeleteOptions, Deletion, Engine, ErrorKind},
    pod::ObjectKind,
    state::Home,
};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pods: Told,
    /// Seconds to end in; the pod's own terminationGracePeriodSeconds else, as with -1. 0 needs --force.
    #[arg(long, allow_negative_numbers = true)]
    grace_period: Option<i64>,
    /// The same as --grace-period=1.
    #[arg(long)]
    now: bool,
    /// Kill at once.
    #[arg(long)]
    force: bool,
    /// No error when there is no such pod.
    #[arg(long)]
    ignore_not_found: bool,
    /// Return when the pods are gone.
    #[arg(long, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    wait: bool,
    /// How long to wait for that, such as `30s`; without end else.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    dry_run: DryRunArgs,
    #[command(flatten)]
    raw: RawArgs,
    /// What becomes of what depends on an object; nothing depends on one here.
    #[arg(long, value_name = "background|foreground|orphan", num_args = 0..=1, require_equals = true,
        default_missing_value = "background", value_parser = ["background", "foreground", "orphan", "true", "false"])]
    cascade: Option<String>,
    /// Ask before anything is deleted.
    #[arg(short, long)]
    interactive: bool,
    /// `name` prints `pod/NAME`.
    #[arg(short, long)]
    output: Option<String>,
}

/// The words of kubectl's about a deletion by force.
const NOT_CONFIRMED: &str = "Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely.";

impl Args {
    /// With kubectl's meaning: only --force kills at once.
    fn grace_period(&self) -> Result<Option<Duration>, Error> {
        let grace = self.grace_period.and_then(|grace| u64::try_from(grace).ok());
        match (self.force, self.now, grace) {
            (_, true, Some(_)) => {
                Err(Error::contradiction("--now and --grace-period cannot be specified together"))
            }
            (true, true, _) | (true, false, Some(1..)) => {
                let what = "--force and --grace-period greater than 0 cannot be specified together";
                Err(Error::contradiction(what))
            }
            (true, ..) => Ok(Some(Duration::ZERO)),
            (false, true, _) | (false, false, Some(0)) => Ok(Some(Duration::from_secs(1))),
            (false, false, grace) => Ok(grace.map(Duration::from_secs)),
        }
    }

    /// Refuses a format, and warns of what is not waited for, as kubectl does before anything is deleted.
    fn check_manner(&self) -> Result<(), Error> {
        if let Some(format) = self.output.as_deref().filter(|format| !["", "name"].contains(format)) {
            let what = format!("unexpected -o output mode: {format}. We only support '-o name'");
            return Err(Error::bad_value(what));
        }
        if self.force {
            warn_as_kubectl(NOT_CONFIRMED);
        }
        Ok(())
    }
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if let Some(path) = &args.raw.raw {
        return send_raw(Method::DELETE, path, &args.pods.which.files, home);
    }
    let engine = Engine::over(home);
    let options = DeleteOptions {
        grace_period: args.grace_period()?,
        dry_run: args.dry_run.dry_run.is_dry(),
        ..DeleteOptions::default()
    };
    // Everything is understood, and every selector resolved, before the first object is touched.
    let (mut files, mut unknown) = (Vec::new(), Vec::new());
    let targets = match args.read_files(home, namespace)? {
        Some((found, others)) => {
            let targets: Vec<Target>;
            (targets, files) = found.into_iter().unzip();
            unknown = others;
            targets
        }
        None => args.targets(&engine, home, namespace)?,
    };
    args.check_manner()?;
    if targets.is_empty() && unknown.is_empty() {
        println!("No resources found");
    }
    if args.interactive && !targets.is_empty() && !confirm_deletion(&targets)? {
        println!("deletion is cancelled");
        return Ok(0);
    }
    let living = |t: &Target| t.kind == ObjectKind::Pod && engine.pod(&t.namespace, &t.name).is_ok();
    let with_pod = args.pods.which.files.is_given() && targets.iter().any(living);
    let mut failed = !unknown.is_empty();
    unknown.iter().for_each(print_error);
    let mut files = files.into_iter();
    // All pods are asked before one is waited for: they end side by side.
    let mut ending = Vec::new();
    let mut batch = engine.begin_deletion();
    for target in targets {
        let Target { kind, namespace, name } = &target;
        let file = files.next();
        if *kind == ObjectKind::PersistentVolumeClaim && args.pods.which.files.is_given() {
            // What is in its volume is not in the file.
            eprintln!(
                "persistentvolumeclaim \"{name}\" kept with its data; `podctl delete pvc {name}` deletes both"
            );
            continue;
        }
        if args.dry_run.dry_run == DryRun::Client {
            // Nobody is asked, not even whether it is there.
            args.tell(&target);
            continue;
        }
        match batch.delete_object(*kind, namespace, name, &options) {
            Ok(deletion) => {
                args.tell(&target);
                if let Deletion::Pod(pod) = deletion {
                    ending.push((target, pod));
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound && (args.ignore_not_found || args.pods.all) => {}
            // Nobody keeps what `run` took from the file beside the pod: it ends with it.
            Err(e) if with_pod && came_along(*kind, e.kind()) => {}
            Err(e) => {
                print_error(&match file {
                    Some(file) => Error::from(e).in_file("deleting", &file),
                    None => e.into(),
                });
                failed = true;
            }
        }
    }
    if let Err(e) = batch.finish() {
        print_error(&e.into());
        failed = true;
    }
    let deadline = (!args.timeout.is_zero()).then(|| Instant::now() + args.timeout);
    for (target, pod) in ending.into_iter().filter(|_| args.wait) {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if !pod.wait(left)? {
            print_error(&Error::TimedOut { pod: Some(target.name.to_string()) });
            failed = true;
        }
    }
    Ok(i32::from(failed))
}

/// Tells whether that may be said of what a pod of the same file has brought along.
fn came_along(kind: ObjectKind, error: ErrorKind) -> bool {
    matches!(kind, ObjectKind::ConfigMap | ObjectKind::Secret | ObjectKind::Service)
        && matches!(error, ErrorKind::NotFound | ErrorKind::Unsupported)
}

impl Args {
    /// What the words ask for, and what narrows it.
    fn check_words(&self) -> Result<(Words, Narrowing), Error> {
        let which = &self.pods.which;
        let meant = parse_words(&which.names)?;
        let given = Narrowing { all: self.pods.all, ..which.narrowing() };
        check_flags(&which.names, &meant, given)?;
        if given.all && !given.files && (given.labels || given.fields) {
            let what = "setting 'all' parameter but found a non empty selector. ";
            return Err(Error::contradiction(what));
        }
        Ok((meant, given))
    }

    /// The objects that files name, each with its file, if there are files, and the errors about the others in them.
    fn read_files(&self, home: &Home, namespace: &Namespace) -> Result<Option<OfFiles>, Error> {
        if !self.check_words()?.1.files {
            return Ok(None);
        }
        targets_of_sources(&self.pods.which, home, namespace).map(Some)
    }

    /// The objects that are to be deleted: named ones, or what a selector or `--all` finds.
    fn targets(&self, engine: &Engine, home: &Home, namespace: &Namespace) -> Result<Vec<Target>, Error> {
        let which = &self.pods.which;
        let (meant, given) = self.check_words()?;
        let kinds = match meant {
            Words::Objects(all) => {
                let target = |(kind, name)| Target { kind, namespace: namespace.clone(), name };
                return Ok(all.into_iter().map(target).collect());
            }
            Words::Kinds(_) if !(given.all || given.labels || given.fields) => {
                return Err(Error::missing(if which.names.is_empty() { NO_RESOURCES } else { NO_NAME }));
            }
            Words::Kinds(kinds) => kinds,
        };
        if !given.all {
            return which.find_in_kinds(engine, &kinds, namespace);
        }
        let mut targets = Vec::new();
        for kind in kinds {
            // A pod whose file is damaged cannot be selected, but is one of all.
            if kind == ObjectKind::Pod {
                let all = home.pods()?.into_iter();
                let own = all.filter(|dir| given.all_namespaces || dir.namespace == *namespace);
                targets.extend(own.map(|dir| Target { kind, namespace: dir.namespace, name: dir.name }));
                continue;
            }
            let found = which.list_objects(engine, kind, namespace)?;
            targets.extend(found.iter().filter_map(|object| Target::of_object(kind, object)));
        }
        Ok(targets)
    }

    /// Says that an object is deleted.
    fn tell(&self, target: &Target) {
        let how = if self.force { "force deleted" } else { "deleted" };
        match &self.output {
            Some(format) if !format.is_empty() => println!("{}/{}", target.kind.singular(), target.name),
            _ => print_deleted(target, how, self.dry_run.dry_run.suffix()),
        }
    }
}

/// Asks whether these are to be deleted.
fn confirm_deletion(targets: &[Target]) -> Result<bool, Error> {
    println!("You are about to delete the following {} resource(s):", targets.len());
    targets.iter().for_each(|target| println!("{}/{}", target.kind.singular(), target.name));
    print("Do you want to continue? (y/N): ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(io("cannot read the answer"))?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
