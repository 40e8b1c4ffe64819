//! What the image commands promise, and R-IMG-1 on a registry with TLS and passwords.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::common::{Home, stderr, stdout, until};

/// Debian's registry with TLS and one user, who is `user` with `password`; it has what the test registry has.
struct Guarded {
    server: Child,
    port: u16,
}

impl Guarded {
    fn start(home: &Home) -> Guarded {
        Guarded::start_with(home, "")
    }

    /// With more of its configuration of TLS.
    fn start_with(home: &Home, tls: &str) -> Guarded {
        let dir = home.path("registry");
        let certs = home.path("home/.config/containers/certs.d");
        fs::create_dir_all(&dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let own = certs.join(format!("127.0.0.1:{port}"));
        fs::create_dir_all(&own).unwrap();
        fs::write(dir.join("san"), "basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1\n").unwrap();
        let script = "
            openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=test-ca -days 2
            openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=registry
            openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile san";
        let made = Command::new("sh").args(["-ec", script]).current_dir(&dir).output().unwrap();
        assert!(made.status.success(), "{}", stderr(&made));
        fs::copy(dir.join("ca.crt"), own.join("ca.crt")).unwrap();
        // bcrypt of `password`
        fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
        let (path, upstream) = (dir.display(), std::env::var("PODCTL_TEST_REGISTRY").unwrap());
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {path}/storage}}}}\n\
             proxy: {{remoteurl: 'http://{upstream}'}}\n\
             auth: {{htpasswd: {{realm: test, path: {path}/htpasswd}}}}\n\
             http: {{addr: '127.0.0.1:{port}', tls: {{certificate: {path}/server.crt, key: {path}/server.key{tls}}}}}\n"
        );
        fs::write(dir.join("config.yml"), config).unwrap();
        let server = Command::new("docker-registry")
            .args(["serve", "config.yml"])
            .current_dir(&dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the guarded registry listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        // A mirror is trusted only as far as it is said; a registry on loopback would be unasked.
        let conf = format!(
            "[[registry]]\nprefix = 'guarded.example'\nblocked = false\nlocation = '127.0.0.1:1'\n\
             [[registry.mirror]]\nlocation = '127.0.0.1:{port}'\n"
        );
        fs::write(home.path("registries.conf"), conf).unwrap();
        Guarded { server, port }
    }

    fn podctl(&self, home: &Home, args: &[&str]) -> Command {
        let mut command = home.command(args);
        command.env("HOME", home.path("home"));
        command.env("CONTAINERS_REGISTRIES_CONF", home.path("registries.conf"));
        command
    }

    /// Returns what `docker login` would write.
    fn auths(&self) -> String {
        format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"dXNlcjpwYXNzd29yZA=="}}}}}}"#, self.port)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn r_img_1_certificates_and_auth_files_of_containers_tools_are_used() {
    let home = Home::new();
    let registry = Guarded::start(&home);
    let image = "guarded.example/library/busybox:1.36";
    let refused = registry.podctl(&home, &["pull", image]).output().unwrap();
    assert!(stderr(&refused).contains("unauthorized"), "{}", stderr(&refused));

    fs::write(home.path("auth.json"), registry.auths()).unwrap();
    let pull = || {
        let mut command = registry.podctl(&home, &["pull", "-q", image]);
        command.env("REGISTRY_AUTH_FILE", home.path("auth.json")).output().unwrap()
    };
    let pulled = pull();
    assert!(pulled.status.success(), "{}", stderr(&pulled));
    assert!(stdout(&pulled).starts_with("guarded.example/library/busybox@sha256:"), "{}", stdout(&pulled));

    // Nobody vouches for it any more.
    fs::remove_dir_all(home.path("home/.config")).unwrap();
    let distrusted = pull();
    assert!(stderr(&distrusted).to_lowercase().contains("certificate"), "{}", stderr(&distrusted));
    home.podctl(&["rmi", "--all"]);
}

#[test]
fn r_img_1_a_registry_that_asks_for_a_clients_certificate_is_shown_the_one_of_certs_d() {
    let home = Home::new();
    let registry = Guarded::start_with(&home, ", clientcas: [ca.crt]");
    fs::write(home.path("auth.json"), registry.auths()).unwrap();
    let pull = || {
        let mut command = registry.podctl(&home, &["pull", "-q", "guarded.example/library/busybox:1.36"]);
        command.env("REGISTRY_AUTH_FILE", home.path("auth.json")).output().unwrap()
    };
    let refused = pull();
    assert!(
        !refused.status.success() && stderr(&refused).to_lowercase().contains("certificate"),
        "{}",
        stderr(&refused)
    );

    let own = home.path(&format!("home/.config/containers/certs.d/127.0.0.1:{}", registry.port));
    let script = "
        openssl req -newkey rsa:2048 -nodes -keyout client.key -out client.csr -subj /CN=me
        openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out client.cert -days 2 -extfile san";
    let made = Command::new("sh").args(["-ec", script]).current_dir(home.path("registry")).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    fs::copy(home.path("registry/client.cert"), own.join("client.cert")).unwrap();
    let keyless = pull();
    assert!(stderr(&keyless).contains("client.cert: its key"), "{}", stderr(&keyless));
    fs::copy(home.path("registry/client.key"), own.join("client.key")).unwrap();
    let pulled = pull();
    assert!(pulled.status.success(), "{}", stderr(&pulled));
    home.podctl(&["rmi", "--all"]);
}

#[test]
fn r_img_1_the_pods_pull_secret_opens_the_registry() {
    let home = Home::new();
    let registry = Guarded::start(&home);
    let auths = registry.auths();
    let pod = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\ntype: kubernetes.io/dockerconfigjson\n\
         stringData:\n  .dockerconfigjson: '{auths}'\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n\
         \x20 imagePullSecrets: [{{name: login}}]\n  containers:\n\
         \x20 - {{name: c, image: 'guarded.example/library/busybox:1.36', command: [echo, came in]}}\n"
    );
    let file = home.file("pod.yaml", &pod);
    let output = registry.podctl(&home, &["run", &file]).output().unwrap();
    assert!(stdout(&output).contains("came in"), "{}{}", stdout(&output), stderr(&output));
    assert!(!stderr(&output).contains("dXNlcjpwYXNzd29yZA"));
    home.podctl(&["delete", "--all"]);
    home.podctl(&["rmi", "--all"]);
}

#[test]
fn images_are_listed_used_and_removed_by_name_and_id() {
    let home = Home::new();
    assert!(home.podctl(&["pull", "-q", "busybox:1.36", "busybox"]).status.success());
    let table = stdout(&home.podctl(&["images"]));
    assert!(table.starts_with("REPOSITORY "), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");
    let json = home.podctl(&["images", "-o", "json", "busybox:1.36"]);
    let listed: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(listed[0]["repository"], "docker.io/library/busybox");
    let id = stdout(&home.podctl(&["images", "-q", "busybox:1.36"])).trim().to_owned();
    let history = home.said(&["history", "busybox:1.36"]);
    assert!(history.starts_with("LAYER          CREATED"), "{history}");
    let layers = fs::read_dir(home.path("data/images/layers")).unwrap().count();
    let told = home.said(&["history", "-q", "busybox:1.36"]);
    assert_eq!(told.lines().filter(|line| line.starts_with("sha256:")).count(), layers, "{told}");

    let several = home.podctl(&["rmi", &id]);
    assert!(stderr(&several).contains("--force"), "{}", stderr(&several));

    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - {name: c, image: 'busybox:1.36', command: [sleep, '1000']}\n";
    assert!(home.run(pod, &["-d"]).status.success());
    let used = home.podctl(&["rmi", "busybox:1.36"]);
    assert!(!used.status.success() && stderr(&used).contains("in use"), "{}", stderr(&used));
    assert!(home.podctl(&["delete", "p"]).status.success());

    let removed = home.podctl(&["rmi", "-f", &id]);
    assert_eq!(stdout(&removed).lines().count(), 2, "{}{}", stdout(&removed), stderr(&removed));
    assert_eq!(fs::read_dir(home.path("data/images/layers")).unwrap().count(), 0);
}

#[test]
fn a_pull_killed_midway_leaves_nothing_half_made() {
    let home = Home::new();
    let upstream = std::env::var("PODCTL_TEST_REGISTRY").unwrap();
    let port = stalling_proxy(upstream, 400 << 10);
    let mut pulling = home
        .command(&["pull", &format!("127.0.0.1:{port}/library/busybox:1.36")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let tmp = home.path("data/images/tmp");
    let begun = |dir: &Path| {
        fs::read_dir(dir).is_ok_and(|mut all| all.any(|e| e.is_ok_and(|e| e.path().join("layer").is_dir())))
    };
    until("a layer is being unpacked", || begun(&tmp));
    pulling.kill().unwrap();
    pulling.wait().unwrap();
    assert!(stdout(&home.podctl(&["images", "-q"])).is_empty());

    until("a pull sweeps what the dead one left", || {
        assert!(home.podctl(&["pull", "-q", "busybox:1.36"]).status.success());
        fs::read_dir(&tmp).unwrap().count() == 0
    });
}

#[test]
fn r_img_1_the_pull_policy_says_whether_the_registry_is_asked() {
    let home = Home::new();
    // No registry has it.
    let registry = std::env::var("PODCTL_TEST_REGISTRY").unwrap();
    let image = format!("{registry}/here/alone:1");
    home.load(&image, "", "", "");
    let run = |policy: &str, image: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  containers: [{{name: a, image: '{image}', imagePullPolicy: {policy}, command: [sh, -c, echo runs]}}]\n"
        );
        let output = home.run(&text, &["--replace", "--network", "none"]);
        stdout(&output) + &stderr(&output)
    };
    assert!(run("Never", &image).contains("a | runs"));
    assert!(run("IfNotPresent", &image).contains("a | runs"));
    let asked = run("Always", &image);
    assert!(asked.contains("ErrImagePull") && !asked.contains("a | runs"), "{asked}");
    let absent = run("Never", &format!("{registry}/here/not:1"));
    assert!(absent.contains("ErrImageNeverPull"), "{absent}");
}

#[test]
fn a_compressed_archive_is_loaded_from_standard_input() {
    let home = Home::new();
    let script = "set -e; mkdir -p l/blobs/sha256; cd l
        put() { d=$(sha256sum <$1 | cut -d' ' -f1); s=$(stat -c %s $1); mv $1 blobs/sha256/$d; }
        mkdir f; echo hello >f/greeting; tar -C f --owner=0 --group=0 -cf layer .; rm -r f; put layer; l=$d ls=$s
        echo '{\"os\":\"linux\",\"architecture\":\"'$1'\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:'$l'\"]}}' >c; put c; c=$d cs=$s
        echo '{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:'$c'\",\"size\":'$cs'},\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:'$l'\",\"size\":'$ls'}]}' >m; put m
        echo '{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:'$d'\",\"size\":'$s',\"annotations\":{\"org.opencontainers.image.ref.name\":\"example.com/loaded:1\"}}]}' >index.json
        tar -czf ../l.tar.gz .";
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let made =
        Command::new("sh").args(["-c", script, "sh", arch]).current_dir(home.path("")).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let archive = fs::File::open(home.path("l.tar.gz")).unwrap();
    let loaded = home.command(&["load"]).stdin(archive).output().unwrap();
    assert_eq!(stdout(&loaded), "loaded example.com/loaded:1\n", "{}", stderr(&loaded));
    // Names that mean something to this process alone, as a shell's `<(…)` and `>(…)` are.
    let shell = |line: &str| {
        let podctl = home.command(&[]);
        let mut sh = Command::new("bash");
        sh.args(["-c", line, "bash"]).arg(podctl.get_program()).current_dir(home.path(""));
        sh.envs(podctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
        sh.output().unwrap()
    };
    for line in ["\"$1\" load -qi <(cat l.tar.gz)", "cat l.tar.gz | \"$1\" load -qi /dev/stdin"] {
        let loaded = shell(line);
        assert_eq!(stdout(&loaded), "loaded example.com/loaded:1\n", "{line}: {}", stderr(&loaded));
    }
    for line in ["\"$1\" save -o /dev/stdout", "mkfifo p; tar t <p & \"$1\" save -o p"] {
        let listed = shell(&format!("{line} example.com/loaded:1 | cat; wait"));
        assert!(stdout(&listed).contains("index.json"), "{line}: {}", stderr(&listed));
    }
    for (line, named) in [
        ("\"$1\" save example.com/loaded:1 -o no/where", "cannot write no/where"),
        ("\"$1\" save example.com/loaded:1 >/dev/full", "to standard output"),
        ("\"$1\" load </dev/null", "standard input"),
        ("\"$1\" volume create v && \"$1\" volume export v -o no/where", "to no/where"),
        ("\"$1\" volume import v l/index.json", "l/index.json"),
    ] {
        let refused = shell(line);
        assert!(
            !refused.status.success() && stderr(&refused).contains(named),
            "{line}: {}",
            stderr(&refused)
        );
    }
    home.podctl(&["rmi", "example.com/loaded:1"]);
}

/// Passes everything on, but of each answer only so many bytes; then it says nothing more.
fn stalling_proxy(upstream: String, limit: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(&upstream).unwrap();
            let (mut up, mut down) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut &client, &mut up));
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut (&server).take(limit), &mut down);
                let _ = down.flush();
                std::thread::park();
            });
        }
    });
    port
}

const HTPASSWD: &str = "user:$2y$05$Up0x1Bk0T6ypV70WMCLUh.3cErPJoa9Wotvmj7MUQrZCsGhfwqVNO\n";
