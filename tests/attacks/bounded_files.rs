//! Files that podctl makes for a container, filled without end (CVE-2020-8557): they are bounded, whether or not a cgroup
//! counts memory.

use crate::{common::Home, kit::Attack};

/// Most bytes that such a file may take: the size of `/dev` and `/dev/shm`.
const MOST: u64 = 64 << 20;

#[test]
fn no_file_that_podctl_makes_takes_more_than_its_share() {
    let home = Home::new();
    let fill = |files: &[&str]| -> String {
        let one = |file: &&str| {
            format!(
                "dd if=/dev/zero of={file} bs=1M count=100 2>/dev/null; echo {file} $(stat -c %s {file}); : 2>/dev/null >{file}; "
            )
        };
        files.iter().map(one).collect()
    };
    let files = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/x", "/dev/shm/x", "/dev/mqueue/x"];
    for (path, last_words) in [("/dev/termination-log", ""), ("/log", "    terminationMessagePath: /log\n")] {
        let files = [&files[..], &[path]].concat();
        let said =
            Attack { container: last_words, script: &fill(&files), ..Attack::default() }.outcome(&home);
        for file in files.iter().filter(|file| **file != "/dev/mqueue/x") {
            let size =
                said.lines().find_map(|l| l.split_once(&format!("{file} "))?.1.trim().parse::<u64>().ok());
            assert!(size.is_some_and(|size| (1 << 20..=MOST).contains(&size)), "{file}: {said}");
        }
    }
    // The control: what the container has for its files takes all of it.
    let said = Attack { script: &fill(&["/tmp/x"]), ..Attack::default() }.outcome(&home);
    assert!(said.contains(&format!("/tmp/x {}", 100 << 20)), "{said}");
}

#[test]
fn last_words_are_kept_though_another_file_is_full() {
    let home = Home::new();
    let script = "cat /dev/zero >/etc/hosts; printf bye >/dev/termination-log; : >/etc/hosts; printf bye >/dev/termination-log; exit 3";
    Attack { script, ..Attack::default() }.outcome(&home);
    let state = &home.pod("p")["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(state["message"], "bye", "{state}");
}

#[test]
fn directories_that_podctl_makes_hold_a_bounded_number_of_files() {
    let home = Home::new();
    let script = "for dir in /dev /dev/shm; do i=0; while [ $i -lt 17000 ] && true 2>/dev/null >$dir/f$i; do i=$((i+1)); done; echo $dir $i; done";
    let said = Attack { script, ..Attack::default() }.outcome(&home);
    for dir in ["/dev", "/dev/shm"] {
        let made =
            said.lines().find_map(|l| l.split_once(&format!("| {dir} "))?.1.trim().parse::<u32>().ok());
        assert!(made.is_some_and(|made| (1000..16_385).contains(&made)), "{dir}: {said}");
    }
}
