//! What an image runs on, in the words of those who build images, which are not always the same.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Arch, ImageConfiguration, Os};
use serde::Deserialize;

use crate::{Error, Image};

/// Holds what an image runs on: `os/architecture[/variant]`, as in `linux/arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// The platform as an index gives it; any part may be missing.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Offered {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    variant: Option<String>,
}

impl Default for Platform {
    /// This machine's.
    fn default() -> Self {
        Self { os: Os::default().to_string(), architecture: Arch::default().to_string(), variant: None }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<_> = text.split('/').collect();
        let (os, architecture, variant) = match &*parts {
            [os, arch] => (os, arch, ""),
            [os, arch, variant] => (os, arch, *variant),
            _ => return Err(Error::PlatformName { text: text.to_owned() }),
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(Error::PlatformName { text: text.to_owned() });
        }
        Ok(usual_platform(os, architecture, variant))
    }
}

/// The platform under the names that most use, as containerd has them too.
fn usual_platform(os: &str, architecture: &str, variant: &str) -> Platform {
    let (os, variant) = (os.to_lowercase(), variant.to_lowercase());
    let architecture = architecture.to_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("i386" | "i486" | "i586" | "i686" | "x86", variant) => ("386", variant),
        ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "5" | "6" | "7" | "8") => {
            ("arm", ["v5", "v6", "v7", "v8"][variant.as_bytes()[0] as usize - 53])
        }
        (architecture, variant) => (architecture, variant),
    };
    let variant = Some(variant.to_owned()).filter(|variant| !variant.is_empty());
    Platform { os, architecture: architecture.to_owned(), variant }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl Offered {
    /// The platform, when it says what matters of one.
    pub(crate) fn platform(&self) -> Option<Platform> {
        let given = |part: &Option<String>| part.clone().filter(|part| !part.is_empty());
        Some(usual_platform(
            &given(&self.os)?,
            &given(&self.architecture)?,
            self.variant.as_deref().unwrap_or(""),
        ))
    }

    /// Tells whether it is what builders write for what is no image, attestations among them.
    pub(crate) fn is_no_image(&self) -> bool {
        let unknown = |part: &Option<String>| part.as_deref() == Some("unknown");
        unknown(&self.os) && unknown(&self.architecture)
    }
}

impl Platform {
    /// Returns what an image's configuration says it is for; builders that leave it out mean any.
    pub(crate) fn of(config: &ImageConfiguration) -> Option<Platform> {
        let variant = config.variant().clone().unwrap_or_default();
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        (!os.is_empty() && !architecture.is_empty()).then(|| usual_platform(&os, &architecture, &variant))
    }

    /// Tells whether an image with that configuration runs here, if only after all that an index offers besides.
    pub(crate) fn does_take(&self, config: &ImageConfiguration) -> bool {
        Self::of(config)
            .is_none_or(|offered| offered.os == self.os && offered.architecture == self.architecture)
    }

    /// Tells whether `image` is for it, as far as an image tells.
    pub(crate) fn is_of(&self, image: &Image) -> bool {
        let of = usual_platform(&image.os, &image.architecture, "");
        let told = !image.os.is_empty() && !image.architecture.is_empty();
        self.variant.is_none() && (!told || (self.os == of.os && self.architecture == of.architecture))
    }

    /// Tells how well something for `offered` runs here: 0 not at all, more is better.
    pub(crate) fn rate_fit(&self, offered: &Platform) -> u32 {
        if self.os != offered.os || self.architecture != offered.architecture {
            return 0;
        }
        let offered = offered.variant.as_deref().unwrap_or("");
        match self.variant.as_deref() {
            Some(wanted) if wanted == offered => u32::MAX,
            // Of 32-bit arm, a later processor runs what earlier ones do.
            Some(wanted) if self.architecture == "arm" && offered < wanted => variant_level(offered),
            Some(_) => 0,
            None if offered.is_empty() => u32::MAX,
            // Later amd64 variants need instructions that this machine may lack.
            None => 100 - variant_level(offered).min(99),
        }
    }
}

fn variant_level(variant: &str) -> u32 {
    variant.trim_start_matches('v').parse().unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_platform_has_many_names() {
        for (written, meant) in [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AARCH64/v8", "linux/arm64"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/i686", "linux/386"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(written.parse::<Platform>().unwrap().to_string(), meant);
        }
        assert!("linux".parse::<Platform>().is_err() && "linux//v8".parse::<Platform>().is_err());
    }
}
