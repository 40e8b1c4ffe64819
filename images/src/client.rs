//! The distribution API, as far as a pull needs it: one kind of request, which says who asks when the
//! registry wants to know.
//!
//! What a registry says is bounded before it is in memory, and harmless before it is shown.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http_auth::ChallengeParser;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use crate::registries::Endpoint;
use crate::registry_error::{RegistryError, printable};

/// Bytes of an error's body that are looked at, and of a token service's answer.
const MAX_WORDS: u64 = 64 << 10;
const MAX_TOKEN: u64 = 1 << 20;

/// Names who to be at a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    Anonymous,
    Password {
        user: String,
        password: String,
    },
    /// Known to the registry's token service, which gives tokens for it.
    Token(String),
}

/// Tells how a registry is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// The repository of a registry, asked in one way by one identity.
pub(crate) struct Client {
    http: reqwest::Client,
    repository: String,
    /// `https://host:port/v2/repository/`
    base: Url,
    identity: Identity,
    /// Holds what was let in last.
    authorization: Mutex<Option<HeaderValue>>,
}

/// Holds what is asked for.
#[derive(Default)]
pub(crate) struct Wanted<'a> {
    /// Below the repository, as in `manifests/latest`.
    pub(crate) path: String,
    pub(crate) accept: Option<&'a str>,
    /// The first byte wanted; a registry may send the earlier ones all the same.
    pub(crate) offset: u64,
}

impl Client {
    /// Takes what [`reqwest::Client`] is to trust from `builder`.
    pub(crate) fn new(
        builder: reqwest::ClientBuilder,
        endpoint: &Endpoint,
        scheme: Scheme,
        identity: Identity,
    ) -> Result<Self, RegistryError> {
        let host = if endpoint.registry == "docker.io" { "registry-1.docker.io" } else { &endpoint.registry };
        let scheme = if scheme == Scheme::Https { "https" } else { "http" };
        let address = format!("{scheme}://{host}/v2/{}/", endpoint.repository);
        let base = Url::parse(&address).map_err(|_| RegistryError::Address { address })?;
        let http = builder.build().map_err(RegistryError::request)?;
        let repository = endpoint.repository.clone();
        Ok(Self { http, repository, base, identity, authorization: Mutex::default() })
    }

    /// Asks; a refusal is answered once, by saying who asks.
    pub(crate) async fn get(&self, wanted: &Wanted<'_>) -> Result<Response, RegistryError> {
        let known = self.authorization.lock().expect("nothing under it panics").clone();
        let response = self.send(wanted, known.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return check_response(response).await;
        }
        match self.authorize_request(response.headers()).await? {
            Some(fresh) if known.as_ref() != Some(&fresh) => {
                *self.authorization.lock().expect("nothing under it panics") = Some(fresh.clone());
                check_response(self.send(wanted, Some(&fresh)).await?).await
            }
            _ => check_response(response).await,
        }
    }

    async fn send(
        &self,
        wanted: &Wanted<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let url = self.base.join(&wanted.path);
        let url = url.map_err(|_| RegistryError::Address { address: wanted.path.clone() })?;
        let mut request = self.http.get(url);
        if let Some(kinds) = wanted.accept {
            request = request.header(header::ACCEPT, kinds);
        }
        if wanted.offset > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", wanted.offset));
        }
        if let Some(value) = authorization {
            // On the way to another host, a redirect's, the HTTP library takes it off.
            request = request.header(header::AUTHORIZATION, value.clone());
        }
        request.send().await.map_err(RegistryError::request)
    }

    /// Returns what the registry's challenge asks for, if this identity has it.
    async fn authorize_request(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, RegistryError> {
        let texts = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<_> = texts.flat_map(|text| ChallengeParser::new(text).flatten()).collect();
        let of = |scheme: &str| challenges.iter().find(|c| c.scheme.eq_ignore_ascii_case(scheme));
        if let Some(bearer) = of("Bearer") {
            let parameter = |name: &str| {
                let found = bearer.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            let token =
                self.fetch_token(&parameter("realm").unwrap_or_default(), parameter("service")).await?;
            return Ok(secret(&format!("Bearer {token}")));
        }
        Ok(match (&self.identity, of("Basic")) {
            (Identity::Password { user, password }, Some(_)) => secret(&basic_header(user, password)),
            _ => None,
        })
    }

    /// Returns a token of the service that the registry names. Credentials go there as to the registry itself: not in
    /// the clear, where that is not spoken to in the clear.
    async fn fetch_token(&self, realm: &str, service: Option<String>) -> Result<String, RegistryError> {
        let address = |_| RegistryError::Address { address: printable(realm) };
        let url = Url::parse(realm).map_err(address)?;
        if self.identity != Identity::Anonymous && !is_as_protected(&url, &self.base) {
            return Err(RegistryError::Realm { realm: printable(realm) });
        }
        let scope = format!("repository:{}:pull", self.repository);
        let mut pairs = vec![("scope", scope.as_str())];
        pairs.extend(service.as_deref().map(|service| ("service", service)));
        let request = match &self.identity {
            Identity::Token(token) => {
                pairs.extend([("grant_type", "refresh_token"), ("refresh_token", token)]);
                pairs.push(("client_id", "podctl"));
                let form = with_pairs(Url::parse("http://form").expect("an address"), &pairs);
                let form = form.query().unwrap_or_default().to_owned();
                let kind = "application/x-www-form-urlencoded";
                self.http.post(url).header(header::CONTENT_TYPE, kind).body(form)
            }
            Identity::Password { user, password } => {
                let request = self.http.get(with_pairs(url, &pairs));
                request.header(
                    header::AUTHORIZATION,
                    secret(&basic_header(user, password)).ok_or_else(|| RegistryError::Token {
                        realm: printable(realm),
                        reason: "the credentials cannot be sent".into(),
                    })?,
                )
            }
            Identity::Anonymous => self.http.get(with_pairs(url, &pairs)),
        };
        let response = request.send().await.map_err(RegistryError::request)?;
        if matches!(response.status().as_u16(), 400 | 401 | 403) {
            return Err(RegistryError::Unauthorized { url: printable(realm) });
        }
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let body = read_bounded(check_response(response).await?, MAX_TOKEN).await?;
        let refused = |reason: String| RegistryError::Token { realm: printable(realm), reason };
        let answer: Answer = serde_json::from_slice(&body).map_err(|e| refused(e.to_string()))?;
        let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
        token.ok_or_else(|| refused("no token in its answer".to_owned()))
    }
}

/// Tells whether what is sent to `realm` can be read by no more than what is sent to the registry at `base`.
fn is_as_protected(realm: &Url, base: &Url) -> bool {
    realm.scheme() == "https" || (base.scheme() == "http" && realm.scheme() == "http")
}

fn with_pairs(mut url: Url, pairs: &[(&str, &str)]) -> Url {
    url.query_pairs_mut().extend_pairs(pairs);
    url
}

fn basic_header(user: &str, password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// Returns a header that the HTTP library does not print.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The response, or the error that it is.
async fn check_response(response: Response) -> Result<Response, RegistryError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    if status == StatusCode::UNAUTHORIZED {
        return Err(RegistryError::Unauthorized { url: printable(response.url().as_str()) });
    }
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    // One that breaks off in its own error has said enough.
    let body = read_bounded(response, MAX_WORDS).await.unwrap_or_default();
    Err(RegistryError::answered(status.as_u16(), &body, retry_after))
}

/// All of the body, which may have `limit` bytes.
pub(crate) async fn read_bounded(mut response: Response, limit: u64) -> Result<Bytes, RegistryError> {
    let too_long = || RegistryError::TooLong { limit };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(RegistryError::request)? {
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_for_https_are_not_sent_in_the_clear() {
        let url = |text: &str| Url::parse(text).unwrap();
        let (plain, secure) = (url("http://127.0.0.1:5000/v2/"), url("https://r.example/v2/"));
        assert!(is_as_protected(&url("https://auth.example/token"), &secure));
        assert!(!is_as_protected(&url("http://auth.example/token"), &secure));
        assert!(is_as_protected(&url("http://127.0.0.1:5001/token"), &plain));
        assert!(!is_as_protected(&url("file:///token"), &plain));
    }
}
