//! Who a container runs as, and what it has of whoever started it: ids that turn into root (CVE-2024-40635), keys of the
//! caller's session, sysctls of the machine.

use std::{fs, os::unix::process::CommandExt, process::Command};

use crate::{
    common::{Home, stderr, stdout},
    kit::{Attack, is_root, probe_in_a_container, probe_on_the_host},
};

/// Rows of an image's /etc/passwd and /etc/group that a program takes for root.
const PASSWD: &str = "root:x:0:0::/:/bin/sh\\nevil:x:4294967295:0::/:/bin/sh\\nminus:x:-1:0::/:/bin/sh\\nhigh:x:5000:4294967295::/:/bin/sh\\nmember:x:5001:5001::/:/bin/sh\\ntoor:x:0:5::/:/bin/sh\\n";
const GROUP: &str = "root:x:0:\\nbig:x:4294967295:member\\n";

#[test]
fn no_user_of_an_image_becomes_root_under_run_as_non_root() {
    let home = Home::new();
    let users = [
        "4294967295",
        "4294967295:4294967295",
        "4294967296",
        "2147483648",
        "-1",
        "0x0",
        "00",
        "+0",
        "0:5",
        "root",
        "toor",
        "evil",
        "minus",
        "high",
        "member",
        "1000:4294967295",
        "1000:-1",
        "1000:big",
    ];
    for (at, user) in users.into_iter().enumerate() {
        let image = format!("example.com/user{at}:1");
        home.load(&image, user, PASSWD, GROUP);
        let pod = "  securityContext: {runAsNonRoot: true}\n";
        let said = Attack { image: &image, pod, script: "id", ..Attack::default() }.outcome(&home);
        assert!(!said.contains("uid="), "{user}: {said}");
        assert!(said.contains("CreateContainerConfigError"), "{user}: {said}");
    }
    // The control: a user like others runs.
    home.load("example.com/user:1", "1000:5", PASSWD, GROUP);
    let pod = "  securityContext: {runAsNonRoot: true}\n";
    let said = Attack { image: "example.com/user:1", pod, script: "id", ..Attack::default() }.outcome(&home);
    assert!(said.contains("uid=1000 gid=5"), "{said}");
}

#[test]
fn the_kernel_would_take_the_largest_number_for_root() {
    // The control of all that is said of ids here: it is what an unchecked number would come to.
    let said = probe_on_the_host("identity::ask_for_the_largest_user");
    let own = nix::unistd::geteuid();
    assert!(said.contains(&format!("uid is {own}")), "{said}");
}

#[test]
#[ignore = "a probe, run by the test above"]
fn ask_for_the_largest_user() {
    // SAFETY: changes nothing: -1 stands for the ids there are.
    let done = unsafe { libc::syscall(libc::SYS_setresuid, u32::MAX, u32::MAX, u32::MAX) };
    println!("setresuid says {done}, uid is {}", nix::unistd::getuid());
}

#[test]
fn no_number_of_a_manifest_is_cut_down_to_another() {
    let home = Home::new();
    for id in ["4294967295", "4294967296", "2147483648", "-1", "18446744073709551616"] {
        for context in [
            format!("{{runAsUser: {id}}}"),
            format!("{{runAsGroup: {id}}}"),
            format!("{{fsGroup: {id}}}"),
            format!("{{supplementalGroups: [5, {id}]}}"),
        ] {
            let pod = format!("  securityContext: {context}\n");
            let said = Attack { pod: &pod, script: "id", ..Attack::default() }.outcome(&home);
            assert!(!said.contains("uid=") && said.contains("nothing was started"), "{context}: {said}");
        }
    }
}

#[test]
fn the_keys_of_the_callers_session_stay_outside() {
    let home = Home::new();
    let context = "{seccompProfile: {type: Unconfined}}";
    let add_key = || {
        let said =
            |done: libc::c_long| if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(done) };
        // SAFETY: system calls alone, with strings that live through them.
        unsafe {
            said(libc::syscall(libc::SYS_keyctl, 1, std::ptr::null::<u8>()))?;
            let value = b"KEY-OF-THE-CALLER";
            let (kind, name) = (c"user".as_ptr(), c"podctl-test".as_ptr());
            let key = said(libc::syscall(libc::SYS_add_key, kind, name, value.as_ptr(), value.len(), -3))?;
            // Whoever has it in a keyring may read it.
            said(libc::syscall(libc::SYS_keyctl, 5, key, 0x3f3f_0000_u32))?;
        }
        Ok(())
    };
    // The control: a process that is started as any other sees the key.
    let program = std::env::current_exe().unwrap();
    let mut control = Command::new(program);
    control.args(["--ignored", "--exact", "identity::read_the_session_keyring", "--nocapture"]);
    // SAFETY: the closure makes system calls only.
    let output = unsafe { control.pre_exec(add_key) }.output().unwrap();
    let said = stdout(&output) + &stderr(&output);
    assert!(said.contains("KEY-OF-THE-CALLER"), "{said}");
    // The same for podctl's own process: what its containers see is not that.
    let said = with_key(&home, context, add_key);
    assert!(said.contains("keyring read") && !said.contains("KEY-OF-THE-CALLER"), "{said}");
}

/// Runs the probe in a container of a podctl whose session has a key.
fn with_key(
    home: &Home,
    context: &str,
    add_key: impl Fn() -> std::io::Result<()> + Send + Sync + 'static,
) -> String {
    // Writes the manifest; its own run has no key.
    probe_in_a_container(home, "identity::read_the_session_keyring", context);
    let file = home.path("pod.yaml").display().to_string();
    let mut run = home.command(&["run", "--network", "none", "--replace", &file]);
    // SAFETY: as above.
    let output = unsafe { run.pre_exec(add_key) }.output().unwrap();
    stdout(&output) + &stderr(&output)
}

#[test]
#[ignore = "a probe, run by the test above"]
fn read_the_session_keyring() {
    let mut keys = [0_i32; 64];
    // SAFETY: the kernel writes at most as much as it is told there is room for.
    let length = unsafe { libc::syscall(libc::SYS_keyctl, 11, -3, keys.as_mut_ptr(), size_of_val(&keys)) };
    println!("keyring read: {length}");
    for key in keys.iter().take(usize::try_from(length).unwrap_or(0) / 4) {
        let mut value = [0_u8; 256];
        // SAFETY: as above.
        let length = unsafe { libc::syscall(libc::SYS_keyctl, 11, *key, value.as_mut_ptr(), value.len()) };
        println!("key: {}", String::from_utf8_lossy(&value[..usize::try_from(length).unwrap_or(0)]));
    }
}

#[test]
fn no_sysctl_of_the_machine_is_set_whichever_way_its_network_is_had() {
    let home = Home::new();
    let path = "/proc/sys/net/ipv4/tcp_fin_timeout";
    let before = fs::read_to_string(path).unwrap();
    let other = before.trim().parse::<u32>().unwrap() + 1;
    for name in ["net.ipv4.tcp_fin_timeout", "net/ipv4/tcp_fin_timeout"] {
        let pod = format!("  securityContext: {{sysctls: [{{name: {name}, value: \"{other}\"}}]}}\n");
        let script = format!("cat {path}");
        let attack = Attack { pod: &pod, script: &script, ..Attack::default() };
        let said = attack.outcome_with(&home, &["--network", "host"]);
        assert_eq!(fs::read_to_string(path).unwrap(), before, "{said}");
        assert!(said.contains("may not be used with the host's namespace"), "{said}");
        let listed = format!("  hostNetwork: true\n{pod}");
        let said = Attack { pod: &listed, script: &script, ..Attack::default() }.outcome_with(&home, &[]);
        assert_eq!(fs::read_to_string(path).unwrap(), before, "{said}");
        // The control: a network of the pod's own takes it.
        let said = attack.outcome(&home);
        assert!(said.contains(&format!("| {other}")), "{said}");
    }
    assert!(is_root() || fs::write(path, &before).is_err());
}
