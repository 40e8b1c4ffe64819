//! Looks up host names on a thread of its own, which a machine may have none left of: tokio's way would end the process then.

use std::{io, net::ToSocketAddrs, thread};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::oneshot;

/// Resolves as the C library does; to be given to a [`reqwest::ClientBuilder`].
#[derive(Clone, Copy, Debug)]
pub struct HostNames;

impl Resolve for HostNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let look_up = move || (name.as_str(), 0).to_socket_addrs();
            let addresses = run_blocking(look_up).await??;
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// Waits for what blocks a thread, without blocking this one.
///
/// # Errors
/// Those of starting a thread.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    let thread = thread::Builder::new().spawn(move || {
        // Who has asked may have gone.
        let _ = sender.send(work());
    })?;
    match receiver.await {
        Ok(result) => Ok(result),
        Err(_) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it ends with a result or a panic"),
        },
    }
}
