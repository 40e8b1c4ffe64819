//! Pods for tests: started when they can be used, gone when the test is over, however it ends.
//!
//! What a test needs beside it, such as a database, is a [`TestPod`]. It has a name of its own, so that tests run side
//! by side; free ports of this machine lead into it; [`WaitFor`] says what it is waited for. The pod is deleted when
//! its guard is dropped, and by its own supervisor when the test's process is killed.
//!
//! ```no_run
//! use podctl::testing::{TestPod, WaitFor};
//!
//! #[test]
//! fn the_cache_answers() {
//!     let redis = TestPod::of_image("redis:7")
//!         .with_port(6379)
//!         .wait_for(WaitFor::Log("Ready to accept connections".into()))
//!         .start()
//!         .unwrap();
//!     let address = redis.host_port(6379).unwrap();
//!     let client = std::net::TcpStream::connect(address).unwrap();
//! }
//! # fn main() {}
//! ```
//!
//! Neither a call of [`init`](crate::init) nor a `main` is needed. Images are those of the user's own podctl; with
//! [`TestPod::start_in`] it is any other [`Engine`].

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{Container, ContainerPort, EnvVar, Pod, PodSpec};
use sha2::{Digest, Sha256};

use crate::{
    Engine, Error, HostPort, LogOptions, Options, PodGuard, PodHandle,
    manifest::{Manifest, Source, generated_name},
    pod::PodExt,
};

/// The time for which a pod may take to be usable, its image's pull included.
const PATIENCE: Duration = Duration::from_secs(120);
/// The time for which one try of a connection or a command may take.
const ONE_TRY: Duration = Duration::from_secs(5);
/// Tells how soon what is not yet so is looked at again.
const AGAIN: Duration = Duration::from_millis(20);
/// The annotation that tells whether a pod that is there is the one that is wanted.
const REUSED: &str = "podctl.dev/reused";

/// Names what a pod for a test is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitFor {
    /// Every container is ready, as its readiness probe says; one without a probe is when it runs.
    Ready,
    /// Means that a line of any container's output has this text.
    Log(String),
    /// The pod takes TCP connections at this port.
    Port(u16),
    /// The pod answers a GET of this path at this port with this status.
    Http {
        /// The port of the pod, published or not.
        port: u16,
        /// The path, such as `/healthz`.
        path: String,
        /// The status, such as 200.
        status: u16,
    },
    /// This command exits with 0 in the pod's first container.
    Exec(Vec<String>),
}

/// A pod for a test, before it is started.
#[derive(Clone, Debug)]
pub struct TestPod {
    /// The pod. Without a name it gets one that no other has.
    pub pod: Pod,
    /// Holds what it refers to: ConfigMaps, Secrets, claims, Services.
    pub objects: Manifest,
    /// Holds what it is waited for, one after the other.
    pub waits: Vec<WaitFor>,
    /// The time for which all that may take.
    pub timeout: Duration,
    /// Tells how it is started.
    pub options: Options,
}

impl TestPod {
    /// Returns a pod of one container, `app`, of that image.
    pub fn of_image(image: &str) -> TestPod {
        let app = Container { name: "app".into(), image: Some(image.into()), ..Container::default() };
        TestPod::of_pod(Pod {
            spec: Some(PodSpec {
                containers: vec![app],
                // Nobody waits for the manners of what a test has used.
                termination_grace_period_seconds: Some(0),
                ..PodSpec::default()
            }),
            ..Pod::default()
        })
    }

    /// That pod.
    pub fn of_pod(pod: Pod) -> TestPod {
        TestPod {
            pod,
            objects: Manifest::default(),
            waits: Vec::new(),
            timeout: PATIENCE,
            options: Options { ends_with_program: true, ..Options::default() },
        }
    }

    /// The pod of a YAML text, with what it refers to.
    ///
    /// # Errors
    /// [`Error::Manifest`]; [`Error::Unsupported`] when there is not one pod.
    pub fn of_yaml(text: &str) -> Result<TestPod, Error> {
        let source = Source { name: "manifest".into(), text: text.into() };
        let mut objects = crate::manifest::load(&[source]).map_err(Error::Manifest)?;
        let pods = std::mem::take(&mut objects.pods);
        let [pod] = <[Pod; 1]>::try_from(pods)
            .map_err(|all| Error::Unsupported(format!("a test's manifest has one pod, not {}", all.len())))?;
        Ok(TestPod { objects, ..TestPod::of_pod(pod) })
    }

    /// Publishes a port of the pod at a free port of this machine, which [`PodHandle::host_port`] tells.
    pub fn with_port(mut self, port: u16) -> TestPod {
        let container_port = i32::from(port);
        self.change_first(|c| {
            let ports = c.ports.get_or_insert_default();
            if !ports.iter().any(|known| known.container_port == container_port) {
                ports.push(ContainerPort { container_port, ..ContainerPort::default() });
            }
        });
        self.options.publish.push(HostPort::any_for(port));
        self
    }

    /// Sets a variable of the first container.
    pub fn with_env(mut self, name: &str, value: &str) -> TestPod {
        let variable = EnvVar { name: name.into(), value: Some(value.into()), value_from: None };
        self.change_first(|c| c.env.get_or_insert_default().push(variable));
        self
    }

    /// Sets the first container's arguments, which its image's entry point gets.
    pub fn with_args(mut self, args: &[&str]) -> TestPod {
        let args = args.iter().map(ToString::to_string).collect();
        self.change_first(|c| c.args = Some(args));
        self
    }

    /// Sets the first container's command, in place of its image's entry point.
    pub fn with_command(mut self, words: &[&str]) -> TestPod {
        let words = words.iter().map(ToString::to_string).collect();
        self.change_first(|c| c.command = Some(words));
        self
    }

    /// Waits for that as well; for [`WaitFor::Ready`] when nothing is named.
    pub fn wait_for(mut self, what: WaitFor) -> TestPod {
        self.waits.push(what);
        self
    }

    /// Sets how long the pod may take to be usable; two minutes else.
    pub fn within(mut self, timeout: Duration) -> TestPod {
        self.timeout = timeout;
        self
    }

    fn change_first(&mut self, change: impl FnOnce(&mut Container)) {
        if let Some(first) = self.pod.spec.as_mut().and_then(|spec| spec.containers.first_mut()) {
            change(first);
        }
    }

    /// Starts it as a pod of this user, and waits until it can be used.
    ///
    /// # Errors
    /// Those of [`TestPod::start_in`] and [`Engine::of_user`].
    pub fn start(self) -> Result<PodGuard, Error> {
        self.start_in(&Engine::of_user()?)
    }

    /// Starts it, and waits until it can be used. Nothing of one that cannot is left.
    ///
    /// # Errors
    /// Those of [`Engine::run`] and [`PodHandle::wait_ready`]; [`Error::NotReady`], which names what was waited for.
    pub fn start_in(mut self, engine: &Engine) -> Result<PodGuard, Error> {
        if self.pod.metadata.name.as_deref().unwrap_or_default().is_empty() {
            self.pod.metadata.name = Some(generated_name("test-"));
        }
        let pod = engine.run(&self.pod, &self.objects, &self.options)?.guard();
        self.wait(&pod)?;
        Ok(pod)
    }

    /// Returns the pod of that name if it is there, as it was started the same way before; starts it else. It is left
    /// running for the next test, and the next run of all tests: `podctl delete pod NAME` ends it.
    ///
    /// # Errors
    /// Those of [`TestPod::start_in`].
    pub fn reuse_in(mut self, engine: &Engine, name: &str) -> Result<PodHandle, Error> {
        self.options.ends_with_program = false;
        self.pod.metadata.name = Some(name.to_owned());
        let wanted = serde_json::to_string(&(&self.pod, &self.options)).expect("plain data");
        let wanted: String = Sha256::digest(&wanted).iter().map(|byte| format!("{byte:02x}")).collect();
        let annotations = self.pod.metadata.annotations.get_or_insert_default();
        annotations.insert(REUSED.to_owned(), wanted.clone());
        let namespace = self.pod.metadata.namespace.clone().unwrap_or_else(|| "default".into());
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Ok(known) = engine.pod(&namespace, name) {
                let is_same =
                    |pod: Pod| pod.metadata.annotations.is_some_and(|a| a.get(REUSED) == Some(&wanted));
                if known.is_alive() && known.pod().is_ok_and(is_same) {
                    self.wait(&known)?;
                    return Ok(known);
                }
                known.delete(Some(Duration::ZERO))?;
            }
            match engine.run(&self.pod, &self.objects, &self.options) {
                Ok(pod) => {
                    self.wait(&pod)?;
                    return Ok(pod);
                }
                // Another test was faster.
                Err(Error::Start(crate::StartError::Exists(_))) if Instant::now() < deadline => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn wait(&self, pod: &PodHandle) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        if self.waits.is_empty() {
            return WaitFor::Ready.wait(pod, deadline);
        }
        self.waits.iter().try_for_each(|what| what.wait(pod, deadline))
    }
}

impl WaitFor {
    /// Waits until it is so.
    ///
    /// # Errors
    /// Those of [`PodHandle::wait_ready`].
    fn wait(&self, pod: &PodHandle, deadline: Instant) -> Result<(), Error> {
        let left = || deadline.saturating_duration_since(Instant::now());
        if *self == WaitFor::Ready {
            return pod.wait_ready(Some(left())).map(drop);
        }
        loop {
            if self.is_so(pod) {
                return Ok(());
            }
            // What will never come is told now, and by which container.
            let seen = pod.check_hope()?;
            if left().is_zero() {
                let what = format!("no sign of {self}");
                let container = seen.default_container().unwrap_or_default().to_owned();
                let pod = pod.name().to_owned();
                return Err(Error::NotReady { pod, container, reason: String::new(), what });
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn is_so(&self, pod: &PodHandle) -> bool {
        match self {
            WaitFor::Ready => pod.pod().is_ok_and(|pod| pod.is_ready()),
            WaitFor::Log(text) => {
                let has = |bytes: &[u8]| memchr::memmem::find(bytes, text.as_bytes()).is_some();
                pod.logs(&LogOptions::default()).is_ok_and(|mut logs| logs.any(|entry| has(&entry.text)))
            }
            WaitFor::Port(port) => pod.dial(*port).is_ok(),
            WaitFor::Http { port, path, status } => {
                ask_http(pod, *port, path).is_some_and(|got| got == *status)
            }
            WaitFor::Exec(command) => {
                let words: Vec<&str> = command.iter().map(String::as_str).collect();
                pod.output(None, &words).is_ok_and(|output| output.exit_code == 0)
            }
        }
    }
}

impl std::fmt::Display for WaitFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WaitFor::Ready => write!(f, "readiness"),
            WaitFor::Log(text) => write!(f, "{text:?} in its logs"),
            WaitFor::Port(port) => write!(f, "connections at port {port}"),
            WaitFor::Http { port, path, status } => write!(f, "status {status} of http://:{port}{path}"),
            WaitFor::Exec(command) => write!(f, "exit code 0 of `{}`", command.join(" ")),
        }
    }
}

/// Returns the status of a GET, if there is an answer.
fn ask_http(pod: &PodHandle, port: u16, path: &str) -> Option<u16> {
    let mut connection: TcpStream = pod.dial(port).ok()?;
    connection.set_read_timeout(Some(ONE_TRY)).ok()?;
    connection.set_write_timeout(Some(ONE_TRY)).ok()?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n").ok()?;
    // `HTTP/1.1 200`: the rest does not matter.
    let mut head = [0; 12];
    connection.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head).ok()?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_says_of_its_pod_stands_in_the_pod() {
        let pod = TestPod::of_image("redis:7").with_port(6379).with_env("A", "b").with_args(&["--x"]);
        let app = &pod.pod.spec.as_ref().unwrap().containers[0];
        assert_eq!(app.ports.as_ref().unwrap()[0].container_port, 6379);
        assert_eq!(app.env.as_ref().unwrap()[0].value.as_deref(), Some("b"));
        assert_eq!((app.args.clone(), &app.command), (Some(vec!["--x".to_owned()]), &None));
    }

    #[test]
    fn a_wait_says_what_it_is_for() {
        let http = WaitFor::Http { port: 80, path: "/".into(), status: 200 };
        assert_eq!(http.to_string(), "status 200 of http://:80/");
        assert_eq!(WaitFor::Exec(vec!["true".into()]).to_string(), "exit code 0 of `true`");
    }
}
