//! The AppArmor profile of containers: root's podctl loads it into a kernel that does not have it.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use podctl_runtime::defaults::APPARMOR_PROFILE;

/// Profiles that the kernel has, one a line: `NAME (MODE)`.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
const PARSER: &str = "apparmor_parser";
const TEXT: &str = include_str!("podctl-default.apparmor");

/// Loads the profile, where the kernel has AppArmor and this user is root of the machine. Its absence is no error: the
/// container's other walls stand without it.
pub(super) fn load_profile() {
    let Ok(loaded) = fs::read_to_string(LOADED) else { return };
    if !nix::unistd::geteuid().is_root() || has_profile(&loaded, APPARMOR_PROFILE) {
        return;
    }
    let known = ["/sbin", "/usr/sbin"].map(|dir| Path::new(dir).join(PARSER));
    let program = known.into_iter().find(|path| path.exists()).unwrap_or(PARSER.into());
    let mut parser = Command::new(program);
    parser.args(["--replace", "--skip-cache"]).stdin(Stdio::piped());
    let Ok(mut child) = parser.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else { return };
    // One that ends early says so by its status; neither tells of anything that could be done here.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(TEXT.as_bytes()));
    let _ = child.wait();
}

fn has_profile(loaded: &str, name: &str) -> bool {
    loaded.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(" (")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_known_by_its_whole_name() {
        let loaded = "docker-default (enforce)\npodctl-default-old (enforce)\nlsb_release (complain)\n";
        assert!(has_profile(loaded, "docker-default") && has_profile(loaded, "lsb_release"));
        assert!(!has_profile(loaded, APPARMOR_PROFILE));
        assert!(TEXT.contains(&format!("profile {APPARMOR_PROFILE} ")));
    }
}
