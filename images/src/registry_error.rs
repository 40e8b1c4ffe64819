//! What a registry answered that is not what was asked for.

use std::fmt::Write;
use std::time::Duration;

use serde::Deserialize;

/// Characters of a registry's words that are shown.
const MAX_SHOWN: usize = 1000;

/// The reason why a registry did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Nobody was reached, or the connection broke off.
    #[error("{}", chain(.0))]
    Request(Box<reqwest::Error>),
    /// The registry answered with an error.
    #[error("{words}")]
    Answer {
        /// The HTTP status.
        status: u16,
        /// Codes of the distribution API, such as `MANIFEST_UNKNOWN`.
        codes: Vec<String>,
        /// Holds what it said, or what its status means.
        words: String,
        /// The time for which it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The registry wants someone else.
    #[error(
        "unauthorized: {url} wants other credentials (an imagePullSecret, or `podman login` or `docker login`)"
    )]
    Unauthorized {
        /// Holds what was asked for.
        url: String,
    },
    /// The registry wants credentials to be sent where others could read them.
    #[error("the registry sends to {realm} for a token; credentials are not sent there, for it is not HTTPS")]
    Realm {
        /// The token service.
        realm: String,
    },
    /// The registry's token service gave none.
    #[error("no token from {realm}: {}", printable(.reason))]
    Token {
        /// The token service.
        realm: String,
        /// Why.
        reason: String,
    },
    /// The answer is longer than any honest one.
    #[error("the registry's answer is longer than {limit} bytes")]
    TooLong {
        /// Bytes that would be taken.
        limit: u64,
    },
    /// The answer comes so slowly that nobody waits for its end.
    #[error("the registry's answer had not come whole after {} seconds", .patience.as_secs_f32())]
    Slow {
        /// The time for which it was waited.
        patience: Duration,
    },
    /// There is no such address.
    #[error("invalid address {address:?}")]
    Address {
        /// The text.
        address: String,
    },
}

/// Tells how much of a registry was there, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Presence {
    /// Nobody listens, or not in this protocol.
    Unreachable,
    /// Somebody does, and hung up on the request.
    HungUp,
    /// Means that it answered.
    Answered,
}

impl RegistryError {
    pub(crate) fn request(error: reqwest::Error) -> Self {
        Self::Request(Box::new(error))
    }

    /// Returns what an answer of that status and body says.
    pub(crate) fn answered(status: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        #[derive(Deserialize)]
        struct Envelope {
            errors: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: Option<String>,
        }
        let said = serde_json::from_slice::<Envelope>(body).map(|said| said.errors).unwrap_or_default();
        let plain = String::from_utf8_lossy(body);
        let each = said.iter().map(|one| match one.message.as_deref() {
            None | Some("") => one.code.to_lowercase(),
            Some(message) => message.to_owned(),
        });
        let mut words = match (said.is_empty(), plain.trim()) {
            (false, _) => printable(&each.collect::<Vec<_>>().join("; ")),
            (true, "") => format!("the registry answered {status} {}", reason_of(status)),
            (true, plain) => format!("{status} {}: {}", reason_of(status), printable(plain)),
        };
        if let Some(wait) = retry_after.filter(|wait| *wait > MAX_WAIT) {
            // Writing to a String cannot fail.
            let _ = write!(words, " (to be asked again after {} s)", wait.as_secs());
        }
        Self::Answer { status, codes: said.into_iter().map(|one| one.code).collect(), words, retry_after }
    }

    /// Tells whether the answer is about this code of the distribution API.
    fn has_code(&self, wanted: &[&str]) -> bool {
        matches!(self, Self::Answer { codes, .. } if codes.iter().any(|code| wanted.contains(&code.as_str())))
    }

    /// Tells whether trying again without changing anything is futile.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Request(error) => error.is_redirect() || error.is_builder(),
            Self::Answer { status, .. } => {
                *status < 500 && !matches!(status, 408 | 429) && !self.has_code(&["TOOMANYREQUESTS"])
            }
            Self::Slow { .. } => false,
            _ => true,
        }
    }

    /// Tells whether the same request may well succeed in a moment.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            // Nobody listening, or an unknown certificate, is a matter for the next endpoint.
            Self::Request(error) if error.is_connect() => false,
            // Who was waited for so long is not asked again at once.
            Self::Slow { .. } => false,
            Self::Answer { retry_after: Some(wait), .. } if *wait > MAX_WAIT => false,
            error => !error.is_permanent(),
        }
    }

    /// Tells whether the registry wants someone else.
    pub(crate) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::Realm { .. } | Self::Answer { status: 403, .. })
            || self.has_code(&["DENIED", "UNAUTHORIZED"])
    }

    /// Tells how long to wait before asking again; a busy registry may say so itself.
    pub(crate) fn wait_before(&self, attempt: u32) -> Duration {
        let unit = match self {
            Self::Answer { retry_after: Some(wait), .. } => return (*wait).min(MAX_WAIT),
            Self::Answer { .. } => 1000,
            _ => 250,
        };
        Duration::from_millis(unit << attempt)
    }

    /// Returns what stands at the end of the chain, for who knows already what was asked for.
    pub(crate) fn cause(&self) -> String {
        let Self::Request(error) = self else { return self.to_string() };
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        printable(&cause.to_string())
    }

    /// Tells how much of a registry there is.
    pub(crate) fn presence(&self) -> Presence {
        match self {
            Self::Request(error) if error.is_connect() => Presence::Unreachable,
            Self::Request(error) if error.is_request() && !error.is_timeout() => Presence::HungUp,
            // What HTTPS says to HTTP.
            Self::Answer { status: 400, .. } => Presence::HungUp,
            _ => Presence::Answered,
        }
    }
}

/// The longest wait that a registry is granted; one that wants more is given up for now.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The library's own text stops at "error sending request"; the cause is at the end of the chain.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    printable(&text)
}

/// Text of others as it may be shown on a terminal: on one line, without control characters and without those that
/// turn the direction of writing.
pub(crate) fn printable(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let mut shown: String = text.chars().take(MAX_SHOWN).map(harmless).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

fn reason_of(status: u16) -> &'static str {
    reqwest::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words_cannot_write_on_a_terminal() {
        let error = RegistryError::answered(500, b"oops\x1b[31m\x07 red\xe2\x80\xae", None);
        assert_eq!(error.to_string(), "500 Internal Server Error: oops\u{fffd}[31m\u{fffd} red\u{fffd}");
        let body = br#"{"errors":[{"code":"X","message":"a\u001b[2Jb"}]}"#;
        assert_eq!(RegistryError::answered(404, body, None).to_string(), "a\u{fffd}[2Jb");
    }

    #[test]
    fn a_long_wait_is_not_waited_for() {
        let wait = |seconds| RegistryError::answered(429, b"", Some(Duration::from_secs(seconds)));
        assert!(wait(3).is_passing() && wait(3).wait_before(0) == Duration::from_secs(3));
        assert!(!wait(3600).is_passing() && wait(3600).to_string().contains("3600 s"));
        assert!(!wait(3600).is_permanent());
    }
}
