//! ConfigMaps, and what a Secret has in common with them: keys with values out of files, literals and env files.

use super::{Error, Place, create_object, hash_content};
use std::{collections::BTreeMap, fs, path::Path};

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::{
    cli::{io, output_formats::ChangeArgs},
    pod::ObjectKind,
};

#[derive(clap::Args)]
pub(super) struct MapArgs {
    /// The object's name.
    name: String,
    #[command(flatten)]
    pub from: From,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Tells where keys and values come from.
#[derive(clap::Args)]
pub(super) struct From {
    /// `[KEY=]PATH` of a file, or a directory whose files become keys.
    #[arg(long)]
    from_file: Vec<String>,
    /// `KEY=VALUE`; a value of a Secret is better read from a file, out of the sight of `ps`.
    #[arg(long)]
    from_literal: Vec<String>,
    /// A file of `KEY=VALUE` lines.
    #[arg(long)]
    from_env_file: Vec<String>,
    /// A hash of the content behind the name.
    #[arg(long)]
    pub append_hash: bool,
}

pub(super) fn create_config_map(args: &MapArgs, place: Place<'_>) -> Result<(), Error> {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": args.name}});
    for (key, bytes) in read_keyed_data(&args.from, (ObjectKind::ConfigMap, &args.name))? {
        match String::from_utf8(bytes) {
            Ok(value) => object["data"][key] = value.into(),
            Err(e) => object["binaryData"][key] = json!(ByteString(e.into_bytes())),
        }
    }
    append_hash(&mut object, args.from.append_hash);
    create_object(&args.change, Some(ObjectKind::ConfigMap), object, place)
}

/// Puts the hash of an object's content behind its name, if it is `wanted`.
pub(super) fn append_hash(object: &mut Value, wanted: bool) {
    if wanted {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        object["metadata"]["name"] = format!("{name}-{}", hash_content(object)).into();
    }
}

/// `of` names the object that the keys are of.
pub(super) fn read_keyed_data(
    from: &From,
    of: (ObjectKind, &str),
) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut data = BTreeMap::new();
    let mut add = |key: String, value: Vec<u8>| match data.insert(key.clone(), value) {
        None if !is_key(&key) => {
            let (kind, rule) = (of.0.name(), KEY_RULE);
            Err(Error::bad_value(format!("{key:?} is not a valid key name for a {kind}: {rule}")))
        }
        None => Ok(()),
        Some(_) => {
            let (kind, name) = (of.0.name(), of.1);
            let held = "another key by that name already exists";
            Err(Error::contradiction(match of.0 {
                ObjectKind::ConfigMap => {
                    format!("cannot add key {key:?}, {held} in Data for {kind} {name:?}")
                }
                _ => format!("cannot add key {key}, {held}"),
            }))
        }
    };
    let others = from.from_file.len() + from.from_literal.len();
    if !from.from_env_file.is_empty() && others > 0 {
        return Err(Error::contradiction("from-env-file cannot be combined with from-file or from-literal"));
    }
    // kubectl passes over an empty one.
    for file in from.from_file.iter().filter(|file| !file.is_empty()) {
        let (key, path) = match file.split_once('=') {
            Some(("", path)) => {
                return Err(Error::bad_value(format!("key name for file path {path} missing")));
            }
            Some((key, "")) => return Err(Error::bad_value(format!("file path for key name {key} missing"))),
            Some((key, path)) => (Some(key), path),
            None => (None, file.as_str()),
        };
        let cannot = || io(format!("cannot read {path}"));
        let meta = fs::metadata(path).map_err(|e| word_reading(path, e))?;
        if meta.is_dir() {
            if key.is_some() {
                return Err(Error::bad_value(format!("--from-file={file}: a directory cannot have a key")));
            }
            for entry in fs::read_dir(path).map_err(cannot())? {
                let entry = entry.map_err(cannot())?;
                let key = entry.file_name().to_string_lossy().into_owned();
                if entry.file_type().is_ok_and(|t| t.is_file()) && is_key(&key) {
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
        let (key, value) = literal.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            Error::bad_value(format!("invalid literal source {literal}, expected key=value"))
        })?;
        add(key.to_owned(), value.as_bytes().to_vec())?;
    }
    for file in &from.from_env_file {
        let text = fs::read_to_string(file).map_err(|e| word_reading(file, e))?;
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = line.split_once('=').map_or(line, |(key, _)| key);
            if let Some(why) = explain_variable_name(key) {
                return Err(Error::bad_value(format!("{key:?} is not a valid key name: {why}")));
            }
            let value = match line.split_once('=') {
                Some((_, value)) => value.to_owned(),
                // A name alone takes its value from the environment.
                None => match std::env::var(line) {
                    Ok(value) => value,
                    Err(_) => continue,
                },
            };
            add(key.to_owned(), value.into_bytes())?;
        }
    }
    Ok(data)
}

/// The rule for keys of ConfigMaps and Secrets, in kubectl's words.
const KEY_RULE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Tells why a word is not the name of a variable, in kubectl's words.
fn explain_variable_name(key: &str) -> Option<&'static str> {
    let is_wrong = !is_key(key) || key.starts_with(|c: char| c.is_ascii_digit());
    is_wrong.then_some("a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '[-._a-zA-Z][-._a-zA-Z0-9]*')")
}

/// Words in kubectl's way that a file cannot be read.
pub(super) fn word_reading(path: &str, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::unreadable(format!("error reading {path}: no such file or directory"))
        }
        _ => io(format!("cannot read {path}"))(error),
    }
}
