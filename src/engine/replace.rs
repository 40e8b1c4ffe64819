//! A pod in place of a living one of its name: what can fail is tried before the old one ends, and the old one runs again when
//! the new one does not start all the same.

use super::{
    Engine, Error, ImageError, ImageErrorKind, PodHandle, PullOptions, StartError, start::Started, unmet,
};
use crate::{
    manifest::{self, Manifest},
    network::ports,
    pod::{ContainerExt, PodExt, publish_ports},
    sandbox::Objects,
    state::Liveness,
    wire::{Options, Request, read_pull_secrets},
};
use k8s_openapi::api::core::v1::Pod;
use podctl_images::Store;

impl Engine {
    /// Does as [`Engine::start`]; a pod of that name that lives is stopped first.
    pub(crate) fn replace(
        &self,
        pod: Pod,
        from: [&Manifest; 2],
        options: &Options,
        first: Option<&Request>,
    ) -> Result<Started, Error> {
        let mut pod = pod;
        publish_ports(&mut pod, &options.publish);
        let dir = self.home.place_of(&pod)?;
        if dir.read_liveness() != Liveness::Alive {
            return self.start(pod, from, options, first);
        }
        manifest::check_pod(pod.clone(), Some(from)).map_err(Error::Manifest)?;
        unmet(&pod)?;
        let objects = self.gather(&pod, from, options)?;
        self.have_images(&pod, &objects, options.progress)?;
        ports::check(&self.home, &pod, &dir).map_err(StartError::from)?;
        let old = PodHandle::of(&self.home, &dir);
        old.stop(None)?;
        self.start(pod, from, options, first).map_err(|e| match old.start() {
            Ok(_) => Error::NotReplaced { pod: dir.name.to_string(), source: Box::new(e) },
            // Its record is there, and says how it is started.
            Err(_) => e,
        })
    }

    /// Pulls the images of the pod's containers where their policies say so.
    fn have_images(&self, pod: &Pod, objects: &Objects, progress: bool) -> Result<(), Error> {
        let store = Store::open(&self.home.images()).map_err(ImageError::from)?;
        for container in pod.containers() {
            let image = container.image.as_deref().unwrap_or_default();
            let reference = image.parse().map_err(ImageError::from)?;
            let present = store.find(&reference).map_err(ImageError::from)?.is_some();
            match container.pull_policy() {
                "Never" if !present => {
                    let message =
                        format!("image \"{image}\" is not in the store, and its pull policy is Never");
                    return Err(ImageError { kind: ImageErrorKind::NotFound, message }.into());
                }
                "Always" => {}
                _ if present => continue,
                _ => {}
            }
            let options = PullOptions { progress, ..PullOptions::default() };
            self.pull_with(image, &options, read_pull_secrets(pod, objects))?;
        }
        Ok(())
    }
}
