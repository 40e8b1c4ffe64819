//! A pod in place of a living one of its name: what can fail is tried before the old one ends, and the old one runs again when
//! the new one does not start all the same.

use super::{
    Engine, Error, ErrorKind, ImageError, ImageErrorKind, PodHandle, PullOptions, StartError, start::Started,
    unmet,
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

/// The number of times a pod is replaced by one whose name others take meanwhile.
const TRIES: u32 = 5;

impl Engine {
    /// Does as [`Engine::start`]; a pod of that name that lives is stopped first.
    pub(crate) fn replace(
        &self,
        pod: Pod,
        from: [&Manifest; 2],
        options: &Options,
        first: Option<&Request>,
    ) -> Result<Started, Error> {
        for _ in 1..TRIES {
            match self.try_replace(pod.clone(), from, options, first) {
                // Another has taken the name between the two, and is in its place now.
                Err(Error::Start(StartError::Exists(_))) => {}
                done => return done,
            }
        }
        self.try_replace(pod, from, options, first)
    }

    fn try_replace(
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
        match old.stop(None) {
            // Somebody has deleted it meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            stopped => stopped?,
        }
        self.start(pod, from, options, first).map_err(|e| match e {
            // What has the name now is not what was stopped.
            Error::Start(StartError::Exists(_)) => e,
            e => Engine::start_old(&old, e),
        })
    }

    /// Has the pod that was stopped run again, since another did not start; gives the error that tells of both.
    fn start_old(old: &PodHandle, failure: Error) -> Error {
        match old.start() {
            Ok(_) => Error::NotReplaced { pod: old.name().to_owned(), source: Box::new(failure) },
            // Its record is there, and says how it is started.
            Err(_) => failure,
        }
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
