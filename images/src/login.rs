//! Whether a registry lets a user in.

use std::time::Duration;

use crate::client::{Client, Identity, Wanted};
use crate::registries;
use crate::source::{client_builder, endpoint_schemes};
use crate::{Error, Reference};

/// The time for which a registry may say nothing.
const STALL: Duration = Duration::from_secs(30);

/// Asks a registry, such as `docker.io` or `ghcr.io`, whether it lets this user in. Blocks; must not be called from async
/// code.
///
/// # Errors
/// [`Error::Registry`] when it does not, or does not answer; what is wrong with the registry's name.
pub fn check_login(registry: &str, user: &str, password: &str) -> Result<(), Error> {
    let reference: Reference = format!("{registry}/podctl/login").parse()?;
    // The last is the registry itself; a mirror's door says nothing of it.
    let Some(endpoint) = registries::endpoints(&reference)?.pop() else {
        return Err(Error::NotFound { reference: registry.to_owned() });
    };
    let failed = |source| Error::Registry { reference: registry.to_owned(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::io("start a client for", registry.as_ref()))?;
    let mut last = None;
    for scheme in endpoint_schemes(&endpoint) {
        let identity = Identity::Password { user: user.to_owned(), password: password.to_owned() };
        let builder = client_builder(&endpoint, *scheme, STALL)?;
        let client = Client::new(builder, &endpoint, *scheme, identity).map_err(failed)?;
        let wanted = Wanted { path: "/v2/".to_owned(), ..Wanted::default() };
        match runtime.block_on(client.get(&wanted)) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    last.map_or(Ok(()), |error| Err(failed(error)))
}
