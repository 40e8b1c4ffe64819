//! What containers see of images that are not as most are, and what pulls leave when their pod or their process goes.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::common::{Home, lines, stderr, until};

/// An entry of a layer: mode, owner, name (a directory's ends with a slash), content or a link's target.
pub type Entry<'a> = (u32, u64, &'a str, &'a str);

pub fn layer(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (mode, owner, name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_uid(*owner);
        header.set_gid(*owner);
        header.set_size(0);
        if *mode == 0o777 {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, name, content).unwrap();
        } else if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, name, std::io::empty()).unwrap();
        } else {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout[..64]).into_owned()
}

/// Loads an image named `example.com/app:1` of a busybox and these layers above it.
fn load(home: &Home, layers: Vec<Vec<u8>>, config: &str) {
    let loaded = home.podctl(&["load", "-q", "-i", &write_archive(home, layers, config)]);
    assert!(loaded.status.success(), "{}", stderr(&loaded));
}

/// Writes the archive of such an image; returns its path.
pub fn write_archive(home: &Home, layers: Vec<Vec<u8>>, config: &str) -> String {
    let mut base = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let busybox = fs::read("/bin/busybox").unwrap();
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    header.set_uid(0);
    header.set_gid(0);
    base.append_data(&mut header, "bin/busybox", &*busybox).unwrap();
    for applet in ["sh", "stat", "cat", "ls", "id", "wc", "touch", "echo", "mount", "grep"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o777);
        base.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    let layers: Vec<_> = [base.into_inner().unwrap()].into_iter().chain(layers).collect();
    let ids: Vec<_> = layers.iter().map(|layer| format!("\"sha256:{}\"", sha256(layer))).collect();
    let config = format!(
        r#"{{"os":"linux","config":{{"Env":["PATH=/bin"]{config}}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    let names: Vec<_> = (0..layers.len()).map(|n| format!("\"{n}.tar\"")).collect();
    let manifest =
        format!(r#"[{{"Config":"c.json","RepoTags":["example.com/app:1"],"Layers":[{}]}}]"#, names.join(","));
    let mut archive = tar::Builder::new(fs::File::create(home.path("app.tar")).unwrap());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).unwrap();
    };
    layers.iter().enumerate().for_each(|(n, layer)| add(&format!("{n}.tar"), layer));
    add("c.json", config.as_bytes());
    add("manifest.json", manifest.as_bytes());
    archive.finish().unwrap();
    home.path("app.tar").display().to_string()
}

/// Returns what a container of that image says to a line of shell.
fn said(home: &Home, line: &str, container: &str) -> Vec<String> {
    let pod = super::script(line, "", container).replace("busybox:1.36", "example.com/app:1");
    let said = lines(&home.run(&pod, &["--network", "none"]));
    home.podctl(&["delete", "--all", "--now"]);
    said
}

#[test]
fn directories_are_as_the_image_shows_them_and_so_is_the_root() {
    let home = Home::new();
    let low = layer(&[
        (0o750, 0, "./", ""),
        (0o1777, 0, "tmp/", ""),
        (0o700, 1000, "srv/private/", ""),
        (0o644, 0, "srv/old", "x"),
    ]);
    let new = layer(&[
        (0o644, 0, "tmp/seed", "x"),
        (0o644, 1000, "srv/private/new", "x"),
        (0o644, 0, "srv/.wh.old", ""),
    ]);
    load(&home, vec![low, new], "");
    let said = said(&home, "stat -c '%a %u' / /tmp /srv/private; ls /srv /tmp /srv/private", "");
    assert_eq!(said[..3], ["750 0", "1777 0", "700 1000"]);
    assert!(
        said.contains(&"seed".to_owned())
            && said.contains(&"new".to_owned())
            && !said.contains(&"old".to_owned())
    );
}

#[test]
fn an_image_may_have_more_layers_than_a_page_has_room_for() {
    let home = Home::new();
    let many = (0..140).map(|n| layer(&[(0o644, 0, &format!("many/{n}"), "x")])).collect();
    load(&home, many, "");
    assert_eq!(said(&home, "ls /many | wc -l", ""), ["140"]);
    let pod = super::script(
        "ls /i/many | wc -l",
        "  volumes: [{name: i, image: {reference: 'example.com/app:1'}}]\n",
        "    volumeMounts: [{name: i, mountPath: /i}]\n",
    );
    assert_eq!(
        lines(&home.run(&pod.replace("busybox:1.36", "example.com/app:1"), &["--network", "none"])),
        ["140"]
    );
    home.podctl(&["delete", "--all", "--now"]);
}

#[test]
fn a_volume_of_the_image_is_writable_and_the_pods_own_counts() {
    let home = Home::new();
    let data = layer(&[(0o750, 999, "data/", ""), (0o644, 999, "data/seed", "seed\n")]);
    load(&home, vec![data], r#","Volumes":{"/data":{},"/fresh/dir":{},"/proc/x":{}}"#);
    let line = "cat /data/seed; stat -c '%a %u' /data; touch /data/x /fresh/dir/x && echo written; touch /y || echo read-only";
    let read_only = "    securityContext: {readOnlyRootFilesystem: true}\n";
    let answer = said(&home, line, read_only);
    assert_eq!(
        answer.iter().filter(|l| !l.contains("touch:")).collect::<Vec<_>>(),
        ["seed", "750 999", "written", "read-only"]
    );
    let pod = super::script(
        "ls /data; touch /data/x && echo mine",
        "  volumes: [{name: e, emptyDir: {}}]\n",
        &format!("{read_only}    volumeMounts: [{{name: e, mountPath: /data}}]\n"),
    );
    assert_eq!(
        lines(&home.run(&pod.replace("busybox:1.36", "example.com/app:1"), &["--network", "none"])),
        ["mine"]
    );
    home.podctl(&["delete", "--all", "--now"]);
}

#[test]
fn a_user_is_looked_up_where_the_links_of_the_image_lead() {
    let home = Home::new();
    let under = layer(&[
        (0o644, 0, "etc/passwd", "web:x:1111:1111::/old:/bin/sh\n"),
        (0o644, 0, "etc/group", "old:x:777:web\n"),
    ]);
    let store = layer(&[
        (0o644, 0, "store/passwd", "web:x:2222:3333::/srv:/bin/sh\n"),
        (0o644, 0, "store/group", "new:x:888:web\n"),
    ]);
    let links =
        layer(&[(0o777, 0, "etc/passwd", "/store/passwd"), (0o777, 0, "etc/group", "../store/group")]);
    load(&home, vec![under, store, links], r#","User":"web""#);
    assert_eq!(said(&home, "id -u; id -g; id -G; echo $HOME", ""), ["2222", "3333", "3333 888", "/srv"]);
}

/// A registry that takes connections and says nothing; how many there were.
fn silent_registry() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let seen = count.clone();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for connection in listener.incoming() {
            held.push(connection);
            seen.fetch_add(1, SeqCst);
        }
    });
    (port, count)
}

/// Processes of this home that pull, or watch over one that does.
fn pullers(home: &Home) -> Vec<i32> {
    let own = home.path("").display().to_string();
    let of_home = |pid: &i32| {
        let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let has = |bytes: Vec<u8>, word: &str| String::from_utf8_lossy(&bytes).contains(word);
        has(file("cmdline"), "internal\0pull") && has(file("environ"), &own)
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(of_home).collect()
}

#[test]
fn a_puller_ends_with_its_pod_and_one_that_is_killed_is_followed_by_another() {
    let home = Home::new();
    let (port, connections) = silent_registry();
    let pod = super::script("true", "", "").replace("busybox:1.36", &format!("127.0.0.1:{port}/app:1"));
    home.start(&pod, &["--wait", "none", "--network", "none"]);
    until("the registry is asked", || connections.load(SeqCst) > 0);
    let first = pullers(&home);
    assert_eq!(first.len(), 1, "{first:?}");
    let before = connections.load(SeqCst);
    kill(Pid::from_raw(first[0]), Signal::SIGKILL).unwrap();
    until("the registry is asked again", || connections.load(SeqCst) > before);
    until("another puller is there", || pullers(&home).iter().any(|pid| *pid != first[0]));
    assert!(home.podctl(&["delete", "pod", "p", "--now"]).status.success());
    let began = Instant::now();
    until("no puller is left", || pullers(&home).is_empty());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_damaged_image_is_told_hides_no_other_and_is_pulled_again() {
    let home = Home::new();
    assert!(home.podctl(&["pull", "-q", "busybox:1.36", "nginx:1.21"]).status.success());
    let references = || fs::read_dir(home.path("data/images/refs")).unwrap().flatten().map(|e| e.path());
    let busybox = references().find(|path| path.display().to_string().contains("busybox")).unwrap();
    fs::write(&busybox, "{\"refer").unwrap();
    let listed = home.podctl(&["images"]);
    assert!(listed.status.success() && lines(&listed).len() == 2, "{}", stderr(&listed));
    assert!(stderr(&listed).contains("podctl pull docker.io/library/busybox:1.36"), "{}", stderr(&listed));
    assert_eq!(lines(&home.run(&super::script("echo here", "", ""), &["--network", "none"])), ["here"]);
    home.podctl(&["delete", "--all", "--now"]);
    // All layers are gone: the image is not there, and a run fetches it.
    for layer in fs::read_dir(home.path("data/images/layers")).unwrap().flatten() {
        fs::rename(layer.path(), home.path("aside").join(layer.file_name()))
            .or_else(|_| {
                fs::create_dir(home.path("aside"))?;
                fs::rename(layer.path(), home.path("aside").join(layer.file_name()))
            })
            .unwrap();
    }
    assert_eq!(lines(&home.run(&super::script("echo again", "", ""), &["--network", "none"])), ["again"]);
    home.podctl(&["delete", "--all", "--now"]);
    let nginx = references().find(|path| path.display().to_string().contains("nginx")).unwrap();
    fs::write(nginx, "{}").unwrap();
    let repaired = home.podctl(&["doctor", "--repair"]);
    assert!(stderr(&repaired).contains("docker.io/library/nginx:1.21"), "{}", stderr(&repaired));
    assert_eq!(lines(&home.podctl(&["images"])).len(), 2);
}

#[test]
fn the_status_names_the_image_that_runs_by_its_digest() {
    let home = Home::new();
    home.start(&super::script("sleep 300", "", ""), &["--network=none"]);
    let status = home.pod("p")["status"]["containerStatuses"][0].clone();
    let id = status["imageID"].as_str().unwrap().to_owned();
    let (name, digest) = id.split_once("@sha256:").unwrap_or_else(|| panic!("{id}"));
    assert!(name.ends_with("library/busybox") && digest.len() == 64, "{id}");
    // What it is called by is what was asked for, and the id is one that can be asked for.
    assert!(status["image"].as_str().unwrap().ends_with("busybox:1.36"), "{status:#}");
    let again = super::script("true", "", "").replace("busybox:1.36", &id).replace("name: p", "name: q");
    let output = home.run(&again, &["--network=none"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_registry_of_plain_http_needs_no_certificates_and_another_says_that_there_are_none() {
    let home = Home::new();
    let pull = |image: &str| {
        let mut command = home.command(&["pull", "-q", image]);
        command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/nonexistent").output().unwrap()
    };
    let pulled = pull("busybox:1.36");
    assert!(pulled.status.success(), "{}", stderr(&pulled));
    let refused = stderr(&pull("localhost.invalid/app:1"));
    assert!(
        refused.contains("this machine has no CA certificates to know localhost.invalid by"),
        "{refused}"
    );
}
