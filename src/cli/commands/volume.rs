//! `podctl volume`: the local volumes behind persistent volume claims.

use std::{collections::HashSet, path::PathBuf};

use k8s_openapi::jiff::Timestamp;
use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};
use serde_json::json;

use crate::{
    cli::{
        Error, Namespace, output_formats, pruning,
        stored_objects::{self, already_exists},
    },
    engine::Engine,
    pod::{ObjectKind, ObjectName, quantity::quantity_bytes},
    sandbox,
    state::{Home, VolumeDir, plain_claim},
    view::object_table::age_of,
};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// List the volumes of the namespace.
    #[command(visible_alias = "list")]
    Ls {
        /// Print names only.
        #[arg(short, long)]
        quiet: bool,
    },
    /// Make a volume for pods to claim.
    Create {
        /// The name, which is the claim's.
        name: String,
        /// What its claim asks for; not enforced.
        #[arg(long, default_value = "1Gi")]
        size: String,
    },
    /// Show volumes as JSON.
    Inspect {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Remove volumes that no pod uses, and the files in them.
    Prune {
        /// Do not ask.
        #[arg(short, long)]
        force: bool,
        /// Say which would be removed, and remove none.
        #[arg(long)]
        dry_run: bool,
    },
    /// Write the files of a volume into a tar archive.
    Export(ExportArgs),
    /// Unpack a tar archive into a volume.
    Import(ImportArgs),
    /// Remove volumes and the files in them.
    Rm {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// Tells where the archive of a volume is.
#[derive(clap::Args)]
pub(super) struct ExportArgs {
    /// The volume's name.
    name: String,
    /// The file; standard output else.
    #[arg(short, long, default_value = "-")]
    output: PathBuf,
}

#[derive(clap::Args)]
pub(super) struct ImportArgs {
    /// The volume's name; it is made when it is not there.
    name: String,
    /// A tar archive; standard input else.
    #[arg(default_value = "-")]
    source: PathBuf,
}

pub(super) fn run(command: &Command, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    match command {
        Command::Ls { quiet } => {
            let mut rows = vec![["NAME", "SIZE", "USED", "IN USE", "AGE"].map(str::to_owned).to_vec()];
            for volume in home.volumes()?.iter().filter(|v| v.namespace == *namespace) {
                if *quiet {
                    println!("{}", volume.name);
                    continue;
                }
                let claim = serde_json::to_value(volume.claim()?).unwrap_or_default();
                let size = claim["spec"]["resources"]["requests"]["storage"].as_str().unwrap_or("");
                let used = used_bytes(volume).map_or("-".into(), |b| indicatif::HumanBytes(b).to_string());
                let in_use = if in_use(volume) { "yes" } else { "no" };
                let age = age_of(&claim["metadata"]["creationTimestamp"], Timestamp::now());
                rows.push(vec![volume.name.to_string(), size.into(), used, in_use.into(), age]);
            }
            if !quiet {
                output_formats::print_table(&rows);
            }
        }
        Command::Create { name, size } => {
            let volume = home.volume(namespace, &ObjectName::parse(name)?);
            let claim = plain_claim(name, size);
            // Its name and size are checked as if they had come from a file.
            let value = serde_json::to_value(&claim)?;
            stored_objects::check(ObjectKind::PersistentVolumeClaim, &value)?;
            if volume.claim()?.is_some() {
                return Err(already_exists(ObjectKind::PersistentVolumeClaim, name));
            }
            volume.make(&claim)?;
            println!("{name}");
        }
        Command::Inspect { names } => {
            let mut all = Vec::new();
            for name in names {
                let volume = home.volume(namespace, &ObjectName::parse(name)?);
                let claim = volume.claim()?.ok_or_else(|| not_found(name))?;
                let value = serde_json::to_value(&claim).unwrap_or_default();
                let size = value["spec"]["resources"]["requests"]["storage"].as_str().unwrap_or("0");
                all.push(json!({
                    "name": name,
                    "namespace": namespace,
                    "path": volume.files(),
                    "accessModes": value["spec"]["accessModes"],
                    "size": quantity_bytes(size).unwrap_or(0),
                    "used": used_bytes(&volume),
                    "inUse": in_use(&volume),
                    "creationTimestamp": value["metadata"]["creationTimestamp"],
                }));
            }
            output_formats::print_value(&json!(all), "json")?;
        }
        Command::Prune { force, dry_run } => {
            return pruning::prune_volumes(home, namespace, *force, *dry_run);
        }
        Command::Export(args) => {
            if args.output.as_os_str() == "-" && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
                let what = "an archive is not for a terminal: name a file with -o, or redirect";
                return Err(Error::contradiction(what));
            }
            let volume = home.volume(namespace, &ObjectName::parse(&args.name)?);
            volume.claim()?.ok_or_else(|| not_found(&args.name))?;
            Engine::over(home).export_volume(&volume.files(), &args.output)?;
        }
        Command::Import(args) => {
            let volume = home.volume(namespace, &ObjectName::parse(&args.name)?);
            if volume.claim()?.is_none() {
                volume.make(&plain_claim(&args.name, "1Gi"))?;
            }
            if args.source.as_os_str() != "-" && !args.source.exists() {
                let source = args.source.display();
                return Err(Error::unreadable(format!("cannot read {source}: no such file or directory")));
            }
            Engine::over(home).import_volume(&volume.files(), &args.source)?;
        }
        Command::Rm { names } => {
            for name in names {
                if !Engine::over(home).delete_volume(namespace, &ObjectName::parse(name)?)? {
                    return Err(not_found(name));
                }
                println!("{name}");
            }
        }
    }
    Ok(0)
}

fn not_found(name: &str) -> Error {
    Error::absent(format!("volume \"{name}\" not found; `podctl volume ls` lists them"))
}

fn in_use(volume: &VolumeDir) -> bool {
    volume.lock(true).is_err()
}

/// Bytes on disk; `None` where a container left something that only it may read.
fn used_bytes(volume: &VolumeDir) -> Option<u64> {
    let root = open(&volume.files(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let (mut used, mut seen) = (0, HashSet::new());
    sandbox::walk(&root, &mut |_, stat| {
        if stat.st_nlink <= 1 || seen.insert(stat.st_ino) {
            used += stat.st_blocks as u64 * 512;
        }
        Ok(())
    })
    .ok()?;
    Some(used)
}
