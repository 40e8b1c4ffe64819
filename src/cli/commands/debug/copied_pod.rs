//! The changed copy of a pod that `podctl debug --copy-to` starts.

use super::{Args, command, debug_container, profile};
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{cli::Error, state::Home};

/// The copy, and the container to attach to.
pub(super) fn pod(args: &Args, home: &Home, original: &Pod) -> Result<(Pod, Option<String>), Error> {
    let meta = &original.metadata;
    let mut spec = original.spec.clone().unwrap_or_default();
    spec.ephemeral_containers = None;
    spec.node_name = None;
    // The host's processes are shared already.
    if spec.host_pid != Some(true) {
        spec.share_process_namespace = Some(args.share_processes != Some(false));
    }
    if !args.keep_init_containers {
        spec.init_containers = None;
    }
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        strip_probes(args, container);
    }
    set_images(args, &mut spec)?;
    let attach = change(args, home, original, &mut spec)?;
    let copy = Pod {
        metadata: ObjectMeta {
            name: args.copy_to.clone(),
            namespace: meta.namespace.clone(),
            labels: meta.labels.clone().filter(|_| args.keep_labels),
            annotations: meta.annotations.clone().filter(|_| args.keep_annotations),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    };
    Ok((copy, attach))
}

fn strip_probes(args: &Args, container: &mut Container) {
    if !args.keep_liveness {
        container.liveness_probe = None;
    }
    if !args.keep_readiness {
        container.readiness_probe = None;
    }
    if !args.keep_startup {
        container.startup_probe = None;
    }
}

fn set_images(args: &Args, spec: &mut PodSpec) -> Result<(), Error> {
    for word in &args.set_image {
        let (name, image) = word
            .split_once('=')
            .ok_or_else(|| Error::Said(format!("--set-image {word:?}: write NAME=IMAGE")))?;
        image.parse::<podctl_images::Reference>()?;
        let mut found = false;
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            if name == "*" || name == container.name {
                container.image = Some(image.to_owned());
                found = true;
            }
        }
        if !found {
            return Err(Error::Said(format!("--set-image: the pod has no container {name:?}")));
        }
    }
    Ok(())
}

/// Changes the named container, or adds one.
fn change(args: &Args, home: &Home, original: &Pod, spec: &mut PodSpec) -> Result<Option<String>, Error> {
    if let Some(name) = &args.container
        && let Some(known) = spec.containers.iter_mut().find(|c| c.name == *name)
    {
        command(args, known);
        if let Some(image) = &args.image {
            image.parse::<podctl_images::Reference>()?;
            known.image = Some(image.clone());
        }
        (known.stdin, known.tty) = (Some(args.stdin), Some(args.tty));
        profile::apply(args.profile(), &mut known.security_context);
        return Ok(Some(name.clone()));
    }
    if args.image.is_none() && !args.set_image.is_empty() {
        return Ok(args.container.clone().or(spec.containers.first().map(|c| c.name.clone())));
    }
    let added = debug_container(args, home, original)?;
    let name = added.name.clone();
    spec.containers.push(added);
    Ok(Some(name))
}
