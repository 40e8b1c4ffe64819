//! Services: `podctl create service`, and what `podctl expose` makes.

use super::{Error, Place, create_object};
use serde_json::{Value, json};

use crate::{cli::output_formats::ChangeArgs, pod::ObjectKind};

#[derive(clap::Subcommand)]
pub(super) enum Services {
    /// For the pods of this user alone.
    Clusterip {
        #[command(flatten)]
        ports: PortArgs,
        /// The address; `None` for a headless Service.
        #[arg(long, default_value = "")]
        clusterip: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// On a port of this machine as well.
    Nodeport {
        #[command(flatten)]
        ports: PortArgs,
        /// Which one; a free one else.
        #[arg(long)]
        node_port: Option<u16>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// On this machine's address, at its own port.
    Loadbalancer {
        #[command(flatten)]
        ports: PortArgs,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Another name for a host.
    Externalname {
        #[command(flatten)]
        ports: PortArgs,
        /// The host.
        #[arg(long, required = true)]
        external_name: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

#[derive(clap::Args)]
pub(super) struct PortArgs {
    /// The Service's name; it selects the pods with the label `app=NAME`.
    name: String,
    /// `PORT` or `PORT:TARGET`.
    #[arg(long, value_delimiter = ',')]
    tcp: Vec<String>,
}

pub(super) fn create_service(service: &Services, place: Place<'_>) -> Result<(), Error> {
    let (ports, type_, change) = match service {
        Services::Clusterip { ports, change, .. } => (ports, "ClusterIP", change),
        Services::Nodeport { ports, change, .. } => (ports, "NodePort", change),
        Services::Loadbalancer { ports, change } => (ports, "LoadBalancer", change),
        Services::Externalname { ports, change, .. } => (ports, "ExternalName", change),
    };
    let mut all = ports.tcp.iter().map(|text| parse_port(text)).collect::<Result<Vec<_>, _>>()?;
    let mut spec = json!({"selector": {"app": ports.name}, "type": type_});
    let mut needs_ports = true;
    match service {
        Services::Clusterip { clusterip, .. } if !clusterip.is_empty() => {
            needs_ports = clusterip != "None";
            spec["clusterIP"] = clusterip.as_str().into();
        }
        Services::Nodeport { node_port: Some(port), .. } => {
            all.iter_mut().for_each(|own| own["nodePort"] = (*port).into());
        }
        Services::Externalname { external_name, .. } => {
            needs_ports = false;
            let is_host = |name: &str| {
                let part = |part: &str| {
                    let inner =
                        part.trim_start_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
                    !part.is_empty()
                        && inner.len() < part.len()
                        && !part.ends_with('-')
                        && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                };
                name.len() <= 253 && name.split('.').all(part)
            };
            if !is_host(external_name) {
                return Err(Error::bad_value(format!("invalid service external name {external_name}")));
            }
            spec["externalName"] = external_name.as_str().into();
        }
        _ => {}
    }
    if all.is_empty() && needs_ports {
        return Err(Error::missing("at least one tcp port specifier must be provided"));
    }
    if !all.is_empty() {
        spec["ports"] = all.into();
    }
    let object = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": ports.name, "labels": {"app": ports.name}},
        "spec": spec, "status": {"loadBalancer": {}}});
    create_object(change, Some(ObjectKind::Service), object, place)
}

/// `80`, `80:8080`, `80:http`
fn parse_port(text: &str) -> Result<Value, Error> {
    let (port, target) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let wrong = |what: &str| match what.parse::<u64>() {
        Ok(65536..) => Error::bad_value(format!("strconv.ParseUint: parsing {what:?}: value out of range")),
        Ok(_) => Error::bad_value("must be between 1 and 65535, inclusive"),
        Err(_) => Error::bad_value(format!("strconv.ParseUint: parsing {what:?}: invalid syntax")),
    };
    let name = if text.contains(':') { format!("{port}-{target}") } else { port.to_owned() };
    let target = match number(target) {
        Some(number) => json!(number),
        None if target.starts_with(|c: char| c.is_ascii_digit()) => return Err(wrong(target)),
        None => json!(target),
    };
    Ok(
        json!({"name": name, "port": number(port).ok_or_else(|| wrong(port))?, "protocol": "TCP", "targetPort": target}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        let port = parse_port("80:http").unwrap();
        assert_eq!(port, json!({"name": "80-http", "port": 80, "protocol": "TCP", "targetPort": "http"}));
        assert_eq!(parse_port("80").unwrap()["name"], "80");
        for wrong in ["x", "0", "70000", "80:70000"] {
            assert!(parse_port(wrong).is_err(), "{wrong}");
        }
    }
}
