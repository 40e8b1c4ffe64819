//! `--raw PATH`: a request of the Kubernetes API, answered by the server's own functions without a server.

use std::io::Write;

use http::Method;

use super::{
    Error, UsageError,
    manifest_files::{FileArgs, read_source},
};
use crate::{engine::Engine, server::raw_request::answer_raw, state::Home};

/// The path that a command asks for instead of what else it does.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct RawArgs {
    /// Ask this path of the Kubernetes API, and print what it answers.
    #[arg(long, value_name = "PATH")]
    pub raw: Option<String>,
}

/// Sends a request with the one file that is given, or without; prints the answer as it is. Returns the exit code.
///
/// # Errors
/// Other files than one that is here, a path that is none, what the API refuses.
pub(super) fn send_raw(method: Method, path: &str, files: &FileArgs, home: &Home) -> Result<i32, Error> {
    let needs_file = matches!(method, Method::POST | Method::PUT);
    let body = match &files.filename[..] {
        [] if !needs_file => String::new(),
        [file] if file.starts_with("http://") || file.starts_with("https://") => {
            return Err(Error::bad_value("--raw cannot read from a url"));
        }
        [file] => read_source(file)?.text,
        _ => return Err(Error::bad_value("--raw can only use a single local file or stdin")),
    };
    if files.recursive {
        return Err(UsageError::Exclusive { one: "--raw", other: "--recursive" }.into());
    }
    if !path.starts_with('/') {
        return Err(Error::bad_value(format!(
            "--raw must be a valid URL path: parse {path:?}: invalid URI for request"
        )));
    }
    let mut stdout = std::io::stdout().lock();
    // A reader that has gone wants no more.
    let mut receive = |bytes: &[u8]| stdout.write_all(bytes).and_then(|()| stdout.flush()).is_ok();
    answer_raw(&Engine::over(home), method, path, body.into_bytes(), &mut receive)?;
    Ok(0)
}
