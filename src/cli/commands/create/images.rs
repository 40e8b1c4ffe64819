//! Workloads of one image: Deployments, Jobs, CronJobs. podctl keeps none of these, and runs their pods.

use crate::cli::output_formats::ChangeArgs;

use super::{Error, Place, create_object};
use serde_json::{Value, json};

#[derive(clap::Args)]
pub(super) struct DeploymentArgs {
    /// The Deployment's name.
    name: String,
    /// The images of its containers.
    #[arg(long, required = true, value_delimiter = ',')]
    image: Vec<String>,
    /// The port of its first container.
    #[arg(long)]
    port: Option<u16>,
    /// Number of its pods.
    #[arg(short, long, default_value = "1")]
    replicas: u32,
    #[command(flatten)]
    change: ChangeArgs,
    /// What the container runs instead of its image's command.
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(clap::Args)]
pub(super) struct JobArgs {
    /// The Job's name.
    name: String,
    /// The image of its container.
    #[arg(long, required = true)]
    image: String,
    #[command(flatten)]
    change: ChangeArgs,
    /// What the container runs instead of its image's command.
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(clap::Args)]
pub(super) struct CronjobArgs {
    /// The CronJob's name.
    name: String,
    /// The image of its container.
    #[arg(long, required = true)]
    image: String,
    /// When, such as `*/5 * * * *`.
    #[arg(long, required = true)]
    schedule: String,
    /// `OnFailure` or `Never`.
    #[arg(long, default_value = "OnFailure")]
    restart: String,
    #[command(flatten)]
    change: ChangeArgs,
    /// What the container runs instead of its image's command.
    #[arg(last = true)]
    command: Vec<String>,
}

/// A container of an image, named after it or as it is told.
fn make_container(name: Option<&str>, image: &str, command: &[String]) -> Value {
    let own = image.rsplit('/').next().unwrap_or(image).split([':', '@']).next().unwrap_or(image);
    let own: String =
        own.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let mut container = json!({"name": name.unwrap_or(&own), "image": image, "resources": {}});
    if !command.is_empty() {
        container["command"] = json!(command);
    }
    container
}

pub(super) fn create_deployment(args: &DeploymentArgs, place: Place<'_>) -> Result<(), Error> {
    if args.image.len() > 1 && !args.command.is_empty() {
        return Err(Error::Said("cannot specify multiple --image options and command".into()));
    }
    let mut containers: Vec<Value> =
        args.image.iter().map(|image| make_container(None, image, &args.command)).collect();
    if let Some(port) = args.port {
        containers[0]["ports"] = json!([{"containerPort": port}]);
    }
    let labels = json!({"app": args.name});
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": args.name, "labels": labels},
        "spec": {"replicas": args.replicas, "selector": {"matchLabels": labels}, "strategy": {},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}}},
        "status": {}});
    create_object(&args.change, None, object, place)
}

/// The spec of a Job of one container.
fn make_job_spec(container: Value, restart: &str) -> Value {
    json!({"template": {"metadata": {}, "spec": {"containers": [container], "restartPolicy": restart}}})
}

pub(super) fn create_job(args: &JobArgs, place: Place<'_>) -> Result<(), Error> {
    let container = make_container(Some(&args.name), &args.image, &args.command);
    let object = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": args.name},
        "spec": make_job_spec(container, "Never"), "status": {}});
    create_object(&args.change, None, object, place)
}

pub(super) fn create_cronjob(args: &CronjobArgs, place: Place<'_>) -> Result<(), Error> {
    let container = make_container(Some(&args.name), &args.image, &args.command);
    let job = json!({"metadata": {"name": args.name}, "spec": make_job_spec(container, &args.restart)});
    let object = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": args.name},
        "spec": {"jobTemplate": job, "schedule": args.schedule}, "status": {}});
    create_object(&args.change, None, object, place)
}
