//! metrics.k8s.io: what each living pod and the machine use now.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::status::Failure;
use crate::engine::{Engine, Error, measure_node as measure_machine, measure_pods as measure_all, node_name};

/// The time for which CPU time is watched for a rate.
const SAMPLE: Duration = Duration::from_millis(500);

/// Measures what each living pod uses.
///
/// # Errors
/// What the engine says.
pub fn measure_pods(engine: &Engine, namespace: Option<&str>) -> Result<Vec<Value>, Failure> {
    let pods = engine.pods(namespace).map_err(|e: Error| Failure::internal(e.to_string()))?;
    // They may be started and deleted meanwhile; their labels are what they are selected by.
    let living = pods.into_iter().filter(|pod| pod.is_alive());
    let (pods, labels): (Vec<_>, Vec<_>) =
        living.filter_map(|pod| pod.pod().ok().map(|p| (pod, p.metadata.labels))).unzip();
    let mut all = Vec::new();
    for ((pod, labels), usage) in pods.iter().zip(labels).zip(measure_all(&pods, SAMPLE)) {
        // A pod that ends meanwhile uses nothing.
        let containers = usage
            .unwrap_or_default()
            .into_iter()
            .map(|used| json!({"name": used.container, "usage": usage_of(used.nano_cpus, used.memory)}));
        let mut object = measurement(pod.name());
        object["metadata"]["namespace"] = pod.namespace().into();
        object["metadata"]["labels"] = json!(labels.unwrap_or_default());
        object["containers"] = containers.collect();
        all.push(object);
    }
    Ok(all)
}

/// Measures what the machine uses.
pub fn measure_node() -> Value {
    let (nano_cpus, memory) = measure_machine(SAMPLE);
    let mut object = measurement(&node_name());
    object["usage"] = usage_of(nano_cpus, memory);
    object
}

fn measurement(name: &str) -> Value {
    let now = format!("{:.0}", Timestamp::now());
    json!({"metadata": {"name": name, "creationTimestamp": now}, "timestamp": now,
        "window": format!("{}ms", SAMPLE.as_millis())})
}

fn usage_of(nano_cpus: u64, memory: u64) -> Value {
    json!({"cpu": format!("{nano_cpus}n"), "memory": format!("{}Ki", memory >> 10)})
}
