//! What goes wrong in a command, by kind; shown once, by `main`. All end with exit code 1, as kubectl's do.

use std::borrow::Cow;

use crate::{
    cli::manifest_files::STDIN,
    engine::{self, StartError},
    manifest::Diagnostic,
    pod::{InvalidName, ObjectKind},
    server::{raw_request, serve, server_credentials},
    state,
    view::{go_template, jsonpath},
};

/// The words of an error: written in the program, or made.
type Sentence = Cow<'static, str>;

/// Names what goes wrong in a command.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error(transparent)]
    Image(#[from] engine::ImageError),
    #[error(transparent)]
    State(#[from] state::Error),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Network(#[from] crate::network::Error),
    #[error(transparent)]
    Images(#[from] podctl_images::Error),
    #[error(transparent)]
    Runtime(#[from] podctl_runtime::Error),
    #[error(transparent)]
    Api(#[from] raw_request::Refusal),
    #[error(transparent)]
    Serve(#[from] serve::Error),
    #[error(transparent)]
    Credentials(#[from] server_credentials::Error),
    #[error(transparent)]
    JsonPath(#[from] jsonpath::Error),
    #[error(transparent)]
    GoTemplate(#[from] go_template::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// The command line is understood, and asks for nothing that could be done.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The document that is no YAML, with the place where it is none.
    #[error("{0}")]
    Document(Box<Diagnostic>),
    /// Manifests with errors, each of which has been shown.
    #[error("{files}: nothing was started because of {errors} error{}", if *errors == 1 { "" } else { "s" })]
    Refused { files: String, errors: usize },
    /// Manifests with objects that mean nothing here, where every object has to mean something.
    #[error("{files}: nothing was started because of {count} objects that would be passed over")]
    PassedOver { files: String, count: usize },
    /// The file, an address or a text that is not what it has to be.
    #[error("{0}")]
    Unreadable(Sentence),
    /// Nobody answers at an address; the whole sentence.
    #[error("{0}")]
    Unreached(String),
    /// What is named is not there.
    #[error("{0}")]
    Absent(Sentence),
    /// The object breaks rules: each with its field.
    #[error("{} {name:?} is invalid: {}", kind.name(), join_causes(causes))]
    Invalid { kind: ObjectKind, name: String, causes: Vec<String> },
    /// An object that was to be made of flags.
    #[error("failed to create {}{}: {source}", of_type.as_ref().map(|of_type| format!("{of_type} ")).unwrap_or_default(), kind.name().to_lowercase())]
    NotCreated { kind: ObjectKind, of_type: Option<String>, source: Box<Error> },
    /// Part of an object that could not be changed; kubectl words each part in its own way.
    #[error("failed to patch {}{source}", match *what {
        "resource requirements" => "resources update to pod template ".to_owned(),
        "serviceaccount" => "ServiceAccountName ".to_owned(),
        what => format!("{what} update to pod template: "),
    })]
    NotPatched { what: &'static str, source: Box<Error> },
    /// podctl does not do that, or not with such objects; the sentence says what does.
    #[error("{0}")]
    NotDone(Sentence),
    /// Something is not so that has to be: a variable of the environment, a value, a program's success.
    #[error("{0}")]
    Unmet(Sentence),
    /// Means that it did not come to be so in time.
    #[error("timed out waiting for the condition{}", pod.as_ref().map(|pod| format!(" on pods/{pod}")).unwrap_or_default())]
    TimedOut { pod: Option<String> },
    /// What goes wrong with an object of a file; kubectl words it so when a server has refused it.
    #[error("error when {doing} {file:?}: {source}")]
    InFile { doing: &'static str, file: String, source: Box<Error> },
    /// Several errors, each of which is shown.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Error>),
    /// The pod has ended while something was done with it.
    #[error("pod {pod:?} has ended {when}")]
    Ended { pod: String, when: &'static str },
}

/// Tells why a command line asks for nothing that could be done, in kubectl's words where it has them.
#[derive(Debug, thiserror::Error)]
pub(super) enum UsageError {
    /// Files are needed, and there are none.
    #[error("must specify one of -f and -k")]
    NoFiles,
    /// Two flags exclude each other.
    #[error("{one} and {other} are mutually exclusive")]
    Exclusive { one: &'static str, other: &'static str },
    /// Words or flags exclude each other, or what they are used for.
    #[error("{0}")]
    Contradiction(Sentence),
    /// Means that a word or a flag is missing.
    #[error("{0}")]
    Missing(Sentence),
    /// Means that a word, or the value of a flag, is none that it can have.
    #[error("{0}")]
    BadValue(Sentence),
}

impl Error {
    /// Makes an error of words that exclude each other.
    pub(super) fn contradiction(sentence: impl Into<Sentence>) -> Error {
        UsageError::Contradiction(sentence.into()).into()
    }

    /// Makes an error of a word or a flag that is missing.
    pub(super) fn missing(sentence: impl Into<Sentence>) -> Error {
        UsageError::Missing(sentence.into()).into()
    }

    /// Makes an error of a value that a word or a flag cannot have.
    pub(super) fn bad_value(sentence: impl Into<Sentence>) -> Error {
        UsageError::BadValue(sentence.into()).into()
    }

    pub(super) fn unreadable(sentence: impl Into<Sentence>) -> Error {
        Error::Unreadable(sentence.into())
    }

    pub(super) fn absent(sentence: impl Into<Sentence>) -> Error {
        Error::Absent(sentence.into())
    }

    pub(super) fn not_done(sentence: impl Into<Sentence>) -> Error {
        Error::NotDone(sentence.into())
    }

    pub(super) fn unmet(sentence: impl Into<Sentence>) -> Error {
        Error::Unmet(sentence.into())
    }

    /// Says at which object of a file something has gone wrong, where a server would have said what it is.
    pub(super) fn in_file(self, doing: &'static str, file: &str) -> Error {
        match self.reason() {
            None => self,
            Some(_) => {
                let file = if file == STDIN { "STDIN" } else { file }.to_owned();
                Error::InFile { doing, file, source: Box::new(self) }
            }
        }
    }

    /// Words an error of the engine's about a certain object as kubectl does.
    pub(super) fn about(kind: ObjectKind, name: &str, error: engine::Error) -> Error {
        let causes: Vec<String> =
            error.causes().iter().map(|cause| format!("{}: {}", cause.path, cause.message)).collect();
        match causes.is_empty() {
            true => error.into(),
            false => Error::Invalid { kind, name: name.to_owned(), causes },
        }
    }

    /// The word of the Kubernetes API for an error about an object, which clients look for.
    pub(super) fn reason(&self) -> Option<&str> {
        use engine::Error as E;
        match self {
            Error::Engine(e) => {
                let said = matches!(
                    e,
                    E::NoObject { .. } | E::ObjectExists { .. } | E::Conflict { .. } | E::Forbidden { .. }
                ) || matches!(
                    e,
                    E::State(state::Error::NotFound { .. })
                        | E::Patch(engine::patch::Error::Malformed(_) | engine::patch::Error::Unlike(_))
                        | E::Selector(_)
                        | E::NotStarted { .. }
                        | E::NoPrevious { .. }
                );
                said.then(|| e.kind().reason())
            }
            Error::State(state::Error::NotFound { .. }) => Some("NotFound"),
            Error::InFile { source, .. } => source.reason(),
            Error::Invalid { .. } => Some("Invalid"),
            Error::Api(refusal) => Some(&refusal.reason),
            _ => None,
        }
    }
}

/// Joins what is wrong with an object, as an API server does in one line.
fn join_causes(causes: &[String]) -> String {
    match causes {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// Makes the error of something that could not be done with a file, a stream or a process.
pub(super) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

impl From<Box<Diagnostic>> for Error {
    fn from(diagnostic: Box<Diagnostic>) -> Error {
        Error::Document(diagnostic)
    }
}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Error {
        Error::Document(Box::new(diagnostic))
    }
}
