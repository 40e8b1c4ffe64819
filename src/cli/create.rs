//! `podctl create`: ConfigMaps and Secrets from files, literals and env files, as kubectl makes them.

use std::{collections::BTreeMap, fs, path::Path};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Error, Namespace,
    apply::{self, New},
    io, objects,
};
use crate::{pod::ObjectKind, state::Home};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(super) struct Args {
    /// Manifest files, `-` for standard input.
    #[arg(short = 'f', long = "filename")]
    files: Vec<String>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(clap::Subcommand)]
enum What {
    /// Keep a ConfigMap for pods to refer to.
    #[command(visible_alias = "cm")]
    Configmap(From),
    /// Keep a Secret for pods to refer to.
    #[command(subcommand)]
    Secret(Secrets),
}

#[derive(clap::Subcommand)]
enum Secrets {
    /// From files and literals.
    Generic {
        #[command(flatten)]
        from: From,
        /// The Secret's type.
        #[arg(long = "type", default_value = "Opaque")]
        type_: String,
    },
}

#[derive(clap::Args)]
struct From {
    /// The object's name.
    name: String,
    /// `[KEY=]PATH` of a file, or a directory whose files become keys.
    #[arg(long)]
    from_file: Vec<String>,
    /// `KEY=VALUE`; a value of a Secret is better read from a file, out of the sight of `ps`.
    #[arg(long)]
    from_literal: Vec<String>,
    /// A file of `KEY=VALUE` lines.
    #[arg(long)]
    from_env_file: Vec<String>,
    /// `client`: only print the object, with -o.
    #[arg(long)]
    dry_run: Option<String>,
    /// `yaml`, `json` or `name`.
    #[arg(short, long)]
    output: Option<String>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    match &args.what {
        None => return apply::files(&args.files, home, namespace, true),
        Some(What::Configmap(from)) => {
            let (mut text, mut binary) = (BTreeMap::new(), BTreeMap::new());
            for (key, bytes) in data(from)? {
                match String::from_utf8(bytes) {
                    Ok(value) => drop(text.insert(key, value)),
                    Err(e) => drop(binary.insert(key, ByteString(e.into_bytes()))),
                }
            }
            let some = |map: BTreeMap<String, ByteString>| (!map.is_empty()).then_some(map);
            let map = ConfigMap {
                metadata: named(&from.name),
                data: (!text.is_empty()).then_some(text),
                binary_data: some(binary),
                immutable: None,
            };
            made(home, namespace, from, ObjectKind::ConfigMap, New::ConfigMap(map))
        }
        Some(What::Secret(Secrets::Generic { from, type_ })) => {
            let data = data(from)?.into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect();
            let secret = Secret {
                metadata: named(&from.name),
                data: Some(data),
                type_: Some(type_.clone()),
                ..Secret::default()
            };
            made(home, namespace, from, ObjectKind::Secret, New::Secret(secret))
        }
    }?;
    Ok(0)
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() }
}

/// Checks the object as if it had come from a file; then keeps or prints it.
fn made(home: &Home, namespace: &Namespace, from: &From, kind: ObjectKind, object: New) -> Result<(), Error> {
    let value = match &object {
        New::ConfigMap(map) => serde_json::to_value(map),
        New::Secret(secret) => serde_json::to_value(secret),
    }
    .map_err(|e| Error::Said(e.to_string()))?;
    let word = kind.singular();
    objects::check(format!("{word} {:?}", from.name), &value)?;
    match from.dry_run.as_deref() {
        None | Some("none") => apply::keep_new(home, namespace, object)?,
        Some("client" | "server") if from.output.is_none() => {
            println!("{word}/{} created (dry run)", from.name);
        }
        Some("client" | "server") => {}
        Some(other) => {
            return Err(Error::Said(format!("--dry-run={other} is not known; use none or client")));
        }
    }
    match from.output.as_deref() {
        None => Ok(()),
        Some("name") => {
            println!("{word}/{}", from.name);
            Ok(())
        }
        Some(format @ ("yaml" | "json")) => objects::print(&value, format),
        Some(other) => Err(Error::Said(format!("output format {other:?} is not available"))),
    }
}

fn data(from: &From) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut data = BTreeMap::new();
    let mut add = |key: String, value: Vec<u8>| match data.insert(key.clone(), value) {
        None => Ok(()),
        Some(_) => {
            Err(Error::Said(format!("cannot add key {key:?}: another key by that name already exists")))
        }
    };
    for file in &from.from_file {
        let (key, path) = match file.split_once('=') {
            Some(("", _)) | Some((_, "")) => {
                return Err(Error::Said(format!("--from-file={file}: must be PATH or KEY=PATH")));
            }
            Some((key, path)) => (Some(key), path),
            None => (None, file.as_str()),
        };
        let cannot = || io(format!("cannot read {path}"));
        let meta = fs::metadata(path).map_err(cannot())?;
        if meta.is_dir() {
            if key.is_some() {
                return Err(Error::Said(format!("--from-file={file}: a directory cannot have a key")));
            }
            for entry in fs::read_dir(path).map_err(cannot())? {
                let entry = entry.map_err(cannot())?;
                let key = entry.file_name().to_string_lossy().into_owned();
                let valid = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
                if entry.file_type().is_ok_and(|t| t.is_file()) && valid {
                    add(key, fs::read(entry.path()).map_err(cannot())?)?;
                }
            }
            continue;
        }
        let base = Path::new(path).file_name().map(|n| n.to_string_lossy().into_owned());
        let key = key.map(str::to_owned).or(base).unwrap_or_default();
        add(key, fs::read(path).map_err(cannot())?)?;
    }
    for literal in &from.from_literal {
        let (key, value) = literal
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Error::Said("--from-literal: must be KEY=VALUE".to_owned()))?;
        add(key.to_owned(), value.as_bytes().to_vec())?;
    }
    for file in &from.from_env_file {
        let text = fs::read_to_string(file).map_err(io(format!("cannot read {file}")))?;
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = match line.split_once('=') {
                Some((key, value)) => (key, value.to_owned()),
                // A name alone takes its value from the environment.
                None => match std::env::var(line) {
                    Ok(value) => (line, value),
                    Err(_) => continue,
                },
            };
            if key.is_empty() || key.contains(char::is_whitespace) {
                return Err(Error::Said(format!("{file}:{}: must be KEY=VALUE", number + 1)));
            }
            add(key.to_owned(), value.into_bytes())?;
        }
    }
    Ok(data)
}
