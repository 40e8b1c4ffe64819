//! The pod's and the container's securityContext as one, in the runtime spec's words (R-SEC-1).

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    sync::OnceLock,
};

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext};
use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxDevice, LinuxDeviceBuilder,
    LinuxDeviceType, LinuxSeccomp,
};
use podctl_images::{Image, KeptIds};
use podctl_runtime::{defaults, seccomp};

use super::{Error, container_spec::check_built, seccomp_profile, user};
use crate::pod::PodExt;

/// The place where a kernel with AppArmor says so.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";

/// Names what filters a container's system calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Docker's default profile, for a container with these capabilities.
    Default(HashSet<Capability>),
    /// The profile of a file.
    Profile(Box<LinuxSeccomp>),
}

impl Filter {
    /// The program that the kernel runs at every call.
    ///
    /// # Errors
    /// What the profile says and cannot be had.
    pub fn compiled(&self) -> Result<seccomp::Program, podctl_runtime::Error> {
        match self {
            Filter::Default(capabilities) => seccomp::docker_default(capabilities),
            Filter::Profile(profile) => seccomp::compile(profile),
        }
    }
}

/// The filter of a container that asks for no profile of its own.
pub fn default_filter(pod: &Pod, container: &Container) -> Option<Filter> {
    let security = Security::of(pod, container);
    match security.profile()? {
        ("Localhost", _) => None,
        _ => security.capabilities().map(Filter::Default).ok(),
    }
}

/// Holds what a container asks for; where both say something, its own word stands above the pod's.
pub(super) struct Security<'a> {
    pod: Option<&'a PodSecurityContext>,
    own: Option<&'a SecurityContext>,
    pub(super) privileged: bool,
    pub(super) read_only_root: bool,
    pub(super) no_new_privileges: bool,
    pub(super) unmasked: bool,
    run_as_user: Option<i64>,
    run_as_group: Option<i64>,
    run_as_non_root: bool,
}

impl<'a> Security<'a> {
    pub(super) fn of(pod: &'a Pod, container: &'a Container) -> Security<'a> {
        let pod = pod.security_context();
        let own = container.security_context.as_ref();
        let privileged = own.and_then(|s| s.privileged).unwrap_or(false);
        Security {
            pod,
            own,
            privileged,
            read_only_root: own.and_then(|s| s.read_only_root_filesystem).unwrap_or(false),
            no_new_privileges: own.and_then(|s| s.allow_privilege_escalation) == Some(false),
            unmasked: privileged || own.and_then(|s| s.proc_mount.as_deref()) == Some("Unmasked"),
            run_as_user: own.and_then(|s| s.run_as_user).or(pod.and_then(|s| s.run_as_user)),
            run_as_group: own.and_then(|s| s.run_as_group).or(pod.and_then(|s| s.run_as_group)),
            run_as_non_root: own.and_then(|s| s.run_as_non_root).or(pod.and_then(|s| s.run_as_non_root))
                == Some(true),
        }
    }

    /// Names who the process is, with all of its groups.
    /// Where the user's ids are `kept`, an image that names nobody means them.
    pub(super) fn resolve_user(&self, image: &Image, kept: Option<KeptIds>) -> Result<user::User, Error> {
        let named = image.config.user().clone().filter(|named| !named.is_empty());
        let named = named.or(kept.map(|ids| format!("{}:{}", ids.uid, ids.gid))).unwrap_or_default();
        let mut user = user::resolve(&image.layers, &named, self.run_as_user, self.run_as_group)?;
        if self.run_as_non_root && user.uid == 0 {
            let words = match self.run_as_user {
                Some(_) => {
                    "container's runAsUser breaks non-root policy; give runAsUser another number than 0"
                }
                None => {
                    "container has runAsNonRoot and image will run as root; set securityContext.runAsUser, or use an image with a USER"
                }
            };
            return Err(Error::Config(words.into()));
        }
        if self.pod.and_then(|p| p.supplemental_groups_policy.as_deref()) == Some("Strict") {
            user.groups.clear();
        }
        // Else a process could leave it, and be spared what a file refuses to this group alone.
        user.groups.push(user.gid);
        let asked = self.pod.and_then(|p| p.supplemental_groups.clone()).unwrap_or_default();
        for group in asked.into_iter().chain(self.pod.and_then(|p| p.fs_group)) {
            user.groups.push(user::checked_id(group, "group")?);
        }
        user.groups.sort_unstable();
        user.groups.dedup();
        Ok(user)
    }

    /// Does as container runtimes do: all or the default set, cleared by a `drop` of ALL, then what is
    /// added by name, less what is dropped by name.
    fn capabilities(&self) -> Result<HashSet<Capability>, Error> {
        if self.privileged {
            return Ok(every_capability());
        }
        let change = self.own.and_then(|s| s.capabilities.as_ref());
        let (add, drop) = (change.and_then(|c| c.add.as_ref()), change.and_then(|c| c.drop.as_ref()));
        let is_all = |name: &&String| name.eq_ignore_ascii_case("ALL");
        let named = |list: Option<&Vec<String>>| {
            list.into_iter()
                .flatten()
                .filter(|n| !is_all(n))
                .map(|n| parse_capability(n))
                .collect::<Result<HashSet<_>, _>>()
        };
        let all = |list: Option<&Vec<String>>| list.into_iter().flatten().any(|n| is_all(&n));
        let own = every_capability();
        let mut set = match (all(drop), all(add)) {
            (true, _) => HashSet::new(),
            (false, true) => own.clone(),
            (false, false) => defaults::CAPABILITIES.into_iter().filter(|c| own.contains(c)).collect(),
        };
        set.extend(named(add)?);
        let dropped = named(drop)?;
        set.retain(|c| !dropped.contains(c));
        match set.iter().find(|c| !own.contains(c)) {
            Some(missing) => Err(Error::Config(format!(
                "capability {missing} cannot be given to a container: podctl itself runs without it"
            ))),
            None => Ok(set),
        }
    }

    /// Returns the sets of capabilities. A process that is not root would hold its capabilities only if they were
    /// ambient; as with the kubelet's runtimes they are not, and stay in the bounding set. Root's containers make no
    /// device nodes where no cgroup keeps them from opening those.
    pub(super) fn capability_sets(&self, device_cgroup: bool) -> Result<LinuxCapabilities, Error> {
        let mut set = self.capabilities()?;
        if !device_cgroup && !self.privileged && !in_user_namespace() {
            set.remove(&Capability::Mknod);
        }
        check_built(
            LinuxCapabilitiesBuilder::default()
                .bounding(set.clone())
                .effective(set.clone())
                .permitted(set)
                .inheritable(HashSet::new())
                .ambient(HashSet::new())
                .build(),
        )
    }

    /// The profile's type and its `localhostProfile`; none where nothing is filtered.
    fn profile(&self) -> Option<(&str, Option<&str>)> {
        let own = self.own.and_then(|s| s.seccomp_profile.as_ref());
        let asked = own.or(self.pod.and_then(|s| s.seccomp_profile.as_ref()));
        let asked =
            asked.map_or(("RuntimeDefault", None), |p| (p.type_.as_str(), p.localhost_profile.as_deref()));
        Some(asked).filter(|(kind, _)| !self.privileged && *kind != "Unconfined")
    }

    /// Docker's profile, unless the manifest asks for another or none. `profiles` is where Localhost ones lie.
    pub(super) fn seccomp(&self, profiles: &Path) -> Result<Option<Filter>, Error> {
        let Some(asked) = self.profile() else { return Ok(None) };
        let capabilities = self.capabilities()?;
        Ok(Some(match asked {
            ("Localhost", name) => Filter::Profile(Box::new(seccomp_profile::read(
                profiles,
                name.unwrap_or_default(),
                &capabilities,
            )?)),
            _ => Filter::Default(capabilities),
        }))
    }

    /// The machine's devices, for a privileged container of root's; in a user namespace the kernel opens none of them.
    pub(super) fn list_devices(&self) -> Vec<LinuxDevice> {
        if !self.privileged || !nix::unistd::geteuid().is_root() || in_user_namespace() {
            return Vec::new();
        }
        let standard = |name: &str| {
            defaults::DEVICES.iter().any(|(known, ..)| *known == name) || matches!(name, "console" | "ptmx")
        };
        let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
        entries
            .filter(|e| !standard(&e.file_name().to_string_lossy()))
            .filter_map(|e| read_device(&e.path()))
            .collect()
    }

    /// The AppArmor profile to change to: one that the machine's owner has loaded under the name that is asked for, else
    /// podctl's own, where it is loaded.
    pub(super) fn apparmor_profile(&self) -> Result<Option<String>, Error> {
        let asked = self
            .own
            .and_then(|s| s.app_armor_profile.as_ref())
            .or(self.pod.and_then(|s| s.app_armor_profile.as_ref()));
        let enabled = fs::read_to_string(APPARMOR).is_ok_and(|text| text.starts_with('Y'));
        let default = Some(defaults::APPARMOR_PROFILE.to_owned()).filter(|_| enabled);
        match asked.map(|profile| profile.type_.as_str()) {
            _ if self.privileged => Ok(None),
            Some("Localhost") if !enabled => Err(Error::Config(
                "appArmorProfile asks for a profile, and AppArmor is not enabled on this machine; remove the field or boot with apparmor=1".into(),
            )),
            Some("Localhost") => Ok(asked.and_then(|profile| profile.localhost_profile.clone())),
            Some("RuntimeDefault") => Ok(default),
            Some(_) => Ok(None),
            // What asks for mounts of its own in a user namespace would get none under it.
            None => Ok(default.filter(|_| !self.unmasked && !in_user_namespace())),
        }
    }
}

fn read_device(path: &Path) -> Option<LinuxDevice> {
    let found = fs::symlink_metadata(path).ok()?;
    let kind = match found.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return None,
    };
    let device = LinuxDeviceBuilder::default()
        .path(path)
        .typ(kind)
        .major(i64::from(libc::major(found.rdev())))
        .minor(i64::from(libc::minor(found.rdev())))
        .file_mode(found.mode() & 0o7777)
        .uid(found.uid())
        .gid(found.gid());
    device.build().ok()
}

/// Tells whether the kernel has podctl's AppArmor profile. Who may not read the list of all finds out by asking to
/// change to it with the next program, in a thread that starts none.
pub(super) fn has_default_profile() -> bool {
    let ask =
        || fs::write("/proc/thread-self/attr/apparmor/exec", format!("exec {}", defaults::APPARMOR_PROFILE));
    let asked = std::thread::spawn(ask).join();
    !matches!(asked, Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound)
}

/// Tells whether this process is in a user namespace of an ordinary user's.
pub(crate) fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

/// Capabilities of Docker's default set that this process cannot give.
pub(super) fn missing_capabilities() -> Vec<Capability> {
    let own = every_capability();
    defaults::CAPABILITIES.into_iter().filter(|capability| !own.contains(capability)).collect()
}

/// Every capability that this process can give.
fn every_capability() -> HashSet<Capability> {
    static OWN: OnceLock<HashSet<Capability>> = OnceLock::new();
    OWN.get_or_init(read_capabilities).clone()
}

fn read_capabilities() -> HashSet<Capability> {
    const NAMES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE \
        NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE \
        SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL \
        SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let permitted =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapPrm:")?.trim(), 16).ok());
    // The names stand in the kernel's order.
    let held = |number: usize| permitted.is_none_or(|set| set >> number & 1 == 1);
    let names = NAMES.split_whitespace().enumerate().filter(|(number, _)| held(*number));
    names.filter_map(|(_, name)| parse_capability(name).ok()).collect()
}

/// Reads a name with or without `CAP_` before it, in either case.
pub(super) fn parse_capability(name: &str) -> Result<Capability, Error> {
    let upper = name.to_ascii_uppercase();
    let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
    plain.parse().map_err(|_| Error::Config(format!("capability {name:?} is not known")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_sec_1_a_capability_dropped_by_name_is_gone_whoever_adds_it() {
        let set = |change: serde_json::Value| {
            let container: Container = serde_json::from_value(
                serde_json::json!({"name": "a", "securityContext": {"capabilities": change}}),
            )
            .unwrap();
            Security::of(&Pod::default(), &container).capabilities().unwrap()
        };
        let default: HashSet<_> = defaults::CAPABILITIES.into_iter().collect();
        assert_eq!(set(serde_json::json!({})), default);
        assert!(set(serde_json::json!({"drop": ["ALL"]})).is_empty());
        let one = set(serde_json::json!({"drop": ["ALL"], "add": ["net_bind_service"]}));
        assert_eq!(one, [Capability::NetBindService].into());
        let all_but_one = set(serde_json::json!({"drop": ["SYS_ADMIN"], "add": ["ALL"]}));
        assert!(!all_but_one.contains(&Capability::SysAdmin));
        assert!(
            !set(serde_json::json!({"drop": ["CAP_CHOWN"], "add": ["CHOWN"]})).contains(&Capability::Chown)
        );
    }
}
