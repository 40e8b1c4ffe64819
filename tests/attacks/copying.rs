//! `cp` between a hostile container and the user: nothing lands where the user did not point, and what the user pointed at
//! is written into, never replaced by something else.

use std::{
    fs,
    io::Read,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
};

use nix::sys::stat::Mode;

use crate::common::{Home, pod, shell, stderr, stdout};

/// A pod `p` with a container `a` that has run `script`.
fn started(script: &str) -> Home {
    let home = Home::new();
    let body = format!(
        "  terminationGracePeriodSeconds: 0\n  containers:\n{}",
        shell("a", &format!("{script}; touch /ready; exec sleep 600"))
    );
    home.start(&pod(&body), &["--network", "none"]);
    crate::common::until("the container is ready", || {
        home.podctl(&["exec", "p", "--", "test", "-e", "/ready"]).status.success()
    });
    home
}

fn here(home: &Home, name: &str) -> String {
    home.path(name).display().to_string()
}

#[test]
fn what_the_user_names_is_written_into_and_never_replaced() {
    let home = started("echo content >/f");
    let cp = |to: &str| {
        let output = home.podctl(&["cp", "p:/f", to]);
        assert!(output.status.success(), "{to}: {}", stderr(&output));
        stdout(&output)
    };
    let at = |name: &str| here(&home, name);
    for name in ["target", "private", "linked"] {
        fs::write(home.path(name), "older and longer\n").unwrap();
    }
    symlink("target", home.path("link")).unwrap();
    cp(&at("link"));
    assert!(fs::symlink_metadata(home.path("link")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(home.path("target")).unwrap(), "content\n");

    fs::set_permissions(home.path("private"), fs::Permissions::from_mode(0o600)).unwrap();
    cp(&at("private"));
    assert_eq!(fs::metadata(home.path("private")).unwrap().mode() & 0o777, 0o600);

    fs::hard_link(home.path("linked"), home.path("other name")).unwrap();
    cp(&at("linked"));
    assert_eq!(fs::read_to_string(home.path("other name")).unwrap(), "content\n");

    nix::unistd::mkfifo(&home.path("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    let fifo = home.path("fifo");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        fs::File::open(fifo).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    cp(&at("fifo"));
    assert_eq!(reader.join().unwrap(), "content\n");
    assert!(fs::metadata(home.path("fifo")).unwrap().file_type().is_fifo());

    assert_eq!(cp("/dev/stdout"), "content\n");
    cp("/dev/null");
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
fn a_containers_link_leads_nowhere_on_the_users_side() {
    let home = started("mkdir -p /h/d; cd /h; ln -s d/../../out up; ln -s /etc abs; echo x >d/f; ln -s d in");
    fs::create_dir_all(home.path("to")).unwrap();
    // The user's own link, by the name of a file that the container has.
    fs::create_dir_all(home.path("to/d")).unwrap();
    fs::write(home.path("own"), "").unwrap();
    symlink(home.path("own"), home.path("to/d/f")).unwrap();
    let output = home.podctl(&["cp", "p:/h", &here(&home, "to")]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        fs::symlink_metadata(home.path("to/up")).is_err()
            && fs::symlink_metadata(home.path("to/abs")).is_err()
    );
    assert_eq!(fs::read_link(home.path("to/in")).unwrap().to_str(), Some("d"));
    assert_eq!(fs::read_to_string(home.path("own")).unwrap(), "x\n", "as open(2) follows it");
    assert!(!home.path("out").exists());
}

#[test]
fn the_cause_is_said_and_not_the_pipe() {
    let home = started("dd if=/dev/zero of=/big bs=1024 count=512 2>/dev/null; mkfifo /fifo");
    let said = |from: &str, to: &str| {
        let output = home.podctl(&["cp", from, to]);
        assert!(!output.status.success(), "{from} {to}");
        stderr(&output)
    };
    let in_a_file = said("p:/big", &(home.file("plain", "text") + "/where"));
    assert!(in_a_file.contains("Not a directory") && !in_a_file.contains("pipe"), "{in_a_file}");
    let full = said("p:/big", "/dev/full");
    assert!(full.contains("No space left on device") && !full.contains("pipe"), "{full}");
    let fifo = said("p:/fifo", &here(&home, "f"));
    assert!(fifo.contains("neither file nor directory"), "{fifo}");
    let inside = said(&home.file("file", "text"), "p:/proc/none/file");
    assert!(inside.contains("No such file or directory") && !inside.contains("pipe"), "{inside}");
}

#[test]
fn control_a_plain_tar_brings_links_that_lead_out() {
    let home = started("mkdir /h; ln -s /etc /h/abs");
    let packed = home.podctl(&["exec", "p", "--", "tar", "-C", "/", "-cf", "-", "h"]);
    fs::write(home.path("h.tar"), packed.stdout).unwrap();
    let mut tar = std::process::Command::new("tar");
    assert!(tar.args(["-xf", "h.tar"]).current_dir(home.path("")).status().unwrap().success());
    assert!(home.path("h/abs/hostname").exists() || fs::read_link(home.path("h/abs")).is_ok());
}
