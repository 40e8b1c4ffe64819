//! One request that comes over no connection: what `podctl get --raw PATH` asks is answered as a client would be.

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use http_body_util::BodyExt;

use super::{Server, handle, http::Asked, route::Query};
use crate::engine::Engine;

/// The reason why a request is not answered, as the API says it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// The word that programs look at: `NotFound`.
    pub reason: String,
    /// The sentence that users see.
    pub message: String,
}

/// Answers a request of the user's own program; `receive` gets the answer's bytes as they come, and says whether more are
/// wanted.
///
/// # Errors
/// What the API refuses.
pub(crate) fn answer_raw(
    engine: &Engine,
    method: Method,
    uri: &str,
    body: Vec<u8>,
    receive: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), Refusal> {
    answer_raw_as(JSON, engine, method, uri, body, receive)
}

/// The media type of objects.
const JSON: &str = "application/json";

/// The media type of what is applied.
pub(crate) const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// Answers as [`answer_raw`] a request whose body is of a certain media type.
///
/// # Errors
/// What the API refuses.
pub(crate) fn answer_raw_as(
    media_type: &'static str,
    engine: &Engine,
    method: Method,
    uri: &str,
    body: Vec<u8>,
    receive: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), Refusal> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, header::HeaderValue::from_static(JSON));
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    let (path, query) = (path.to_owned(), Query::parse(query));
    let asked = Asked { method, path, query, headers, body: Bytes::from(body), upgrade: None };
    let internal = |e: std::io::Error| Refusal { reason: "InternalError".into(), message: e.to_string() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(internal)?;
    runtime.block_on(async {
        let answered = handle::answer_request(Server::new(engine.clone()), asked).await;
        let answer = answered
            .map_err(|failure| Refusal { reason: failure.reason.to_owned(), message: failure.message })?;
        let mut body = answer.into_body();
        // The error's type has no values: a body cannot fail here.
        while let Some(Ok(piece)) = body.frame().await {
            if let Some(bytes) = piece.data_ref()
                && !receive(bytes)
            {
                break;
            }
        }
        Ok(())
    })
}
