//! The text of a systemd unit that runs pods: what `generate systemd` prints and `enable` writes. PURE.

use std::{fmt::Write, net::SocketAddr, time::Duration};

/// Holds what a unit does.
#[derive(Debug)]
pub(super) struct Unit {
    /// For whoever lists units.
    pub description: String,
    /// The command that makes this unit anew, for its first line.
    pub made_by: String,
    pub kind: Kind,
    /// podctl's own path.
    pub program: String,
    /// The longest grace period of its pods.
    pub grace: Duration,
    /// Tells that it is root's, of the machine's manager; else of a user's.
    pub system: bool,
    /// Variables that say where podctl keeps things.
    pub variables: Vec<(String, String)>,
}

/// Tells how a unit runs its pods.
#[derive(Debug)]
pub(super) enum Kind {
    /// The pods of manifest files, in the foreground: their logs are the unit's.
    Files {
        /// Keyed by absolute paths.
        files: Vec<String>,
        namespace: String,
        /// A pod that fails is run again by the unit: its restartPolicy is another than Never.
        restarts: bool,
    },
    /// The pod that podctl has a record of; it is started and stopped.
    Pod { namespace: String, name: String },
}

/// The time that podctl itself may take beyond its pods' grace, in seconds.
const LAST_STEPS: u64 = 15;
/// The time after a failure until a unit is started again, in seconds: the first back-off of a container.
const RESTART: u64 = 10;

/// Writes the unit.
pub(super) fn write_unit(unit: &Unit) -> String {
    let mut text = format!("# Made by `{}`.\n[Unit]\n", one_line(&unit.made_by));
    let mut line = |line: String| text += &format!("{line}\n");
    line(format!("Description={}", one_line(&unit.description).replace('%', "%%")));
    if unit.system {
        line("Wants=network-online.target".into());
        line("After=network-online.target".into());
    }
    let word = |word: &String| quote(word);
    if let Kind::Files { files, .. } = &unit.kind {
        line(format!("RequiresMountsFor={}", files.iter().map(word).collect::<Vec<_>>().join(" ")));
    }
    line("\n[Service]".into());
    let seconds = unit.grace.as_secs() + LAST_STEPS;
    for (name, value) in &unit.variables {
        line(format!("Environment={}", quote(&format!("{name}={value}")).replace("$$", "$")));
    }
    let program = quote(&unit.program);
    match &unit.kind {
        Kind::Files { files, namespace, restarts } => {
            let files = files.iter().map(word).collect::<Vec<_>>().join(" ");
            line("Type=notify".into());
            line(format!("ExecStart={program} --namespace {namespace} run --replace --no-color {files}"));
            if *restarts {
                line(format!("Restart=on-failure\nRestartSec={RESTART}"));
            }
            // The pods are asked to end by podctl alone, each in its order.
            line("KillMode=mixed".into());
        }
        Kind::Pod { namespace, name } => {
            line("Type=oneshot\nRemainAfterExit=yes".into());
            line(format!("ExecStart={program} --namespace {namespace} start {name}"));
            line(format!("ExecStop={program} --namespace {namespace} stop {name}"));
        }
    }
    // An image may have to be pulled.
    line(format!("TimeoutStartSec=infinity\nTimeoutStopSec={seconds}"));
    line("\n[Install]".into());
    line(format!("WantedBy={}", if unit.system { "multi-user.target" } else { "default.target" }));
    text
}

/// The names of the units of the server of the Kubernetes API: its socket, and the service that the socket starts.
pub(super) const SERVE: [&str; 2] = ["podctl-serve.socket", "podctl-serve.service"];

/// Writes the units of [`SERVE`], in that order: a client's connection starts the server, which ends when it is not used.
pub(super) fn write_serve_units(program: &str, address: SocketAddr, system: bool) -> [String; 2] {
    let made_by = "# Made by `podctl enable --serve`.";
    let unit = "[Unit]\nDescription=Kubernetes API of podctl's pods";
    let target = if system { "multi-user.target" } else { "default.target" };
    let program = quote(program);
    [
        format!(
            "{made_by}\n{unit}\n\n[Socket]\nListenStream={address}\n\n[Install]\nWantedBy=sockets.target {target}\n"
        ),
        format!("{made_by}\n{unit}\nRequires={}\n\n[Service]\nExecStart={program} serve\n", SERVE[0]),
    ]
}

/// Returns the unit's name for these pods; `name` is that of the first.
pub(super) fn unit_name(namespace: &str, name: &str) -> String {
    match namespace {
        "default" => format!("podctl-{name}.service"),
        _ => format!("podctl-{namespace}-{name}.service"),
    }
}

fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// Quotes a word as systemd.syntax(7) and systemd.service(5) read it: no specifier and no variable is in it.
fn quote(word: &str) -> String {
    let mut quoted = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' | '$' => quoted.extend([c, c]),
            c if c.is_control() => drop(write!(quoted, "\\x{:02x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Tells whether this user's manager, and with it the user's pods, start at boot and stay after the last logout.
pub(super) fn lingers() -> bool {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    user.is_some_and(|user| std::path::Path::new("/var/lib/systemd/linger").join(user.name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(kind: Kind, system: bool) -> Unit {
        Unit {
            description: "pod 100% web".into(),
            made_by: "podctl enable web.yaml".into(),
            kind,
            program: "/usr/bin/podctl".into(),
            grace: Duration::from_secs(30),
            system,
            variables: vec![("PODCTL_DATA_DIR".into(), "/data $HOME".into())],
        }
    }

    #[test]
    fn a_unit_of_files_says_when_the_pod_is_ready_and_ends_it_in_its_grace() {
        let files = vec!["/home/ann/my \"web\" 5%.yaml".to_owned()];
        let kind = Kind::Files { files, namespace: "default".into(), restarts: true };
        let text = write_unit(&unit(kind, false));
        for line in [
            "Description=pod 100%% web",
            r#"RequiresMountsFor="/home/ann/my \"web\" 5%%.yaml""#,
            "Type=notify",
            r#"Environment="PODCTL_DATA_DIR=/data $HOME""#,
            r#"ExecStart="/usr/bin/podctl" --namespace default run --replace --no-color "/home/ann/my \"web\" 5%%.yaml""#,
            "Restart=on-failure",
            "TimeoutStopSec=45",
            "WantedBy=default.target",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
        assert!(!text.contains("network-online"), "{text}");
    }

    #[test]
    fn the_server_is_started_by_its_socket() {
        let [socket, service] = write_serve_units("/usr/bin/podctl", ([127, 0, 0, 1], 26_500).into(), false);
        assert!(socket.contains("ListenStream=127.0.0.1:26500\n"), "{socket}");
        assert!(service.contains("ExecStart=\"/usr/bin/podctl\" serve\n"), "{service}");
    }

    #[test]
    fn a_unit_of_a_known_pod_starts_and_stops_it() {
        let kind = Kind::Pod { namespace: "shop".into(), name: "web".into() };
        let text = write_unit(&unit(kind, true));
        assert!(text.contains("ExecStart=\"/usr/bin/podctl\" --namespace shop start web\n"), "{text}");
        assert!(text.contains("ExecStop=\"/usr/bin/podctl\" --namespace shop stop web\n"), "{text}");
        assert!(text.contains("network-online.target") && text.contains("multi-user.target"), "{text}");
        assert_eq!(unit_name("shop", "web"), "podctl-shop-web.service");
        assert_eq!(unit_name("default", "web"), "podctl-web.service");
    }
}
