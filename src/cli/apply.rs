//! `podctl apply` and `create -f`: keeps the objects of files, and starts their pods.

use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Error, Namespace,
    objects::{self, Kind},
    run, services, warn,
};
use crate::{
    engine::refresh,
    manifest::Manifest,
    pod::ObjectName,
    state::{Home, Kept, Liveness},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Manifest files, `-` for standard input.
    #[arg(short = 'f', long = "filename", required = true)]
    files: Vec<String>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    files(&args.files, home, namespace, false)
}

/// `fresh`: what is there already is an error, as for `create`.
pub(super) fn files(files: &[String], home: &Home, namespace: &Namespace, fresh: bool) -> Result<i32, Error> {
    let stored = objects::stored(home, &[])?;
    let mut manifest = run::read(files, &stored, namespace)?;
    if let Some(job) = manifest.jobs.first() {
        return Err(Error::Said(format!(
            "job {:?} has an end that somebody has to see to: `podctl run` runs it and waits",
            job.name
        )));
    }
    let own = |meta: &ObjectMeta| Namespace::of_object(meta, namespace);
    for map in &manifest.config_maps {
        keep(home, &own(&map.metadata)?, map.clone(), Kind::ConfigMap, fresh, |known| {
            known.data == map.data && known.binary_data == map.binary_data
        })?;
    }
    for secret in &manifest.secrets {
        keep::<Secret>(home, &own(&secret.metadata)?, secret.clone(), Kind::Secret, fresh, |known| {
            known.data == secret.data && known.type_ == secret.type_
        })?;
    }
    for claim in &manifest.claims {
        let name = &ObjectName::of_object(&claim.metadata)?;
        let volume = home.volume(&own(&claim.metadata)?, name);
        match volume.claim()? {
            Some(_) if fresh => return Err(exists(Kind::Claim, name)),
            Some(known) if known.spec == claim.spec => {
                println!("persistentvolumeclaim/{name} unchanged");
            }
            known => {
                volume.make(claim)?;
                let word = if known.is_some() { "configured" } else { "created" };
                println!("persistentvolumeclaim/{name} {word}");
            }
        }
    }
    // What has just been kept is what the pods use: so they follow when it is applied anew.
    let kept = objects::stored(home, &[])?;
    // They are not the pods' own.
    services::keep(home, namespace, std::mem::take(&mut manifest.services), fresh)?;
    for pod in &manifest.pods {
        self::pod(home, pod, [&kept, &manifest], fresh)?;
    }
    Ok(0)
}

pub(super) fn keep<T: Kept>(
    home: &Home,
    namespace: &Namespace,
    object: T,
    kind: Kind,
    fresh: bool,
    same: impl Fn(&T) -> bool,
) -> Result<(), Error> {
    let name = ObjectName::of_object(object.metadata())?;
    let known = home.object::<T>(namespace, &name)?;
    let word = match &known {
        Some(_) if fresh => return Err(exists(kind, &name)),
        Some(known) if same(known) && known.metadata().labels == object.metadata().labels => "unchanged",
        Some(known) if immutable(known) && !same(known) => {
            let word = objects::singular(kind);
            return Err(Error::Said(format!(
                "{word} \"{name}\" is immutable: its data cannot be changed; delete it first, or give the new one another name"
            )));
        }
        Some(_) => "configured",
        None => "created",
    };
    if word != "unchanged" {
        home.keep(namespace, object)?;
        if let Some(kept) = home.object::<T>(namespace, &name)? {
            refresh::tell_pods(home, namespace, kept);
        }
    }
    println!("{}/{name} {word}", objects::singular(kind));
    Ok(())
}

fn immutable(object: &impl serde::Serialize) -> bool {
    serde_json::to_value(object).is_ok_and(|object| object["immutable"] == true)
}

pub(super) fn exists(kind: Kind, name: &str) -> Error {
    Error::Said(format!("{}s \"{name}\" already exists", objects::singular(kind)))
}

fn pod(home: &Home, pod: &Pod, from: [&Manifest; 2], fresh: bool) -> Result<(), Error> {
    let dir = home.place_of(pod)?;
    let name = &dir.name;
    if dir.liveness() == Liveness::Alive {
        if fresh {
            return Err(Error::Said(format!("pods \"{name}\" already exists")));
        }
        if dir.read()?.spec != pod.spec {
            warn(&format!("pod {name:?} runs with another spec; `podctl run -d --replace` starts it anew"));
        }
        println!("pod/{name} unchanged");
        return Ok(());
    }
    run::start(&run::Args::detached(), home, pod.clone(), from)?;
    println!("pod/{name} created");
    Ok(())
}

/// Kept for `create`: a ConfigMap or a Secret that is new.
pub(super) fn keep_new(home: &Home, namespace: &Namespace, object: New) -> Result<(), Error> {
    match object {
        New::ConfigMap(map) => keep(home, namespace, map, Kind::ConfigMap, true, |_| false),
        New::Secret(secret) => keep(home, namespace, secret, Kind::Secret, true, |_| false),
    }
}

/// What `create` makes.
pub(super) enum New {
    ConfigMap(ConfigMap),
    Secret(Secret),
}
