//! `podctl generate systemd`, `podctl enable` and `podctl disable`: pods that systemd starts, at boot or when asked.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;

use crate::{
    cli::{
        Error, Namespace, io,
        manifest_files::{FileArgs, read_manifest},
        pod_dir, print, stored_objects,
        systemd_unit::{Kind, SERVE, Unit, lingers, unit_name, write_serve_units, write_unit},
        warn,
    },
    engine::Engine,
    pod::PodExt,
    process::{find_runtime_dir, transient_scope::has_systemd},
    server::serve,
    state::Home,
};

/// Variables that say where podctl keeps and finds things.
const VARIABLES: [&str; 4] =
    ["PODCTL_DATA_DIR", "PODCTL_RUNTIME_DIR", "XDG_DATA_HOME", "CONTAINERS_REGISTRIES_CONF"];

#[derive(clap::Subcommand)]
pub(super) enum Generate {
    /// Print a systemd unit that runs the pods of manifest files, or starts a pod that podctl has a record of.
    Systemd(Words),
}

#[derive(clap::Args)]
pub(super) struct Words {
    /// Manifest files, whose pods one unit runs, or the name of a pod.
    #[arg(required_unless_present = "serve", value_name = "FILE|POD")]
    words: Vec<String>,
    /// The server of the Kubernetes API instead, started by a connection to it.
    #[arg(long, conflicts_with = "words")]
    serve: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl enable --now web.yaml      # the unit podctl-web.service: it starts now, and at every boot
  podctl disable --now web          # ends it, and takes the unit away")]
pub(super) struct Args {
    #[command(flatten)]
    words: Words,
    /// Start, or end, it now as well.
    #[arg(long)]
    now: bool,
}

pub(super) fn generate(args: &Generate, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let Generate::Systemd(words) = args;
    if words.serve {
        for (name, text) in make_serve_units(home)? {
            print(&format!("# {name}\n{text}\n"));
        }
        return Ok(0);
    }
    let (name, unit) = make_unit(&words.words, home, namespace)?;
    print(&write_unit(&unit));
    anstream::eprintln!("its name would be {name}; `podctl enable` puts it in its place");
    Ok(0)
}

/// Writes the unit and lets systemd start it at boot.
pub(super) fn enable(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    require_systemd()?;
    let units = match args.words.serve {
        true => make_serve_units(home)?,
        false => {
            let (name, unit) = make_unit(&args.words.words, home, namespace)?;
            vec![(name, write_unit(&unit))]
        }
    };
    let dir = units_dir()?;
    fs::create_dir_all(&dir).map_err(io(format!("cannot make {}", dir.display())))?;
    for (name, text) in &units {
        let path = dir.join(name);
        fs::write(&path, text).map_err(io(format!("cannot write {}", path.display())))?;
    }
    let name = &units[0].0;
    call_systemctl(&["daemon-reload"])?;
    call_systemctl(&["enable", name])?;
    println!("{name} enabled ({})", dir.join(name).display());
    if args.now {
        call_systemctl(&["start", name])?;
        println!("{name} started");
    }
    if !nix::unistd::geteuid().is_root() && !lingers() {
        warn(
            "it starts when you log in and ends when you log out; `loginctl enable-linger` lets it start at boot and stay",
        );
    }
    Ok(0)
}

/// Takes the unit away; its pods go on unless they are to end now.
pub(super) fn disable(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    require_systemd()?;
    let names = match args.words.serve {
        true => SERVE.map(str::to_owned).to_vec(),
        false => vec![find_unit_name(&args.words.words, home, namespace)?],
    };
    let (name, dir) = (&names[0], units_dir()?);
    if !dir.join(name).exists() {
        return Err(Error::absent(format!(
            "{name} is not enabled: there is no {}",
            dir.join(name).display()
        )));
    }
    if args.now {
        names.iter().try_for_each(|name| call_systemctl(&["stop", name]))?;
    }
    call_systemctl(&["disable", name])?;
    for path in names.iter().map(|name| dir.join(name)) {
        fs::remove_file(&path).map_err(io(format!("cannot remove {}", path.display())))?;
    }
    call_systemctl(&["daemon-reload"])?;
    println!("{name} {}", if args.now { "ended and disabled" } else { "disabled" });
    Ok(0)
}

/// Makes the units of the server of the Kubernetes API; clients look for it at the user's own address.
fn make_serve_units(home: &Home) -> Result<Vec<(String, String)>, Error> {
    let address = serve::own_address(&Engine::over(home))?;
    let program = std::env::current_exe().map_err(io("cannot find this program"))?;
    let system = nix::unistd::geteuid().is_root();
    let texts = write_serve_units(&program.display().to_string(), address, system);
    Ok(SERVE.map(str::to_owned).into_iter().zip(texts).collect())
}

fn require_systemd() -> Result<(), Error> {
    match has_systemd() {
        true => Ok(()),
        false => Err(Error::unmet(
            "systemd does not run this machine; `podctl generate systemd` prints a unit for one where it does",
        )),
    }
}

/// Tells whether a word names a file, and not a pod.
fn is_file(word: &str) -> bool {
    word.contains('/') || Path::new(word).exists() || word.ends_with(".yaml") || word.ends_with(".json")
}

/// Returns the unit's name without looking whether its pods could run: of the first pod that is meant.
fn find_unit_name(words: &[String], home: &Home, namespace: &Namespace) -> Result<String, Error> {
    if !words.iter().any(|word| is_file(word)) {
        let [name] = words else { return Err(refuse_several()) };
        return Ok(unit_name(namespace, &pod_dir(home, namespace, name)?.name));
    }
    make_unit(words, home, namespace).map(|(name, _)| name)
}

fn refuse_several() -> Error {
    Error::contradiction("one pod, or the files of one unit, at a time")
}

/// Makes the unit and its name.
fn make_unit(words: &[String], home: &Home, namespace: &Namespace) -> Result<(String, Unit), Error> {
    let files = words.iter().any(|word| is_file(word));
    let made_by = format!("podctl enable {}", words.join(" "));
    let (pods, kind) = match (files, words) {
        (true, _) => unit_of_files(words, home, namespace)?,
        (false, [name]) => {
            let dir = pod_dir(home, namespace, name)?;
            let pod = dir.read()?;
            (vec![pod], Kind::Pod { namespace: namespace.to_string(), name: dir.name.to_string() })
        }
        (false, _) => return Err(refuse_several()),
    };
    let first = pods.first().ok_or_else(|| Error::absent("the files hold no Pod"))?;
    let names: Vec<&str> = pods.iter().map(PodExt::name).collect();
    let grace = pods.iter().map(|pod| u64::try_from(pod.grace_period_seconds()).unwrap_or(0)).max();
    let program = std::env::current_exe().map_err(io("cannot find this program"))?;
    let set = VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let unit = Unit {
        description: format!("pod{} {}", if pods.len() > 1 { "s" } else { "" }, names.join(", ")),
        made_by,
        kind,
        program: program.display().to_string(),
        grace: Duration::from_secs(grace.unwrap_or(0)),
        system: nix::unistd::geteuid().is_root(),
        variables: set.collect(),
    };
    Ok((unit_name(first.namespace(), first.name()), unit))
}

/// Reads manifest files as `run` does; the pods, and what runs them.
fn unit_of_files(files: &[String], home: &Home, namespace: &Namespace) -> Result<(Vec<Pod>, Kind), Error> {
    let stored = stored_objects::read_stored(home, &[])?;
    let sources = FileArgs::named(files).read_sources()?;
    let manifest = read_manifest(&sources, &stored, namespace)?;
    let of_jobs = manifest.jobs.iter().map(|job| job.pod(crate::pod::Place { index: 0, attempt: 0 }, 0, 0));
    let pods: Vec<Pod> = manifest.pods.iter().cloned().chain(of_jobs).collect();
    let restarts = |pod: &Pod| {
        let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        policy != Some("Never")
    };
    let absolute = |file: &String| match file.as_str() {
        "-" => Err(Error::contradiction("a unit reads its files at each start: standard input is none")),
        file => fs::canonicalize(file).map_err(io(format!("cannot find {file}"))),
    };
    let files = files.iter().map(absolute).collect::<Result<Vec<PathBuf>, _>>()?;
    let kind = Kind::Files {
        files: files.iter().map(|file| file.display().to_string()).collect(),
        namespace: namespace.to_string(),
        restarts: manifest.jobs.is_empty() && pods.iter().any(restarts),
    };
    Ok((pods, kind))
}

/// Returns the directory of this user's own units.
fn units_dir() -> Result<PathBuf, Error> {
    if nix::unistd::geteuid().is_root() {
        return Ok("/etc/systemd/system".into());
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    config
        .map(|config| config.join("systemd/user"))
        .ok_or_else(|| Error::unmet("neither XDG_CONFIG_HOME nor HOME is set; set one"))
}

/// Calls systemctl(1), for an ordinary user for the user's own manager.
fn call_systemctl(args: &[&str]) -> Result<(), Error> {
    let mut command = Command::new("systemctl");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--user");
        // After su there is none, and the manager is there all the same.
        command.envs(find_runtime_dir().map(|dir| ("XDG_RUNTIME_DIR", dir)));
    }
    let status = command.args(args).arg("--quiet").status().map_err(io("cannot call systemctl"))?;
    match status.success() {
        true => Ok(()),
        false => {
            let args = args.join(" ");
            Err(Error::unmet(format!("`systemctl {args}` failed ({status}); what it says is above")))
        }
    }
}
