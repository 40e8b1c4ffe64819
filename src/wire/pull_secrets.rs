//! What a pod's imagePullSecrets hold, for its puller.

use k8s_openapi::api::core::v1::Pod;
use podctl_images::AuthFile;

use crate::sandbox::Objects;

/// Reads what the pod's imagePullSecrets hold. As in a kubelet, a Secret that is missing or of another type
/// is passed over: the image may be public.
pub fn read_pull_secrets(pod: &Pod, objects: &Objects) -> Vec<AuthFile> {
    let named = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let found = named.filter_map(|r| objects.secret(&r.name, Some(true)).ok().flatten());
    found
        .filter_map(|secret| {
            let text = |key: &str| {
                let data = secret.data.as_ref().and_then(|all| all.get(key)).map(|bytes| bytes.0.clone());
                let plain = secret.string_data.as_ref().and_then(|all| all.get(key)).cloned();
                plain.or_else(|| String::from_utf8(data?).ok())
            };
            match secret.type_.as_deref() {
                Some("kubernetes.io/dockerconfigjson") => {
                    text(".dockerconfigjson").map(|t| AuthFile::new(&t))
                }
                Some("kubernetes.io/dockercfg") => text(".dockercfg").map(|t| AuthFile::from_dockercfg(&t)),
                _ => None,
            }
        })
        .collect()
}
