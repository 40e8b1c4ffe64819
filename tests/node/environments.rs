//! podctl in the places that CI's containers are: each is made of bare namespaces around it. It runs there, or says at once what
//! its surroundings lack. The table of docs/environments.md says what is so where.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use crate::{
    common::{Home, stderr, stdout},
    images::{layer, write_archive},
};

/// An id that nobody has: no passwd entry, no subordinate ids.
const NOBODYS: &str = "12345";

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The pod that is run everywhere: an init container hands something to the app through a volume.
fn pod(line: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 1\n  \
         initContainers:\n  - {{name: i, image: \"busybox:1.36\", command: [sh, -c, \"echo prepared >/e/x\"], volumeMounts: [{{name: e, mountPath: /e}}]}}\n  \
         containers:\n  - name: c\n    image: busybox:1.36\n    command: [sh, -c, {line:?}]\n    volumeMounts: [{{name: e, mountPath: /e}}]\n  \
         volumes: [{{name: e, emptyDir: {{}}}}]\n"
    )
}

/// Names what the app of [`pod`] does: writes beside volumes.
const LOOK: &str = "cat /e/x; echo written >/etc/new; cat /etc/new";

/// Runs `podctl run FLAGS FILE` behind `set_up`, a shell script in new namespaces that unshare(1) is told to make; `$D` is the
/// home's directory. The script may put something in front of podctl in `$before`.
fn run_within(home: &Home, namespaces: &[&str], set_up: &str, flags: &[&str]) -> Output {
    let file = home.path("pod.yaml").display().to_string();
    let podctl = home.command(&[&["run"], flags, &[&file]].concat());
    let mut unshare = Command::new("timeout");
    unshare.args(["60", "unshare"]).args(namespaces).args(["--propagation", "private", "sh", "-c"]);
    unshare.arg(format!("set -e; before=; {set_up}\nexec $before \"$@\"")).arg("sh");
    unshare.arg(podctl.get_program()).args(podctl.get_args()).env("D", home.path(""));
    unshare.envs(podctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    unshare.output().unwrap()
}

/// Asserts that the pod has succeeded; returns all that was said.
fn said(output: &Output) -> String {
    let all = stdout(output) + &stderr(output);
    assert!(output.status.success(), "{:?}: {all}", output.status);
    all
}

/// Namespaces in which this caller may mount: as root a mount namespace does.
fn mounting() -> &'static [&'static str] {
    if is_root() { &["-m"] } else { &["-r", "-m"] }
}

/// Lays an overlay on the home's data directory, as a container's root is one.
const OVERLAY: &str = "mkdir -p $D/l $D/u $D/w $D/data
    mount -t overlay overlay -o lowerdir=$D/l,upperdir=$D/u,workdir=$D/w $D/data 2>/dev/null ||
        mount -t overlay overlay -o lowerdir=$D/l,upperdir=$D/u,workdir=$D/w,userxattr $D/data";

#[test]
fn on_overlayfs_containers_write_in_memory_and_deleted_files_stay_deleted() {
    let home = Home::new();
    let low = layer(&[
        (0o644, 0, "srv/removed", "x"),
        (0o644, 0, "srv/replaced/old", "x"),
        (0o644, 0, "srv/opaque/old", "x"),
        (0o644, 0, "srv/kept", "x"),
    ]);
    let high = layer(&[
        (0o644, 0, "srv/.wh.removed", ""),
        (0o644, 0, "srv/.wh.replaced", ""),
        (0o755, 0, "srv/replaced/", ""),
        (0o644, 0, "srv/replaced/new", "x"),
        (0o644, 0, "srv/opaque/.wh..wh..opq", ""),
        (0o644, 0, "srv/opaque/new", "x"),
    ]);
    let archive = write_archive(&home, vec![low, high], "");
    let look = "cat /e/x; touch /new; cd /srv; echo * */*; cat removed 2>&1; echo end";
    home.file("pod.yaml", &pod(look).replace("busybox:1.36", "example.com/app:1"));
    let podctl = home.command(&[]).get_program().to_string_lossy().into_owned();
    // What is saved there is as complete as what was loaded.
    let set_up = format!(
        "{OVERLAY}\n{podctl} load -q -i {archive}; {podctl} save -o $D/saved example.com/app:1
        {podctl} rmi example.com/app:1 >&2; {podctl} load -q -i $D/saved"
    );
    let all = said(&run_within(&home, mounting(), &set_up, &["--network", "none"]));
    assert!(all.contains("c | prepared") && all.contains("c | end"), "{all}");
    assert!(
        all.contains("is on overlayfs, so what containers write beside their volumes lies in memory"),
        "{all}"
    );
    assert!(all.contains("c | kept opaque replaced opaque/new replaced/new"), "{all}");
    assert!(all.contains("'removed': No such file"), "{all}");
}

#[test]
fn where_no_container_can_start_a_run_ends_at_once_and_says_what_to_do() {
    let home = Home::new();
    home.file("pod.yaml", &pod(LOOK));
    // The kernel stacks two overlays, and a container's would be the third.
    let deeper = format!(
        "{OVERLAY}
        mkdir -p $D/data/l2 $D/t; mount -t tmpfs t $D/t; mkdir $D/t/u $D/t/w
        mount -t overlay overlay -o lowerdir=$D/data/l2,upperdir=$D/t/u,workdir=$D/t/w $D/data 2>/dev/null ||
            mount -t overlay overlay -o lowerdir=$D/data/l2,upperdir=$D/t/u,workdir=$D/t/w,userxattr $D/data"
    );
    let output = run_within(&home, mounting(), &deeper, &["--network", "none", "--squash-ids"]);
    let all = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{all}");
    assert!(all.contains("no container can start there") && all.contains("podctl doctor"), "{all}");
}

#[test]
fn without_proc_or_extended_attributes_a_run_ends_at_once_and_says_so() {
    let home = Home::new();
    home.file("pod.yaml", &pod(LOOK));
    let ends = |set_up: &str, words: [&str; 2]| {
        let output = run_within(&home, mounting(), set_up, &["--network", "none", "--squash-ids"]);
        let all = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{all}");
        assert!(words.iter().all(|word| all.contains(word)), "{all}");
    };
    ends(
        "mkdir -p $D/data; mount -t ramfs ramfs $D/data",
        ["without extended attributes", "PODCTL_DATA_DIR"],
    );
    ends("mount -t tmpfs empty /proc", ["nothing starts without /proc", "mount -t proc"]);
}

#[test]
fn without_namespaces_a_run_ends_at_once_and_says_what_to_do() {
    let home = Home::new();
    home.file("pod.yaml", &pod(LOOK));
    let none = "echo 0 >/proc/sys/user/max_mnt_namespaces";
    let output = run_within(&home, &["-r"], none, &["--network", "none"]);
    let all = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{all}");
    assert!(all.contains("the machine allows no more namespaces: `sysctl user`"), "{all}");
}

#[test]
fn with_a_read_only_proc_sys_pods_find_each_other() {
    if !is_root() {
        return eprintln!("not tried: a user may not make a proc of his own behind a masked one");
    }
    let home = Home::new();
    let server = "apiVersion: v1\nkind: Pod\nmetadata: {name: srv}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    image: busybox:1.36\n    command: [sh, -c, \"while :; do echo served | nc -l -p 8080; done\"]\n";
    let server = home.file("server.yaml", server);
    home.file("pod.yaml", &pod("until nc -w 2 srv 8080 </dev/null | grep served; do sleep 0.1; done"));
    let started = home.command(&[]);
    let program = started.get_program().to_string_lossy().into_owned();
    let read_only = format!(
        "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys
        {program} run -d {server} >&2"
    );
    let all = said(&run_within(&home, &["-m"], &read_only, &[]));
    assert!(all.contains("c | served"), "{all}");
    home.podctl(&["delete", "pod", "srv", "--now"]);
}

/// Becomes an id without an entry, with HOME=/ and nothing of the caller's, as OpenShift starts containers.
fn as_nobodys(home: &Home) -> String {
    fs::set_permissions(home.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(home.path("tmp")).unwrap();
    fs::set_permissions(home.path("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    format!(
        "mount -t tmpfs -o mode=1777 tmp /var/tmp
        unset PODCTL_DATA_DIR PODCTL_RUNTIME_DIR XDG_RUNTIME_DIR XDG_DATA_HOME; export HOME=/ TMPDIR=$D/tmp
        before='setpriv --reuid {NOBODYS} --regid 0 --clear-groups --inh-caps=-all'"
    )
}

#[test]
fn a_user_without_entry_home_or_subordinate_ids_gets_a_place_and_one_id() {
    if !is_root() {
        return eprintln!("not tried: only root becomes somebody else");
    }
    let home = Home::new();
    home.file("pod.yaml", &pod(LOOK));
    let all = said(&run_within(&home, &["-m"], &as_nobodys(&home), &["--squash-ids"]));
    assert!(all.contains("images and pods are kept in /var/tmp/podctl-12345-data"), "{all}");
    assert!(all.contains("only one user id is available") && all.contains("c | written"), "{all}");
}

#[test]
fn mappers_that_refuse_leave_one_id() {
    if !is_root() {
        return eprintln!("not tried: only root makes programs that look as if they could map");
    }
    let home = Home::new();
    home.file("pod.yaml", &pod(LOOK));
    let refusing = "mkdir $D/bin; for n in newuidmap newgidmap; do printf '#!/bin/sh\\necho no >&2; exit 1\\n' >$D/bin/$n; chmod 4755 $D/bin/$n; done
        export PATH=$D/bin:$PATH; echo 12345:200000:65536 >$D/sub; mount --bind $D/sub /etc/subuid; mount --bind $D/sub /etc/subgid";
    let set_up = format!("{}; {refusing}", as_nobodys(&home));
    let all = said(&run_within(&home, &["-m"], &set_up, &["--squash-ids"]));
    assert!(all.contains("only one user id is available: newuidmap could not map ids: no"), "{all}");
    assert!(all.contains("c | written"), "{all}");
}

#[test]
fn a_masked_proc_is_named_to_a_user() {
    if !is_root() {
        return eprintln!("not tried: only root masks a proc");
    }
    let home = Home::new();
    home.file("pod.yaml", &pod(LOOK));
    let set_up = format!("{}; mount -t tmpfs mask /proc/fs", as_nobodys(&home));
    let output = run_within(&home, &["-m"], &set_up, &["--squash-ids", "--network", "none"]);
    let all = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{all}");
    assert!(all.contains("the container around podctl is masked") || all.contains("mount proc"), "{all}");
}

#[test]
fn podctl_runs_in_a_privileged_pod_of_its_own() {
    let home = Home::new();
    let podctl = home.command(&[]).get_program().to_string_lossy().into_owned();
    let copy = format!(
        "cp {podctl} bin/podctl; ln -s busybox bin/sleep; mkdir -p tmp var/tmp root
        for l in $(ldd {podctl} | grep -o '/[^ ]*'); do mkdir -p .$(dirname $l); cp -L $l .$l; done"
    );
    home.load_image("nested:1", "", &copy);
    let inner = "apiVersion: v1\nkind: Pod\nmetadata: {name: inner}\nspec:\n  restartPolicy: Never\n  containers:\n  - {name: c, image: \"nested:1\", imagePullPolicy: Never, command: [sh, -c, \"echo from within\"], resources: {limits: {memory: 64Mi}}}\n";
    home.file("inner.yaml", inner);
    // A privileged container may divide its own cgroup; where there is none, as in many users' sessions, limits are not kept.
    let strict = if is_root() { "--strict-limits" } else { "" };
    let line = format!("podctl load -i /h/layout && podctl run --network none {strict} /h/inner.yaml");
    let outer = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: outer}}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: c\n    image: nested:1\n    imagePullPolicy: Never\n    command: [sh, -c, {line:?}]\n    securityContext: {{privileged: true}}\n    volumeMounts: [{{name: h, mountPath: /h, readOnly: true}}]\n  volumes: [{{name: h, hostPath: {{path: {}}}}}]\n",
        home.path("").display()
    );
    let all = said(&home.run(&outer, &["--network", "none"]));
    assert!(all.contains("c | from within"), "{all}");
    assert!(all.contains("lies in memory"), "its root is an overlay: {all}");
}
