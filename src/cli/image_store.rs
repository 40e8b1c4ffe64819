//! The image store as several commands use it: opened, fetched into, looked up in, shown.

use std::path::PathBuf;

use podctl_images::{Image, Reference};
use podctl_runtime::IdMappings;

use super::{Error, print_error, warn};
use crate::{
    engine::{Engine, ImageError},
    state::Home,
};

/// The user's store; without subordinate ids it says what that means for images.
pub(super) fn open_engine(home: &Home) -> Result<Engine, Error> {
    if !nix::unistd::geteuid().is_root() {
        IdMappings::of_user()?.1.iter().for_each(|warning| warn(warning));
    }
    Ok(Engine::over(home))
}

/// Does all that can be done; what fails is said, image by image. Gives the exit code.
pub(super) fn for_each_image<T>(all: &[T], mut one: impl FnMut(&T) -> Result<(), ImageError>) -> i32 {
    let mut code = 0;
    for item in all {
        if let Err(e) = one(item) {
            print_error(&e.into());
            code = 1;
        }
    }
    code
}

/// Repository with its registry, and tag.
pub(super) fn split_reference(image: &Image) -> (&str, &str) {
    let name = image.reference.split('@').next().unwrap_or_default();
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "<none>"),
    }
}

/// Finds an image by its name, or by the beginning of its id.
pub(super) fn find_image(engine: &Engine, name: &str) -> Result<Option<Image>, Error> {
    let wanted = name.parse::<Reference>().ok().map(|reference| reference.to_string());
    let bare = name.trim_start_matches("sha256:");
    let is_id = |image: &Image| bare.len() >= 4 && image.id.trim_start_matches("sha256:").starts_with(bare);
    let all = engine.images()?;
    let named = all.iter().find(|image| Some(&image.reference) == wanted.as_ref());
    Ok(named.or_else(|| all.iter().find(|image| is_id(image))).cloned())
}

/// Returns what `inspect` shows of an image.
pub(super) fn describe_image(image: &Image) -> serde_json::Value {
    let mut value = summarize_image(image);
    value["config"] = serde_json::to_value(&image.config).unwrap_or_default();
    let digest =
        |path: &PathBuf| format!("sha256:{}", path.file_name().unwrap_or_default().to_string_lossy());
    value["layers"] = image.layers.iter().map(digest).collect();
    value
}

pub(super) fn summarize_image(image: &Image) -> serde_json::Value {
    let (repository, tag) = split_reference(image);
    serde_json::json!({
        "reference": image.reference,
        "repository": repository,
        "tag": tag,
        "digest": image.digest,
        "id": image.id,
        "created": image.created,
        "size": image.size,
        "platform": format!("{}/{}", image.os, image.architecture),
    })
}

/// Seconds since 1970; builders that want the same result again write zero or nothing.
pub(super) fn read_creation_time(image: &Image) -> Option<i64> {
    read_time(image.created.as_deref()?)
}

/// The seconds since 1970 of a builder's time; none of one that is no time, or before any build.
pub(super) fn read_time(text: &str) -> Option<i64> {
    let at: k8s_openapi::jiff::Timestamp = text.parse().ok()?;
    Some(at.as_second()).filter(|second| *second > 0)
}
