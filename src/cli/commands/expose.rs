//! `podctl expose`: a Service for the pods of a pod, a Service or a workload's file.

use serde_json::{Value, json};

use crate::{
    cli::{
        Error, Namespace,
        edited_objects::{find_pod_spec, read_local_objects},
        last_applied::SaveConfigArgs,
        manifest_files::FileArgs,
        object_flags::{override_object, parse_labels},
        object_selection::{named_targets, read_targets},
        output_formats::{ChangeArgs, DryRun},
        stored_objects::{self, make_kept},
    },
    engine::Engine,
    pod::ObjectKind,
    state::Home,
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl expose pod web --port=80 --target-port=8080
  podctl expose pod web --port=80 --type=NodePort --name=web-outside
  podctl expose -f deployment.yaml --port=80 --dry-run=client -o yaml")]
pub(super) struct Args {
    /// `pod NAME`, `svc NAME` or `KIND/NAME`.
    names: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// The Service's name; the object's else.
    #[arg(long)]
    name: Option<String>,
    /// The Service's port, or several with commas between them; all of the pod's else.
    #[arg(long, default_value = "")]
    port: String,
    /// The pods' port, by number or name; the same else.
    #[arg(long)]
    target_port: Option<String>,
    /// TCP or UDP.
    #[arg(long)]
    protocol: Option<String>,
    /// Labels of the Service; the object's else.
    #[arg(short = 'l', long, default_value = "")]
    labels: String,
    /// Labels of the pods; those of the object else.
    #[arg(long, default_value = "")]
    selector: String,
    /// ClusterIP, NodePort, LoadBalancer or ExternalName.
    #[arg(long = "type", default_value = "")]
    type_: String,
    /// The Service's address; `None` for a headless one.
    #[arg(long, default_value = "")]
    cluster_ip: String,
    /// Another address at which this machine answers.
    #[arg(long, default_value = "")]
    external_ip: String,
    /// `None` or `ClientIP`.
    #[arg(long, default_value = "")]
    session_affinity: String,
    /// A patch of the Service, in JSON.
    #[arg(long, default_value = "")]
    overrides: String,
    /// How --overrides is meant: json, merge or strategic.
    #[arg(long, default_value = "merge", value_parser = ["json", "merge", "strategic"])]
    override_type: String,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    save: SaveConfigArgs,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let engine = Engine::over(home);
    let (objects, code): (Vec<Value>, i32) = match args.files.is_given() {
        // A workload is exposed by its file: podctl keeps its pods alone.
        true => (read_local_objects(&args.files)?, 0),
        false => {
            let targets = named_targets(&args.names, &args.files, home, namespace)?;
            let (found, code) = read_targets(&targets, &engine);
            (found.into_iter().map(|(_, object)| object).collect(), code)
        }
    };
    let output = args.change.output.parse()?;
    for object in objects {
        let mut service = args.make_service(object)?;
        if !args.overrides.is_empty() {
            service = override_object(&service, &args.overrides, &args.override_type)?;
        }
        let dry = args.change.dry_run();
        // kubectl notes nothing in what it only prints.
        let service = if dry == DryRun::Client { service } else { args.save.note(service) };
        if dry != DryRun::Client {
            stored_objects::check(ObjectKind::Service, &service)?;
        }
        let made = make_kept(ObjectKind::Service, service, (dry, args.change.manager()), home, namespace)?;
        args.change.print_change(&output, &made, "exposed")?;
    }
    Ok(code)
}

impl Args {
    fn make_service(&self, mut object: Value) -> Result<Value, Error> {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let own_name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let selector = match (self.selector.is_empty(), kind.as_str()) {
            (false, _) => parse_labels(&self.selector)?,
            (true, "Pod") => object["metadata"]["labels"].clone(),
            (true, "Service") => object["spec"]["selector"].clone(),
            (true, "Deployment" | "ReplicaSet") => object["spec"]["selector"]["matchLabels"].clone(),
            (true, _) => {
                let version = object["apiVersion"].as_str().unwrap_or_default();
                let group = version.split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
                return Err(Error::not_done(format!("cannot expose a {kind}{group}")));
            }
        };
        if selector.as_object().is_none_or(serde_json::Map::is_empty) {
            let what = format!(
                "couldn't retrieve selectors via --selector flag or introspection: the {} has no labels and cannot be exposed",
                kind.to_lowercase()
            );
            return Err(Error::missing(what));
        }
        let labels = match self.labels.is_empty() {
            false => parse_labels(&self.labels)?,
            true => object["metadata"]["labels"].clone(),
        };
        let ports = self.find_ports(&mut object, &kind)?;
        let mut spec = json!({"ports": ports, "selector": selector});
        let fields = [
            ("type", &self.type_),
            ("clusterIP", &self.cluster_ip),
            ("sessionAffinity", &self.session_affinity),
        ];
        for (field, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            spec[field] = value.as_str().into();
        }
        if !self.external_ip.is_empty() {
            spec["externalIPs"] = json!([self.external_ip]);
        }
        if !["", "None", "ClientIP"].contains(&self.session_affinity.as_str()) {
            return Err(Error::bad_value(format!("unknown session affinity: {}", self.session_affinity)));
        }
        let mut meta = json!({"name": self.name.as_deref().unwrap_or(&own_name)});
        if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
            meta["labels"] = labels;
        }
        Ok(json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec,
            "status": {"loadBalancer": {}}}))
    }

    /// The Service's ports: the one that is told, else those that the object has.
    fn find_ports(&self, object: &mut Value, kind: &str) -> Result<Vec<Value>, Error> {
        let target = |port: &Value| match self.target_port.as_deref() {
            Some(target) => target.parse::<u16>().map_or_else(|_| json!(target), |number| json!(number)),
            None => port.clone(),
        };
        let told = self.port.split(',').filter(|port| !port.is_empty()).map(parse_port);
        let told = told.collect::<Result<Vec<i32>, Error>>()?;
        let own: Vec<(Value, Value)> = match kind {
            _ if !told.is_empty() => told.into_iter().map(|port| (port.into(), Value::Null)).collect(),
            "Service" => {
                let all = object["spec"]["ports"].as_array().into_iter().flatten();
                all.map(|port| (port["port"].clone(), port["protocol"].clone())).collect()
            }
            _ => {
                let spec = find_pod_spec(object).map(|spec| spec.clone()).unwrap_or_default();
                let containers = spec["containers"].as_array().into_iter().flatten();
                let all = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
                all.map(|port| (port["containerPort"].clone(), port["protocol"].clone())).collect()
            }
        };
        if own.is_empty() {
            return Err(Error::missing("couldn't find port via --port flag or introspection"));
        }
        let several = own.len() > 1;
        let make = |(at, (port, protocol)): (usize, &(Value, Value))| {
            let protocol = self.protocol.clone().or(protocol.as_str().map(str::to_owned));
            let mut made = json!({"port": port, "protocol": protocol.unwrap_or_else(|| "TCP".into()), "targetPort": target(port)});
            if several {
                made["name"] = format!("port-{}", at + 1).into();
            }
            made
        };
        Ok(own.iter().enumerate().map(make).collect())
    }
}

/// Reads one of the ports of `--port`, in kubectl's words when it is none.
fn parse_port(text: &str) -> Result<i32, Error> {
    text.parse().map_err(|_| Error::bad_value(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
}
