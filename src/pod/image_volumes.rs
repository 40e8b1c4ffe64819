//! Volumes that show the files of an image.

use k8s_openapi::api::core::v1::Pod;

use super::default_pull_policy;

/// The image that one of the pod's volumes shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageVolume {
    /// The volume's name.
    pub volume: String,
    /// The image's reference.
    pub image: String,
    /// The pullPolicy, by default as for a container's image.
    pub policy: String,
}

/// The image volumes of a pod.
pub fn image_volumes(pod: &Pod) -> Vec<ImageVolume> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes
        .filter_map(|v| {
            let source = v.image.as_ref()?;
            let image = source.reference.clone()?;
            let policy = source.pull_policy.clone();
            let policy = policy.unwrap_or_else(|| default_pull_policy(&image).to_owned());
            Some(ImageVolume { volume: v.name.clone(), image, policy })
        })
        .collect()
}
