//! Pods in which the user keeps the own id: a user namespace within the one that the user's pods share, where the user is
//! not root but that id, and root one of the subordinate ids. What the supervisor writes is the user's all the same
//! (`supervisor/prepare.rs`), and layers of images are copied for it (`podctl_images::KeptIds`).

use std::os::fd::{BorrowedFd, OwnedFd};

use podctl_images::KeptIds;
use podctl_runtime::{IdMappings, nested_user_namespace, user_namespace};

use super::error::Error;

/// Makes the namespace within `around`, or within a new one of the user's ids where there is none yet.
///
/// # Errors
/// [`Error::KeptIds`] where the user has no other ids that root could be; [`Error::Spawn`].
pub(super) fn make_user_namespace(
    around: Option<BorrowedFd<'_>>,
    ids: Option<&IdMappings>,
    kept: KeptIds,
) -> Result<OwnedFd, Error> {
    let Some(ids) = ids else {
        let why = "root has all ids, and in its pods the same; spec.hostUsers: false gives a pod others";
        return Err(Error::KeptIds(why.to_owned()));
    };
    if ids.is_single() {
        let why = "it takes subordinate ids (/etc/subuid, /etc/subgid), of which one becomes root of the pod; `podctl doctor` says how to get them";
        return Err(Error::KeptIds(why.to_owned()));
    }
    let made = around.is_none().then(|| user_namespace(ids)).transpose()?;
    let around = around.or(made.as_ref().map(std::os::fd::AsFd::as_fd));
    let around = around.expect("it was made above where there was none");
    Ok(nested_user_namespace(around, &ids.keep_ids(kept.uid, kept.gid))?)
}
