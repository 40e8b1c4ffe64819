//! A pod's images: asking the puller, hearing it, keeping what is in use.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use podctl_images::{Image, Lease, Store};

use super::Supervisor;
use crate::{
    lifecycle::{Event, ImageFailure, Pulled},
    pod::{ContainerExt, ImageVolume, PodExt, image_volumes},
    wire::{self, PullAnswer, PullOutcome, PullRequest, read_pull_secrets},
};

/// Number of pullers that may be killed over one image before its pull has failed.
const MOST_KILLS: u32 = 2;

/// The images that the pod has, and those that are on their way.
pub(super) struct Pulls {
    pub store: Store,
    /// Keeps each by its container.
    pub images: BTreeMap<String, Image>,
    /// Shared locks on the images in use, by their digests.
    pub leases: BTreeMap<String, Lease>,
    pub puller: Option<OwnedFd>,
    /// Holds what the puller was asked for, each with the number of pullers that were killed meanwhile.
    pub pulling: Vec<(PullRequest, u32)>,
    /// Images of volumes that are being pulled: the volume, by the container that waits for it.
    pub volumes: BTreeMap<String, String>,
    /// Files of ids that the pod does not have become its root's.
    pub squash_ids: bool,
}

impl Pulls {
    /// Keeps the image from being removed while the pod lives.
    ///
    /// # Errors
    /// Those of [`Store::take_lease`].
    pub(super) fn hold(&mut self, image: &Image) -> Result<(), podctl_images::Error> {
        if !self.leases.contains_key(&image.digest) {
            self.leases.insert(image.digest.clone(), self.store.take_lease(image)?);
        }
        Ok(())
    }
}

impl Supervisor {
    pub(super) fn pull(&mut self, container: &str) {
        if let Some((volume, image, policy)) = self.missing_volume_image(container) {
            self.pulls.volumes.insert(container.to_owned(), volume);
            return self.ask_puller(container, image, policy);
        }
        if let Some(image) = self.pulls.images.get(container).cloned() {
            let event = self.image_ready(container, image, None);
            self.pending.push_back(event);
            return;
        }
        if let Some(found) = self.spec.ephemeral(container) {
            // Whoever asked for it has pulled its image.
            let event = self.local_image(&found.name.clone(), found.image.clone().unwrap_or_default());
            return self.pending.push_back(event);
        }
        let Some(found) = self.container(container) else { return };
        let (image, policy) = (found.image.clone().unwrap_or_default(), found.pull_policy().to_owned());
        if self.pulls.puller.is_none() {
            // An image that was changed later: whoever changed it has pulled it, as far as it could be.
            let event = self.local_image(container, image);
            return self.pending.push_back(event);
        }
        self.ask_puller(container, image, policy);
    }

    /// The first of the container's volumes whose image is yet to be had: its name, the image, the pullPolicy.
    fn missing_volume_image(&self, container: &str) -> Option<(String, String, String)> {
        let mounts = self.container(container)?.volume_mounts.as_deref().unwrap_or_default();
        let missing = |v: &&ImageVolume| {
            mounts.iter().any(|m| m.name == v.volume) && !self.sandbox.objects.images.contains_key(&v.volume)
        };
        let found = image_volumes(&self.pod).into_iter().find(|v| missing(&v))?;
        Some((found.volume, found.image, found.policy))
    }

    fn ask_puller(&mut self, container: &str, image: String, policy: String) {
        let request = PullRequest {
            container: container.into(),
            image,
            policy,
            store: self.home.images(),
            alone: self.pulls.images.is_empty(),
            secrets: read_pull_secrets(&self.pod, &self.sandbox.objects),
            squash_ids: self.pulls.squash_ids,
            kept_ids: self.sandbox.kept_ids,
        };
        let sent = match &self.pulls.puller {
            Some(puller) => wire::send(puller, &request, &[]).is_ok(),
            _ => false,
        };
        if sent && request.policy != "Never" {
            self.pending
                .push_back(Event::ImagePulling { container: container.into(), image: request.image.clone() });
        }
        if !sent {
            let message = "the process that pulls images has ended; start the pod again".to_owned();
            self.pending.push_back(Event::ImageFailed {
                container: container.into(),
                reason: ImageFailure::Pull,
                message,
            });
        } else {
            self.pulls.pulling.push((request, 0));
        }
    }

    pub(super) fn hear_puller(&mut self) {
        let Some(socket) = &self.pulls.puller else { return };
        let event = match wire::receive::<PullAnswer>(socket) {
            Ok(Some((PullAnswer { outcome: PullOutcome::Killed, .. }, _))) => return self.puller_killed(),
            Ok(Some((answer, _))) => {
                self.pulls.pulling.retain(|(request, _)| request.container != answer.container);
                match self.pulls.volumes.remove(&answer.container) {
                    Some(volume) => return self.volume_image_pulled(&volume, answer),
                    None => self.note_pulled(answer),
                }
            }
            Ok(None) | Err(_) => {
                self.poll.forget(socket);
                self.pulls.puller = None;
                return self.puller_lost();
            }
        };
        self.pending.push_back(event);
        let volumes = || image_volumes(&self.pod);
        let all = self.pod.containers().all(|c| self.pulls.images.contains_key(&c.name))
            && volumes().iter().all(|v| self.sandbox.objects.images.contains_key(&v.volume));
        if all && let Some(socket) = self.pulls.puller.take() {
            self.poll.forget(&socket);
        }
    }

    /// Asks the next puller for what the killed one was at; after some kills a pull has failed, and is tried again later.
    fn puller_killed(&mut self) {
        for (request, kills) in std::mem::take(&mut self.pulls.pulling) {
            let puller = self.pulls.puller.as_ref().filter(|_| kills < MOST_KILLS);
            if puller.is_some_and(|puller| wire::send(puller, &request, &[]).is_ok()) {
                self.pulls.pulling.push((request, kills + 1));
                continue;
            }
            self.pulls.volumes.remove(&request.container);
            self.pending.push_back(Event::ImageFailed {
                container: request.container,
                reason: ImageFailure::Pull,
                message: "the process that pulls images was killed; is the machine out of memory?".into(),
            });
        }
    }

    /// Shows the image in its volume, and goes on with the container that has waited for it; or says of that one why not.
    fn volume_image_pulled(&mut self, volume: &str, answer: PullAnswer) {
        let container = answer.container.clone();
        let image = match answer.outcome {
            PullOutcome::Present(image) | PullOutcome::Pulled { image, .. } => Ok(*image),
            PullOutcome::Failed(words) => Err((ImageFailure::Pull, words)),
            PullOutcome::NeverPull(words) => Err((ImageFailure::NeverPull, words)),
            PullOutcome::InvalidName(words) => Err((ImageFailure::InvalidName, words)),
            // Said of no container, and heard before.
            PullOutcome::Killed => Err((ImageFailure::Pull, "its puller was killed".to_owned())),
        };
        let held = image.and_then(|image| match self.pulls.hold(&image) {
            Ok(()) => Ok(image),
            Err(e) => Err((ImageFailure::Pull, e.to_string())),
        });
        let mounted = held.and_then(|image| {
            self.sandbox.objects.images.insert(volume.to_owned(), image);
            self.sandbox.make_volumes(&self.pod);
            match self.sandbox.volumes.failed.get(volume) {
                Some(e) => Err((ImageFailure::Pull, e.to_string())),
                None => Ok(()),
            }
        });
        match mounted {
            Ok(()) => self.pull(&container),
            Err((reason, words)) => {
                let message = format!("image of volume {volume:?}: {words}");
                self.pending.push_back(Event::ImageFailed { container, reason, message });
            }
        }
    }

    fn puller_lost(&mut self) {
        let missing = self.pod.containers().filter(|c| !self.pulls.images.contains_key(&c.name));
        self.pending.extend(missing.map(|c| Event::ImageFailed {
            container: c.name.clone(),
            reason: ImageFailure::Pull,
            message: "the process that pulls images was killed; delete the pod and run it again".into(),
        }));
    }

    fn note_pulled(&mut self, answer: PullAnswer) -> Event {
        let container = answer.container;
        let failed = |reason, message| Event::ImageFailed { container: container.clone(), reason, message };
        let (image, pulled) = match answer.outcome {
            PullOutcome::Present(image) => (*image, None),
            PullOutcome::Pulled { image, took, bytes } => {
                let size = if bytes > 0 { bytes } else { image.size };
                (*image, Some(Pulled { took, size }))
            }
            PullOutcome::Failed(words) => return failed(ImageFailure::Pull, words),
            PullOutcome::NeverPull(words) => return failed(ImageFailure::NeverPull, words),
            PullOutcome::InvalidName(words) => return failed(ImageFailure::InvalidName, words),
            // Said of no container, and heard before.
            PullOutcome::Killed => return failed(ImageFailure::Pull, "its puller was killed".to_owned()),
        };
        self.image_ready(&container, image, pulled)
    }

    /// Keeps the image from being removed while the pod lives, and says that it is here.
    pub(super) fn image_ready(&mut self, container: &str, image: Image, pulled: Option<Pulled>) -> Event {
        if let Err(e) = self.pulls.hold(&image) {
            let message = e.to_string();
            return Event::ImageFailed { container: container.into(), reason: ImageFailure::Pull, message };
        }
        let name = image.reference.rsplit_once('@').map_or(image.reference.as_str(), |(name, _)| name);
        let repository = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository,
            _ => name,
        };
        let event = Event::ImageReady {
            container: container.into(),
            image: image.reference.clone(),
            image_id: format!("{repository}@{}", image.digest),
            stop_signal: image.config.stop_signal().clone(),
            pulled,
        };
        self.pulls.images.insert(container.into(), image);
        event
    }
}
