//! `podctl apply` and `create -f`: keeps the objects of files, and starts their pods.

use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Error, Namespace, objects, run, services};
use crate::{
    engine::{self, Applied, Engine},
    manifest::Manifest,
    pod::{ObjectKind, ObjectName},
    state::{Home, Kept, Liveness},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Manifest files, `-` for standard input.
    #[arg(short = 'f', long = "filename", required_unless_present = "kustomize")]
    files: Vec<String>,
    /// Answered with the command that builds a kustomization.
    #[arg(short = 'k', long, hide = true, value_name = "DIR")]
    kustomize: Option<String>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if let Some(dir) = &args.kustomize {
        return Err(Error::Said(format!(
            "podctl builds no kustomizations; `kubectl kustomize {dir} | podctl apply -f -` does"
        )));
    }
    files(&args.files, home, namespace, false)
}

/// `fresh`: what is there already is an error, as for `create`.
pub(super) fn files(files: &[String], home: &Home, namespace: &Namespace, fresh: bool) -> Result<i32, Error> {
    let stored = objects::read_stored(home, &[])?;
    let mut manifest = run::read(files, &stored, namespace)?;
    if let Some(job) = manifest.jobs.first() {
        return Err(Error::Said(format!(
            "job {:?} has an end that somebody has to see to: `podctl run` runs it and waits",
            job.name
        )));
    }
    let own = |meta: &ObjectMeta| Namespace::of_object(meta, namespace);
    for map in &manifest.config_maps {
        keep(home, &own(&map.metadata)?, map.clone(), ObjectKind::ConfigMap, fresh)?;
    }
    for secret in &manifest.secrets {
        keep(home, &own(&secret.metadata)?, secret.clone(), ObjectKind::Secret, fresh)?;
    }
    for claim in &manifest.claims {
        let name = &ObjectName::of_object(&claim.metadata)?;
        let volume = home.volume(&own(&claim.metadata)?, name);
        let applied = match volume.claim()? {
            Some(_) if fresh => return Err(already_exists(ObjectKind::PersistentVolumeClaim, name)),
            Some(known) if known.spec == claim.spec && known.metadata.labels == claim.metadata.labels => {
                Applied::Unchanged
            }
            Some(_) => Applied::Configured,
            None => Applied::Created,
        };
        if applied != Applied::Unchanged {
            volume.make(claim)?;
        }
        tell(ObjectKind::PersistentVolumeClaim, name, applied);
    }
    // What has just been kept is what the pods use: so they follow when it is applied anew.
    let kept = objects::read_stored(home, &[])?;
    // They are not the pods' own.
    services::keep(home, namespace, std::mem::take(&mut manifest.services), fresh)?;
    for pod in &manifest.pods {
        self::pod(home, pod, [&kept, &manifest], fresh)?;
    }
    Ok(0)
}

/// Keeps an object; one that is there already is changed, or an error where it is to be `fresh`.
pub(super) fn keep<T: Kept>(
    home: &Home,
    namespace: &Namespace,
    object: T,
    kind: ObjectKind,
    fresh: bool,
) -> Result<(), Error> {
    let name = ObjectName::of_object(object.metadata())?;
    if fresh && home.object::<T>(namespace, &name)?.is_some() {
        return Err(already_exists(kind, &name));
    }
    tell(kind, &name, Engine::over(home).apply_object(kind, namespace, object)?);
    Ok(())
}

/// Says what became of an object.
pub(super) fn tell(kind: ObjectKind, name: &str, applied: Applied) {
    let word = match applied {
        Applied::Created => "created",
        Applied::Configured => "configured",
        Applied::Unchanged => "unchanged",
    };
    println!("{}/{name} {word}", kind.singular());
}

/// The error that there is an object of that name already.
pub(super) fn already_exists(kind: ObjectKind, name: &str) -> Error {
    engine::Error::ObjectExists { kind, name: name.to_owned() }.into()
}

/// Starts a pod, or makes a living one what the file says, as far as a living pod lets that happen.
fn pod(home: &Home, pod: &Pod, from: [&Manifest; 2], fresh: bool) -> Result<(), Error> {
    let dir = home.place_of(pod)?;
    if dir.read_liveness() != Liveness::Alive {
        run::start(&run::Args::detached_args(), home, pod.clone(), from)?;
        println!("pod/{} created", dir.name);
        return Ok(());
    }
    if fresh {
        return Err(already_exists(ObjectKind::Pod, &dir.name));
    }
    let known = dir.read()?;
    let same = known.metadata.labels == pod.metadata.labels
        && known.metadata.annotations == pod.metadata.annotations
        && known.spec.as_ref().and_then(|s| s.active_deadline_seconds)
            == pod.spec.as_ref().and_then(|s| s.active_deadline_seconds)
        && crate::lifecycle::check_pod_update(&known, pod).is_ok();
    if !same {
        Engine::over(home).pod(&dir.namespace, &dir.name)?.update(pod)?;
    }
    tell(ObjectKind::Pod, &dir.name, if same { Applied::Unchanged } else { Applied::Configured });
    Ok(())
}

/// Kept for `create`: a ConfigMap or a Secret that is new.
pub(super) fn keep_new(home: &Home, namespace: &Namespace, object: New) -> Result<(), Error> {
    match object {
        New::ConfigMap(map) => keep(home, namespace, map, ObjectKind::ConfigMap, true),
        New::Secret(secret) => keep(home, namespace, secret, ObjectKind::Secret, true),
    }
}

/// Names what `create` makes.
pub(super) enum New {
    ConfigMap(ConfigMap),
    Secret(Secret),
}
