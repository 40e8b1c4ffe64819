//! The client's half of a start: from a checked pod to a supervisor whose sandbox stands.
//!
//! Runs in the process that calls the engine, in the host's namespaces and with the caller's rights. What it hands
//! over is in `wire/`; what becomes of it is the supervisor's half, which imports nothing of this one.

mod contained;
mod error;
pub mod gather;
mod host_address;
mod kept_ids;
mod launch;
mod publish;
mod started;
pub mod user_namespace;

pub(super) use contained::remove_lent_cgroups;
pub use error::Error;
pub use host_address::find_host_ip;
pub use started::Started;

use std::{
    fs::File,
    io::ErrorKind,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use podctl_images::Store;
use podctl_runtime::start_trace;

use self::launch::{Plan, launch_supervisor};
use super::{end::end_unrecorded, sweep};
use crate::{
    manifest::{self, CheckedPod},
    sandbox::Objects,
    state::{self, Home, Placed, PodDir, Unplaced},
    wire::{Options, Request, StartRecord, read_start_record, serialize_start_record},
};

/// The time for which a pod is started anew on a network that is killed again and again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the pod. Returns as soon as its supervisor has its sandbox; containers start meanwhile. The
/// supervisor serves `first` before it starts anything, so that an attached terminal misses nothing.
///
/// # Errors
/// [`Error`]; nothing of the pod is left behind then.
pub fn start(
    home: &Home,
    pod: CheckedPod,
    objects: Objects,
    options: &Options,
    first: Option<&Request>,
) -> Result<Started, Error> {
    manifest::check_objects(&objects.config_maps, &objects.secrets, &objects.services)
        .map_err(Error::Invalid)?;
    let mut pod = Pod::from(pod);
    let dir = home.place_of(&pod)?;
    sweep::sweep_records(home);
    if !dir.path.exists() && dir.runtime.exists() {
        end_unrecorded(&dir);
    }
    let uid = uuid::Uuid::new_v4().to_string();
    let manifest = pod.clone();
    pod.metadata.uid = Some(uid.clone());
    let now = Timestamp::now();
    pod.metadata.creation_timestamp = Some(Time(now));
    pod.metadata.generation = Some(1);
    pod.status = Some(PodStatus { phase: Some("Pending".into()), ..PodStatus::default() });
    // What starts it again may be another program, which need not stay.
    let again = Options { ends_with_program: false, ..options.clone() };
    let record = StartRecord { pod: manifest, objects: objects.clone(), options: again };
    let (lock, before) = match write_record(&dir, &uid, &pod, &record)?.place(&dir)? {
        Placed::Here { lock, before } => (lock, before),
        Placed::Held => return Err(Error::Exists(dir.name.to_string())),
    };
    start_trace::mark("client", "write the pod's record, take its name");

    let plan = Plan { home, dir: &dir, pod: &pod, objects: &objects, options, first };
    let mut started = dir.make_runtime().map_err(Error::from).and_then(|()| launch_supervisor(&plan, &lock));
    // A network that was killed meanwhile is followed by another; where ids cannot be mapped, one will do.
    let deadline = Instant::now() + PATIENCE;
    while started.as_ref().is_err_and(Error::may_pass) && Instant::now() < deadline {
        started = launch_supervisor(&plan, &lock);
    }
    // An ended pod's record makes room for the new pod of that name, and comes back if there is none.
    match started {
        Ok(started) => {
            // What of it cannot be removed now, the next command removes.
            let _ = before.map(|before| sweep::remove(home, before));
            Ok(started)
        }
        Err(e) => {
            // Of all that fails the first is told.
            let _ = give_up(home, &dir, lock.into(), before);
            Err(e)
        }
    }
}

/// Takes a record away whose pod did not start, and brings the one back that had the name before.
fn give_up(home: &Home, dir: &PodDir, lock: File, before: Option<Unplaced>) -> Result<(), Error> {
    let failed = dir.move_aside(lock)?;
    before.map_or(Ok(()), |before| before.bring_back(dir))?;
    sweep::remove(home, failed)
}

/// Writes the record of a pod beside its place.
fn write_record(dir: &PodDir, uid: &str, pod: &Pod, record: &StartRecord) -> Result<Unplaced, Error> {
    let unplaced = dir.prepare(uid)?;
    match unplaced.dir.fill(pod, &serialize_start_record(record)) {
        Ok(()) => Ok(unplaced),
        Err(e) => {
            // Of the two failures this one is told.
            let _ = unplaced.dir.remove();
            Err(e.into())
        }
    }
}

/// Starts an ended pod anew: the same manifest, objects and options; a new uid, and new logs.
///
/// # Errors
/// [`Error`]; one of a pod that lives is [`Error::Exists`].
pub fn start_again(home: &Home, dir: &PodDir) -> Result<Started, Error> {
    let record = read_start_record(dir).or_else(|e| match e {
        // Its record was put elsewhere between the two files: another pod is there now, or none.
        state::Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => read_start_record(dir),
        e => Err(e),
    });
    let StartRecord { pod, mut objects, options } = record?;
    // Where a volume lies is not for a file to say.
    for volume in objects.claims.values_mut() {
        *volume = home.volume(&volume.namespace, &volume.name);
    }
    let store = Store::open(&home.images())?;
    for image in objects.images.values_mut() {
        *image = store.check(image.clone())?;
    }
    let pod = manifest::check_pod(pod, None).map_err(Error::Invalid)?;
    start(home, pod, objects, &options, None)
}
