//! The image store, for whoever may change it: without root, files of an image belong to subordinate
//! ids, so the work is done in a user namespace that has them, by this same program in another role.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::EphemeralContainer;
use nix::sched::CloneFlags;
use podctl_images::{
    AuthFile, Error as StoreError, Finding, Image, KeptIds, Options, Platform, Reference, Store,
};
use podctl_runtime::IdMappings;
use serde::{Deserialize, Serialize};

use super::{Engine, named_file::NamedFile, volume_files};
use crate::{
    pod::default_pull_policy,
    process::{
        Role, create_memory_file,
        descriptors::{
            images::{ANSWER, HANDED, TASK},
            take_descriptor,
        },
        start_role,
    },
    puller::layer_bars::LayerBars,
};

/// Tells how to pull.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// Holds a text such as `linux/arm64`; this machine's own else.
    pub platform: Option<String>,
    /// Show progress on standard error.
    pub progress: bool,
    /// Files of owners that have no id here belong to root, instead of failing the pull.
    pub squash_ids: bool,
}

/// Tells how to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Show progress on standard error.
    pub progress: bool,
    /// Files of owners that have no id here belong to root, instead of failing the load.
    pub squash_ids: bool,
}

/// The reason why something about an image could not be done; it may have happened in another process.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct ImageError {
    /// Holds what sort of failure.
    pub kind: ImageErrorKind,
    /// The whole sentence.
    pub message: String,
}

/// The failures that a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ImageErrorKind {
    /// There is no such image.
    NotFound,
    /// Means that a pod uses it.
    InUse,
    /// Anything else.
    Other,
}

impl From<StoreError> for ImageError {
    fn from(e: StoreError) -> ImageError {
        let kind = match e {
            StoreError::NotFound { .. } => ImageErrorKind::NotFound,
            StoreError::InUse { .. } => ImageErrorKind::InUse,
            _ => ImageErrorKind::Other,
        };
        ImageError { kind, message: e.to_string() }
    }
}

pub(super) fn other(message: impl ToString) -> ImageError {
    ImageError { kind: ImageErrorKind::Other, message: message.to_string() }
}

/// Holds what the role is told to do.
#[derive(Serialize, Deserialize)]
struct Task {
    store: PathBuf,
    work: Work,
    progress: bool,
}

#[derive(Serialize, Deserialize)]
enum Work {
    Pull { image: String, platform: Option<String>, secrets: Vec<AuthFile>, squash_ids: bool },
    Remove { image: String, force: bool },
    Load { file: NamedFile, squash_ids: bool },
    Check { repair: bool },
    Save { images: Vec<String>, file: NamedFile },
    Tag { image: String, name: String },
    Remap { image: String, ids: KeptIds },
    ExportVolume { files: PathBuf, file: NamedFile },
    ImportVolume { files: PathBuf, file: NamedFile },
}

/// Holds what came of it.
#[derive(Default, Serialize, Deserialize)]
struct Done {
    /// The images that were pulled or loaded, or are gone.
    images: Vec<Image>,
    /// Holds what was found when the store was looked through.
    findings: Vec<Finding>,
}

type Answer = Result<Done, ImageError>;

impl Engine {
    /// Has the image of a debug container here, for the pod's own processes cannot fetch it.
    ///
    /// # Errors
    /// [`ImageError`].
    pub(crate) fn fetch_debug_image(&self, container: &EphemeralContainer) -> Result<(), ImageError> {
        let image = container.image.as_deref().unwrap_or_default();
        let policy = container.image_pull_policy.clone();
        let policy = policy.unwrap_or_else(|| default_pull_policy(image).to_owned());
        self.have_image(image, &policy, &crate::wire::Options::default())
    }

    /// Fetches an image, such as `busybox:1.36`; layers that are there already are not fetched again.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn pull(&self, image: &str, options: &PullOptions) -> Result<Image, ImageError> {
        self.pull_with(image, options, Vec::new())
    }

    /// The same, with what a pod's imagePullSecrets hold.
    pub(super) fn pull_with(
        &self,
        image: &str,
        options: &PullOptions,
        secrets: Vec<AuthFile>,
    ) -> Result<Image, ImageError> {
        let PullOptions { platform, progress, squash_ids } = options.clone();
        let work = Work::Pull { image: image.to_owned(), platform, secrets, squash_ids };
        self.change(work, progress)?.images.pop().ok_or_else(|| other("the pull gave no image"))
    }

    /// The images there are.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn images(&self) -> Result<Vec<Image>, ImageError> {
        Ok(Store::open(&self.home.images())?.list()?)
    }

    /// Removes an image by a reference or the beginning of its id; with `force` also one of several
    /// names. Gives what is gone, one entry a name.
    ///
    /// # Errors
    /// [`ImageError`]; its kind tells an image that is missing and one that a pod uses.
    pub fn remove_image(&self, image: &str, force: bool) -> Result<Vec<Image>, ImageError> {
        Ok(self.change(Work::Remove { image: image.to_owned(), force }, false)?.images)
    }

    /// The images whose references or layers are damaged, at a glance: they are not there until they are pulled again.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn damaged_images(&self) -> Result<Vec<Finding>, ImageError> {
        Ok(Store::open(&self.home.images())?.damaged()?)
    }

    /// Looks through the whole image store, down to what files hold. With `repair` what is damaged is forgotten, so
    /// that it is pulled on demand, and what no image needs is removed. Gives what was found.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn check_images(&self, repair: bool) -> Result<Vec<Finding>, ImageError> {
        Ok(self.change(Work::Check { repair }, false)?.findings)
    }

    /// Loads the images of a docker-archive, an oci-archive or an OCI layout directory; `-` is standard
    /// input.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn load_image(&self, path: &Path, options: &LoadOptions) -> Result<Vec<Image>, ImageError> {
        let (file, handed) = NamedFile::of_input(path)?;
        let work = Work::Load { file, squash_ids: options.squash_ids };
        Ok(self.change_with(work, options.progress, handed)?.images)
    }

    /// Writes images into an OCI archive; `-` is standard output. Returns them.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn save_images(&self, images: &[String], path: &Path) -> Result<Vec<Image>, ImageError> {
        let (file, handed) = NamedFile::of_output(path)?;
        let work = Work::Save { images: images.to_vec(), file };
        Ok(self.change_with(work, false, handed)?.images)
    }

    /// Gives an image one name more, such as `localhost/app:2`; what had that name before has it no more.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn tag_image(&self, image: &str, name: &str) -> Result<Image, ImageError> {
        let work = Work::Tag { image: image.to_owned(), name: name.to_owned() };
        self.change(work, false)?.images.pop().ok_or_else(|| other("the image has no name"))
    }

    /// Makes an image that is present fit for a pod in which the user has these ids.
    ///
    /// # Errors
    /// [`ImageError`].
    pub(super) fn remap_image(&self, image: &str, ids: KeptIds) -> Result<(), ImageError> {
        self.change(Work::Remap { image: image.to_owned(), ids }, false).map(drop)
    }

    /// Writes the files of a local volume into a tar archive; `-` is standard output.
    ///
    /// # Errors
    /// [`ImageError`], which the process with the files' owners gives.
    pub(crate) fn export_volume(&self, files: &Path, path: &Path) -> Result<(), ImageError> {
        let (file, handed) = NamedFile::of_output(path)?;
        let work = Work::ExportVolume { files: files.to_owned(), file };
        self.change_with(work, false, handed).map(drop)
    }

    /// Unpacks a tar archive into a local volume; `-` is standard input.
    ///
    /// # Errors
    /// [`ImageError`], which the process with the files' owners gives.
    pub(crate) fn import_volume(&self, files: &Path, path: &Path) -> Result<(), ImageError> {
        let (file, handed) = NamedFile::of_input(path)?;
        let work = Work::ImportVolume { files: files.to_owned(), file };
        self.change_with(work, false, handed).map(drop)
    }

    fn change(&self, work: Work, progress: bool) -> Answer {
        self.change_with(work, progress, None)
    }

    /// The same with the file that the work is about, where it is handed over open.
    fn change_with(&self, work: Work, progress: bool, handed: Option<File>) -> Answer {
        let task = Task { store: self.home.images(), work, progress };
        if nix::unistd::geteuid().is_root() {
            return carry_out(&task);
        }
        let (mappings, _) = IdMappings::of_user().map_err(other)?;
        let mut document = create_memory_file(c"podctl-images").map_err(other)?;
        let mut answer = create_memory_file(c"podctl-images").map_err(other)?;
        let text = serde_json::to_vec(&task).expect("plain data");
        document.write_all(&text).and_then(|()| document.rewind()).map_err(other)?;
        let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
        let mut fds = vec![(document.as_fd(), TASK), (answer.as_fd(), ANSWER)];
        fds.extend(handed.as_ref().map(|file| (file.as_fd(), HANDED)));
        let ended = start_role(&Role {
            namespaces,
            mappings: Some(&mappings),
            fds: &fds,
            program: self.home.program.as_deref(),
            ..Role::named("images")
        })
        .and_then(|p| p.wait());
        let ended = ended.map_err(other)?;
        let mut text = Vec::new();
        answer.rewind().and_then(|()| answer.read_to_end(&mut text)).map_err(other)?;
        let lost = |_| other(format!("the process that changes the image store ended early ({ended:?})"));
        serde_json::from_slice::<Answer>(&text).map_err(lost)?
    }
}

/// The role's life.
pub(crate) fn main() -> i32 {
    // Who ends the command means its work. A parent that is gone already is the same race as a late kill.
    let _ = nix::sys::prctl::set_pdeathsig(Some(nix::sys::signal::Signal::SIGKILL));
    // SAFETY: this process was started by `Engine::change` with these descriptors, for nobody else.
    let (task, mut answer) =
        unsafe { (File::from(take_descriptor(TASK)), File::from(take_descriptor(ANSWER))) };
    let Ok(task) = serde_json::from_reader(task) else { return 2 };
    let text = serde_json::to_vec(&carry_out(&task)).expect("plain data");
    i32::from(answer.write_all(&text).is_err())
}

fn carry_out(task: &Task) -> Answer {
    let store = Store::open(&task.store)?;
    let progress = if task.progress { LayerBars::new() } else { LayerBars::quiet() };
    match &task.work {
        Work::Pull { image, platform, secrets, squash_ids } => {
            let platform = platform.as_deref().map(str::parse::<Platform>).transpose()?.unwrap_or_default();
            let (secrets, squash_ids) = (secrets.clone(), *squash_ids);
            let options = Options { platform, secrets, squash_ids, verify: true, ..Options::default() };
            let pulled = podctl_images::pull(&store, &image.parse()?, &options, &progress)?;
            Ok(Done { images: vec![pulled.image], ..Done::default() })
        }
        Work::Load { file: NamedFile { path, shown }, squash_ids } => {
            let images = podctl_images::load(&store, path, shown, *squash_ids, &progress)?;
            Ok(Done { images, ..Done::default() })
        }
        Work::Save { images, file: NamedFile { path, shown } } => {
            let images =
                images.iter().map(|image| find_image(&store, image)).collect::<Result<Vec<_>, _>>()?;
            let failed = |error| other(format!("cannot write {}: {error}", shown.display()));
            let mut out = volume_files::create_output(path).map_err(failed)?;
            podctl_images::save(&store, &images, shown, &mut out)?;
            Ok(Done { images, ..Done::default() })
        }
        Work::Tag { image, name } => {
            let tagged = store.tag(&find_image(&store, image)?, &name.parse()?)?;
            Ok(Done { images: vec![tagged], ..Done::default() })
        }
        Work::Remap { image, ids } => {
            let image = find_image(&store, image)?;
            // Removed meanwhile, it would leave what nothing needs, and collects.
            let _lease = store.take_lease(&image)?;
            store.remap_layers(&image, *ids)?;
            Ok(Done::default())
        }
        Work::ExportVolume { files, file: NamedFile { path, shown } } => {
            let failed = |error| other(format!("cannot write the volume to {}: {error}", shown.display()));
            volume_files::export_files(files, path).map(|()| Done::default()).map_err(failed)
        }
        Work::ImportVolume { files, file: NamedFile { path, shown } } => {
            let failed = |error| other(format!("cannot unpack {} into the volume: {error}", shown.display()));
            volume_files::import_files(files, path).map(|()| Done::default()).map_err(failed)
        }
        Work::Check { repair } => Ok(Done { findings: store.look_through(*repair)?, ..Done::default() }),
        Work::Remove { image, force } => remove(&store, image, *force),
    }
}

/// The image of a name or an id, whole.
fn find_image(store: &Store, text: &str) -> Result<Image, ImageError> {
    let missing = || StoreError::NotFound { reference: text.to_owned() };
    let reference = store.resolve(text)?.into_iter().next().ok_or_else(missing)?;
    Ok(store.find_verified(&reference)?.ok_or_else(missing)?)
}

fn remove(store: &Store, text: &str, force: bool) -> Answer {
    let references: Vec<Reference> = store.resolve(text)?;
    if references.len() > 1 && !force {
        let names = references.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(StoreError::SeveralNames { text: text.to_owned(), names }.into());
    }
    let mut gone = Vec::new();
    for reference in references {
        let removed = store.remove(&reference)?;
        gone.push(removed.image.unwrap_or_else(|| Image::unreadable_reference(&removed.reference)));
    }
    Ok(Done { images: gone, ..Done::default() })
}
