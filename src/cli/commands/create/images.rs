//! Workloads of one image: Jobs, which are kept and run, and Deployments and CronJobs, of which podctl prints the manifest.

use serde_json::{Value, json};

use super::{Error, Place, create_object};
use crate::{
    cli::{kind_words::unknown_kind, manifest_files::FileArgs, output_formats::ChangeArgs},
    engine::Engine,
    pod::ObjectKind,
};

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
    #[arg(long, default_value = "")]
    image: String,
    /// Instead of --image: `job/NAME`, or `cronjob/NAME` of a file that -f names.
    #[arg(long, value_name = "KIND/NAME", default_value = "")]
    from: String,
    #[command(flatten)]
    files: FileArgs,
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
        return Err(Error::contradiction("cannot specify multiple --image options and command"));
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
    if args.image.is_empty() == args.from.is_empty() {
        return Err(Error::missing("either --image or --from must be specified"));
    }
    if !args.from.is_empty() {
        if !args.command.is_empty() {
            return Err(Error::contradiction("cannot specify --from and command"));
        }
        let object = make_job_from(&args.name, &find_origin(args, place)?)?;
        return create_object(&args.change, Some(ObjectKind::Job), object, place);
    }
    let container = make_container(Some(&args.name), &args.image, &args.command);
    let object = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": args.name},
        "spec": make_job_spec(container, "Never"), "status": {}});
    create_object(&args.change, Some(ObjectKind::Job), object, place)
}

/// Finds what `--from` names: in the files, or a Job that is kept. podctl keeps no CronJobs, and says so as a server without
/// that kind does.
fn find_origin(args: &JobArgs, place: Place<'_>) -> Result<Value, Error> {
    let (kind, name) = args.from.split_once('/').ok_or_else(|| {
        Error::bad_value("there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. --from=cronjob/NAME)")
    })?;
    let wanted = match kind.split('.').next().unwrap_or(kind).to_lowercase().as_str() {
        "cronjob" | "cronjobs" | "cj" => "CronJob",
        "job" | "jobs" => "Job",
        _ => {
            let kind = ObjectKind::of_word(kind).ok_or_else(|| unknown_kind(kind))?;
            Engine::over(place.home).get_object(kind, place.namespace, name)?;
            return Err(Error::not_done(format!("unknown object type *v1.{}", kind.name())));
        }
    };
    if !args.files.is_given() {
        return match wanted {
            "Job" => Ok(Engine::over(place.home).get_object(ObjectKind::Job, place.namespace, name)?),
            _ => Err(unknown_kind(kind)),
        };
    }
    let is_meant = |object: &Value| object["kind"] == wanted && object["metadata"]["name"] == name;
    args.files
        .read_objects()?
        .into_iter()
        .find(is_meant)
        .ok_or_else(|| Error::absent(format!("{} {name:?} not found in the files", wanted.to_lowercase())))
}

/// The labels that a kept Job gives its pods.
const OWN_LABELS: [&str; 4] =
    ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];

/// The Job that a CronJob's template makes when it is instantiated by hand, or one like another Job.
fn make_job_from(name: &str, origin: &Value) -> Result<Value, Error> {
    let is_cron = origin["kind"] == "CronJob";
    let template = if is_cron { &origin["spec"]["jobTemplate"] } else { origin };
    let mut meta = json!({"name": name});
    let mut annotations = template["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    if is_cron {
        annotations.insert("cronjob.kubernetes.io/instantiate".into(), "manual".into());
    }
    if !annotations.is_empty() {
        meta["annotations"] = annotations.into();
    }
    if template["metadata"]["labels"].is_object() {
        meta["labels"] = template["metadata"]["labels"].clone();
    }
    let mut spec = template["spec"].clone();
    let Some(fields) = spec.as_object_mut() else { return Err(Error::unreadable("it has no Job's spec")) };
    // What a kept Job was given for its own pods is not the new one's.
    fields.remove("selector");
    for labels in [meta.get_mut("labels"), spec.pointer_mut("/template/metadata/labels")] {
        if let Some(labels) = labels.and_then(Value::as_object_mut) {
            labels.retain(|label, _| !OWN_LABELS.contains(&label.as_str()));
        }
    }
    Ok(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec, "status": {}}))
}

pub(super) fn create_cronjob(args: &CronjobArgs, place: Place<'_>) -> Result<(), Error> {
    let container = make_container(Some(&args.name), &args.image, &args.command);
    let job = json!({"metadata": {"name": args.name}, "spec": make_job_spec(container, &args.restart)});
    let object = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": args.name},
        "spec": {"jobTemplate": job, "schedule": args.schedule}, "status": {}});
    create_object(&args.change, None, object, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_from_a_cron_job_says_that_it_was_made_by_hand() {
        let cron = json!({"kind": "CronJob", "metadata": {"name": "c", "labels": {"no": "no"}},
            "spec": {"schedule": "* * * * *", "jobTemplate": {
                "metadata": {"labels": {"a": "b"}, "annotations": {"x": "y"}},
                "spec": {"template": {"spec": {"containers": []}}}}}});
        let job = make_job_from("once", &cron).unwrap();
        let annotations = json!({"x": "y", "cronjob.kubernetes.io/instantiate": "manual"});
        let meta = json!({"name": "once", "labels": {"a": "b"}, "annotations": annotations});
        assert_eq!(job["metadata"], meta);
        assert_eq!(job["spec"], cron["spec"]["jobTemplate"]["spec"]);
        assert!(make_job_from("once", &json!({"kind": "CronJob"})).is_err());
    }
}
