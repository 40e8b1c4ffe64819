//! `run --userns`, as podman has it: which of the pod's ids the user has.

use podctl_images::KeptIds;

/// The way in which a user's ids are those of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserNamespace {
    /// The user is the pod's root, as in all of the user's pods.
    Shared,
    /// The user keeps the own ids, or has these.
    KeepId(KeptIds),
}

impl UserNamespace {
    pub(super) fn kept_ids(self) -> Option<KeptIds> {
        match self {
            UserNamespace::Shared => None,
            UserNamespace::KeepId(ids) => Some(ids),
        }
    }
}

/// Largest id of a user or group, as for kube-apiserver.
const LARGEST_ID: u32 = i32::MAX as u32;

/// Reads the flag's value; says of podman's other modes why there are none.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn parse_user_namespace(text: &str) -> Result<UserNamespace, String> {
    let (mode, options) = text.split_once(':').unwrap_or((text, ""));
    match mode {
        "" | "host" if options.is_empty() => Ok(UserNamespace::Shared),
        "keep-id" => parse_kept_ids(options).map(UserNamespace::KeepId),
        "auto" => Err("a user's pods share the user's subordinate ids; root's pods get ids of their own by `spec.hostUsers: false`".into()),
        "nomap" => Err("the files of a user's pods are the user's, who so has an id in each; a container with a `runAsUser` other than 0 is nobody on this machine's files".into()),
        _ => Err("it is keep-id[:uid=N,gid=N], or host for the user being the pod's root".into()),
    }
}

fn parse_kept_ids(options: &str) -> Result<KeptIds, String> {
    let mut ids = KeptIds { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let place = match name {
            "uid" => &mut ids.uid,
            "gid" => &mut ids.gid,
            "size" => return Err("size: a pod has all of the user's subordinate ids".into()),
            _ => return Err(format!("keep-id has the options uid and gid, and no {name:?}")),
        };
        let id = value.parse().ok().filter(|id| *id <= LARGEST_ID);
        *place = id.ok_or_else(|| format!("{name} {value:?} is not a number from 0 to {LARGEST_ID}"))?;
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_modes_are_read_or_refused_with_a_reason() {
        let own = KeptIds { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
        let kept = |text| parse_user_namespace(text).unwrap().kept_ids();
        assert_eq!([kept(""), kept("host"), kept("keep-id")], [None, None, Some(own)]);
        assert_eq!(kept("keep-id:uid=7,gid=8"), Some(KeptIds { uid: 7, gid: 8 }));
        assert_eq!(kept("keep-id:gid=8"), Some(KeptIds { gid: 8, ..own }));
        for (text, why) in [
            ("auto", "hostUsers"),
            ("auto:size=9", "hostUsers"),
            ("nomap", "runAsUser"),
            ("ns:/proc/1/ns/user", "keep-id"),
            ("keep-id:uid=-1", "0 to 2147483647"),
            ("keep-id:uid=2147483648", "0 to 2147483647"),
            ("keep-id:uid", "0 to 2147483647"),
            ("keep-id:who=1", "no \"who\""),
        ] {
            let words = parse_user_namespace(text).unwrap_err();
            assert!(words.contains(why), "{text}: {words}");
        }
    }
}
