//! `podctl inspect` and `podctl ps`: what people who come from docker and podman type, and what it is here.

use serde_json::{Value, json};

use crate::{
    cli::{Error, Namespace, image_store, output_formats, print, print_error},
    engine::{Engine, ErrorKind},
    pod::ObjectKind,
    state::Home,
    view::go_template::GoTemplate,
};

#[derive(clap::Args)]
#[command(
    after_help = "A pod is what `podctl get pod NAME -o json` prints, an image what its configuration says; both in a list, as
docker has it. Examples:
  podctl inspect web
  podctl inspect busybox:1.36 --format '{{.config.Cmd}}'"
)]
pub(super) struct InspectArgs {
    /// Pods, or images.
    #[arg(required = true)]
    names: Vec<String>,
    /// A Go template for each.
    #[arg(short, long)]
    format: Option<String>,
    /// `pod` or `image` only.
    #[arg(long = "type", value_parser = ["pod", "image"])]
    type_: Option<String>,
}

pub(super) fn inspect(args: &InspectArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let engine = Engine::over(home);
    let template = args.format.as_deref().map(GoTemplate::parse).transpose();
    let template = template?;
    let (mut found, mut code) = (Vec::new(), 0);
    for name in &args.names {
        match find(args, &engine, namespace, name) {
            Ok(value) => found.push(value),
            Err(e) => {
                print_error(&e);
                code = 1;
            }
        }
    }
    match template {
        Some(template) => {
            for value in &found {
                println!("{}", template.print(value, true)?);
            }
        }
        None => print(&output_formats::pretty_json(&json!(found))),
    }
    Ok(code)
}

/// The pod of that name, else the image.
fn find(args: &InspectArgs, engine: &Engine, namespace: &Namespace, name: &str) -> Result<Value, Error> {
    if args.type_.as_deref() != Some("image") {
        let plain = name.strip_prefix("pod/").unwrap_or(name);
        match engine.get_object(ObjectKind::Pod, namespace, plain) {
            Ok(pod) => return Ok(pod),
            Err(e) if args.type_.is_some() => return Err(e.into()),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::BadRequest) => {}
            Err(e) => return Err(e.into()),
        }
    }
    image_store::find_image(engine, name)?
        .map(|image| image_store::describe_image(&image))
        .ok_or_else(|| Error::absent(format!("there is neither a pod nor an image {name:?}")))
}
