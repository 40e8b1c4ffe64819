//! `podctl create`: objects from flags, as kubectl makes them, and from files.

mod images;
mod keyed_data;
mod secrets;
mod services;

use http::Method;
use serde_json::{Value, json};

use crate::{
    cli::{
        Error, Namespace, applied_files,
        last_applied::note_configuration,
        manifest_files::LabeledFileArgs,
        output_formats::{ChangeArgs, DryRun},
        raw_requests::{RawArgs, send_raw},
        stored_objects::{self, make_kept},
    },
    engine::{self},
    pod::ObjectKind,
    state::Home,
};

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  podctl create configmap conf --from-literal=level=info --from-file=app.toml
  podctl create secret docker-registry pull --docker-server=ghcr.io --docker-username=me --docker-password=\"$TOKEN\"
  podctl create service clusterip web --tcp=80:8080
  podctl create deployment web --image=nginx --replicas=2 --dry-run=client -o yaml | podctl run -d -"
)]
pub(super) struct Args {
    #[command(flatten)]
    labeled: LabeledFileArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    raw: RawArgs,
    /// Note in the object what it is made of, for a later `apply`.
    #[arg(long, global = true)]
    save_config: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(clap::Subcommand)]
enum What {
    /// Keep a ConfigMap for pods to refer to.
    #[command(visible_alias = "cm")]
    Configmap(keyed_data::MapArgs),
    /// Keep a Secret for pods to refer to.
    #[command(subcommand)]
    Secret(secrets::Secrets),
    /// Keep a Service, by which pods find one another.
    #[command(subcommand, visible_alias = "svc")]
    Service(services::Services),
    /// Make a namespace; it is a part of objects' names.
    #[command(visible_alias = "ns")]
    Namespace {
        /// The name.
        name: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Print a Deployment's manifest, with --dry-run=client -o yaml.
    #[command(visible_alias = "deploy")]
    Deployment(images::DeploymentArgs),
    /// Make a Job, which is kept and run to its end.
    Job(images::JobArgs),
    /// Print a CronJob's manifest, with --dry-run=client -o yaml.
    #[command(visible_alias = "cj")]
    Cronjob(images::CronjobArgs),
}

/// Names who makes an object, and where.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub home: &'a Home,
    pub namespace: &'a Namespace,
    /// Tells whether what it is made of is noted in it.
    pub save: bool,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let place = Place { home, namespace, save: args.save_config };
    match &args.what {
        None if args.raw.raw.is_some() => {
            return send_raw(
                Method::POST,
                args.raw.raw.as_deref().unwrap_or_default(),
                &args.labeled.files,
                home,
            );
        }
        None => {
            let what = applied_files::Manner {
                fresh: true,
                save: args.save_config,
                selector: &args.labeled.selector,
                dry: args.change.dry_run(),
                output: &args.change.output,
                manager: args.change.manager(),
            };
            return applied_files::apply_files(&args.labeled.files, &what, home, namespace);
        }
        Some(What::Configmap(args)) => keyed_data::create_config_map(args, place),
        Some(What::Secret(secret)) => secrets::create_secret(secret, place),
        Some(What::Service(service)) => services::create_service(service, place),
        Some(What::Namespace { name, change }) => {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
                "spec": {}, "status": {}});
            create_object(change, Some(ObjectKind::Namespace), object, place)
        }
        Some(What::Deployment(args)) => images::create_deployment(args, place),
        Some(What::Job(args)) => images::create_job(args, place),
        Some(What::Cronjob(args)) => images::create_cronjob(args, place),
    }?;
    Ok(0)
}

/// Makes an object, or prints what it would be; of a kind that podctl keeps none of it is only printed.
pub(super) fn create_object(
    change: &ChangeArgs,
    kind: Option<ObjectKind>,
    mut object: Value,
    Place { home, namespace, save }: Place<'_>,
) -> Result<(), Error> {
    let output = change.output.parse()?;
    let dry = change.dry_run();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind_name, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    if kind.is_none_or(ObjectKind::is_namespaced) && namespace.as_str() != "default" {
        object["metadata"]["namespace"] = json!(namespace);
    }
    if save {
        object = note_configuration(&object);
    }
    match kind {
        None if dry != DryRun::Client => {
            let word = kind_name.to_lowercase();
            return Err(Error::not_done(format!(
                "podctl keeps no {word}s, it runs their pods: `podctl create {word} {name} … --dry-run=client -o yaml | podctl run -`"
            )));
        }
        Some(kind) if kind != ObjectKind::Namespace => {
            stored_objects::check(kind, &object).map_err(|e| word_failure(kind, find_type(&object), e))?;
        }
        _ => {}
    }
    let of_type = find_type(&object).map(str::to_owned);
    let made = match kind {
        Some(kind) => make_kept(kind, object, (dry, change.manager()), home, namespace)
            .map_err(|e| word_failure(kind, of_type.as_deref(), e))?,
        None => object,
    };
    change.print_change(&output, &made, "created")
}

/// Returns the type of a Service, by which kubectl calls it.
fn find_type(object: &Value) -> Option<&str> {
    object["spec"]["type"].as_str().filter(|_| object["kind"] == "Service")
}

/// Says of an object that is there already what kubectl says of one that it was to make of flags.
fn word_failure(kind: ObjectKind, of_type: Option<&str>, error: Error) -> Error {
    match &error {
        Error::Engine(engine::Error::ObjectExists { .. }) | Error::Invalid { .. }
            if kind != ObjectKind::Namespace =>
        {
            Error::NotCreated { kind, of_type: of_type.map(str::to_owned), source: Box::new(error) }
        }
        _ => error,
    }
}

/// The hash that `--append-hash` puts behind the name of a ConfigMap or Secret, as kubectl makes it: of its content.
pub(super) fn hash_content(object: &Value) -> String {
    use sha2::{Digest, Sha256};
    let mut hashed =
        json!({"kind": object["kind"], "name": object["metadata"]["name"], "data": object["data"]});
    match object["kind"] == "Secret" {
        true => hashed["type"] = object["type"].as_str().unwrap_or_default().into(),
        false if object["data"].is_null() => hashed["data"] = json!(""),
        false => {}
    }
    if let Some(binary) = object.get("binaryData") {
        hashed["binaryData"] = binary.clone();
    }
    // Go's encoder writes what HTML would take for its own as escapes.
    let text = hashed.to_string().replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let letter = |c: char| match c {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        c => c,
    };
    hex.chars().take(10).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_kubectls() {
        let map = json!({"kind": "ConfigMap", "metadata": {"name": "cc"}, "data": {"b": "c"}});
        assert_eq!(hash_content(&map), "kbth6tm5bb");
        let secret = json!({"kind": "Secret", "metadata": {"name": "cc"}, "data": {"b": "Yw=="}});
        assert_eq!(hash_content(&secret), "h4k2kkkh2t");
    }
}
