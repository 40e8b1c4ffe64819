//! `podctl run NAME --image=IMAGE`: the pod that kubectl's `run` makes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    cli::{
        Error,
        durations::parse_duration,
        last_applied::SaveConfigArgs,
        object_flags::{override_object, parse_labels},
        output_formats::{DryRun, ManagerArgs, OutputArgs},
    },
    manifest::Source,
    pod::Namespace,
};

/// Holds what `run --image` has beside what every run has.
#[derive(clap::Args)]
pub(super) struct ImageArgs {
    /// Run this image as the pod NAME, instead of manifests.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// With --image: what follows `--` is the command, and not its arguments.
    #[arg(long, requires = "image")]
    pub command: bool,
    /// With --image: NAME=VALUE, a variable of the container.
    #[arg(long, requires = "image", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// With --image: the port that the container listens on.
    #[arg(long, requires = "image")]
    pub port: Option<u16>,
    /// With --image and --port: make a Service of the pod's name, too.
    #[arg(long, requires = "image")]
    pub expose: bool,
    /// With --image: the pod's labels, KEY=VALUE,…; `run=NAME` else.
    #[arg(short = 'l', long, requires = "image", value_name = "LABELS", default_value = "")]
    pub labels: String,
    /// With --image: annotations of the pod, KEY=VALUE.
    #[arg(long, requires = "image", value_delimiter = ',')]
    pub annotations: Vec<String>,
    /// With --image: Always, IfNotPresent or Never.
    #[arg(long, requires = "image", value_name = "POLICY")]
    pub image_pull_policy: Option<String>,
    /// With --image: the container may do all that root may.
    #[arg(long, requires = "image")]
    pub privileged: bool,
    /// With --image: Always, OnFailure or Never.
    #[arg(long, requires = "image", value_name = "POLICY", default_value = "Always")]
    pub restart: String,
    /// With --image and -i or --attach: delete the pod at the end.
    #[arg(long, requires = "image")]
    pub rm: bool,
    /// With --image and -i: standard input stays open after the first that was attached.
    #[arg(long, requires = "image")]
    pub leave_stdin_open: bool,
    /// With --image: a patch of the pod, in JSON.
    #[arg(long, requires = "image", value_name = "JSON", default_value = "")]
    pub overrides: String,
    /// How --overrides is meant: json, merge or strategic.
    #[arg(long, requires = "image", default_value = "merge", value_parser = ["json", "merge", "strategic"])]
    pub override_type: String,
    /// How long a container may take to run before it is attached to, such as `1m`.
    #[arg(long, requires = "image", value_parser = parse_duration, default_value = "1m")]
    pub pod_running_timeout: Duration,
    /// Only the container's own output.
    #[arg(short, long)]
    pub quiet: bool,
    /// With --image: what the container runs.
    #[arg(last = true)]
    pub arguments: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub save: SaveConfigArgs,
    #[command(flatten)]
    pub manager: ManagerArgs,
}

/// Tells how this terminal and the container are connected.
#[derive(Clone, Copy)]
pub(super) struct Streams {
    pub stdin: bool,
    pub tty: bool,
    pub attach: bool,
}

impl ImageArgs {
    /// Checks the flags, and makes the pod's object; `words` are the pod's name and what follows it.
    pub(super) fn make_pod(
        &self,
        image: &str,
        words: &[String],
        streams: Streams,
        dry: DryRun,
    ) -> Result<Value, Error> {
        let refuse = |what: &'static str| Err(Error::contradiction(what));
        let Some((name, rest)) = words.split_first() else {
            return Err(Error::missing("NAME is required for run"));
        };
        let attached = streams.stdin || streams.attach;
        if streams.tty && !streams.stdin {
            return Err(Error::missing("-i/--stdin is required for containers with -t/--tty=true"));
        }
        if image.is_empty() {
            return Err(Error::missing("--image is required"));
        }
        if image.parse::<podctl_images::Reference>().is_err() {
            return Err(Error::bad_value(format!("invalid image name {image:?}: invalid reference format")));
        }
        if self.pod_running_timeout.is_zero() {
            return Err(Error::bad_value("--pod-running-timeout must be higher than zero"));
        }
        if self.rm && !attached {
            return refuse("--rm should only be used for attached containers");
        }
        if attached && dry.is_dry() {
            return refuse(
                "--dry-run=[server|client] can't be used with attached containers options (--attach, --stdin, or --tty)",
            );
        }
        if self.expose && self.port.is_none() {
            return refuse("--port must be set when exposing a service");
        }
        let restart = if self.restart.is_empty() { "Always" } else { &self.restart };
        if let Some(policy) =
            self.image_pull_policy.as_deref().filter(|p| !["Always", "IfNotPresent", "Never"].contains(p))
        {
            return Err(Error::bad_value(format!(
                "invalid image pull policy: {policy}, valid values are: Always, IfNotPresent, Never"
            )));
        }
        if !["Always", "OnFailure", "Never"].contains(&restart) {
            return Err(Error::bad_value(format!(
                "invalid restart policy: {}, valid values are: Always, OnFailure, Never",
                self.restart
            )));
        }
        let arguments: Vec<&String> = rest.iter().chain(&self.arguments).collect();
        let mut container = json!({"name": name, "image": image, "resources": {}});
        if !arguments.is_empty() {
            container[if self.command { "command" } else { "args" }] = json!(arguments);
        }
        let env: Vec<&String> = self.env.iter().filter(|pair| !pair.is_empty()).collect();
        if !env.is_empty() {
            container["env"] = env.into_iter().map(|pair| parse_variable(pair)).collect::<Result<_, _>>()?;
        }
        if let Some(port) = self.port {
            container["ports"] = json!([{"containerPort": port}]);
        }
        if let Some(policy) = &self.image_pull_policy {
            container["imagePullPolicy"] = json!(policy);
        }
        if self.privileged {
            container["securityContext"] = json!({"privileged": true});
        }
        if streams.stdin {
            container["stdin"] = json!(true);
            if !self.leave_stdin_open {
                container["stdinOnce"] = json!(true);
            }
        }
        if streams.tty {
            container["tty"] = json!(true);
        }
        let labels = match self.labels.is_empty() {
            true => json!({"run": name}),
            false => parse_labels(&self.labels)?,
        };
        let mut meta = json!({"name": name, "labels": labels});
        if !self.annotations.is_empty() {
            meta["annotations"] = parse_labels(&self.annotations.join(","))?;
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta,
            "spec": {"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": restart},
            "status": {}});
        match self.overrides.is_empty() {
            true => Ok(pod),
            false => override_object(&pod, &self.overrides, &self.override_type),
        }
    }

    /// The Service that `--expose` makes of a pod.
    pub(super) fn make_service(&self, pod: &Value) -> Option<Value> {
        let port = self.port.filter(|_| self.expose)?;
        Some(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": pod["metadata"]["name"]},
            "spec": {"ports": [{"port": port, "protocol": "TCP", "targetPort": port}],
                "selector": pod["metadata"]["labels"]},
            "status": {"loadBalancer": {}}}))
    }
}

/// Returns an object as the text of a manifest; what is wrong with it is then said of the command.
pub(super) fn into_source(mut object: Value, namespace: &Namespace) -> Source {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if namespace.as_str() != "default" {
        object["metadata"]["namespace"] = json!(namespace);
    }
    Source { name: "run --image".into(), text: object.to_string() }
}

/// `NAME=VALUE`
fn parse_variable(pair: &str) -> Result<Value, Error> {
    match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() && !name.contains(char::is_whitespace) => {
            Ok(json!({"name": name, "value": value}))
        }
        _ => Err(Error::bad_value(format!("invalid env: {pair}"))),
    }
}
