//! Which pods a command means: names, selectors, namespaces. The same for all commands.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::{
    cli::{
        Error, Namespace,
        kind_words::missing_object,
        manifest_files::FileArgs,
        object_selection::{Narrowing, Target, targets_of_files},
        print_error,
    },
    engine::{self, Engine, ListOptions},
    pod::{ObjectKind, ObjectName},
    state::{self, Home, PodDir},
    view::{field_selector::FieldSelector, selectors::Labels},
};

/// Selectors, and whether pods of all namespaces are meant.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct FilterArgs {
    /// Pods with these labels: `a=b`, `a!=b`, `a in (x,y)`, `a notin (x)`, `a`, `!a`, joined by commas.
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Pods with these fields, such as `status.phase=Running`.
    #[arg(long)]
    pub field_selector: Option<String>,
    /// Pods of every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

/// Names and selectors, as kubectl takes them.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Which {
    /// `[pods] NAME…` or `pod/NAME…`.
    pub names: Vec<String>,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub files: FileArgs,
}

/// For commands that are told each pod they mean.
#[derive(clap::Args)]
pub(super) struct Named {
    /// `NAME…` or `pod/NAME…`.
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// For commands that must be told whom they mean, be it everybody.
#[derive(clap::Args)]
pub(super) struct Told {
    #[command(flatten)]
    pub which: Which,
    /// Every pod of the namespace.
    #[arg(long)]
    pub all: bool,
}

/// The pod and where its state lies.
pub(super) struct Found {
    pub dir: PodDir,
    pub pod: Pod,
}

/// Holds what there is of what was asked for.
pub(super) struct Chosen {
    pub found: Vec<Found>,
    /// Names of no pod.
    pub missing: Vec<ObjectName>,
    /// The reason why pods are not among what was found whose records cannot be read.
    pub damaged: Vec<Error>,
}

impl Which {
    /// Tells which of the flags that narrow a selection are given.
    pub(super) fn narrowing(&self) -> Narrowing {
        Narrowing {
            labels: self.filter.selector.is_some(),
            fields: self.filter.field_selector.is_some(),
            all: false,
            all_namespaces: self.filter.all_namespaces,
            files: self.files.is_given(),
        }
    }

    /// Returns what a list of these has.
    fn list_options(&self, namespace: &Namespace) -> ListOptions {
        ListOptions {
            namespace: (!self.filter.all_namespaces).then(|| namespace.to_string()),
            labels: self.filter.selector.clone().unwrap_or_default(),
            fields: self.filter.field_selector.clone().unwrap_or_default(),
        }
    }

    /// Lists what of a kind these choose.
    ///
    /// # Errors
    /// What the engine says; of a selector that makes no sense in kubectl's words.
    pub(super) fn list_objects(
        &self,
        engine: &Engine,
        kind: ObjectKind,
        namespace: &Namespace,
    ) -> Result<Vec<Value>, Error> {
        let options = self.list_options(namespace);
        engine.list_objects(kind, &options).map_err(|e| match e {
            engine::Error::Selector(why) => refuse_selector(kind, &options, why),
            other => other.into(),
        })
    }

    /// Lists what of several kinds these choose, and says of which kinds nothing can be chosen so.
    pub(super) fn list_kinds(
        &self,
        engine: &Engine,
        kinds: &[ObjectKind],
        namespace: &Namespace,
    ) -> (Vec<(ObjectKind, Vec<Value>)>, Vec<Error>) {
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for kind in kinds {
            match self.list_objects(engine, *kind, namespace) {
                Ok(objects) => found.push((*kind, objects)),
                Err(e) => failed.push(e),
            }
        }
        (found, failed)
    }

    /// Finds the objects of several kinds that these choose, for what is done with all of them or with none.
    ///
    /// # Errors
    /// As [`Which::list_objects`], of each kind.
    pub(super) fn find_in_kinds(
        &self,
        engine: &Engine,
        kinds: &[ObjectKind],
        namespace: &Namespace,
    ) -> Result<Vec<Target>, Error> {
        let (found, failed) = self.list_kinds(engine, kinds, namespace);
        if !failed.is_empty() {
            return Err(Error::Several(failed));
        }
        let targets = |(kind, objects): &(ObjectKind, Vec<Value>)| {
            objects.iter().filter_map(|object| Target::of_object(*kind, object)).collect::<Vec<_>>()
        };
        Ok(found.iter().flat_map(targets).collect())
    }

    /// The names without their kind.
    ///
    /// # Errors
    /// A kind that is not known here.
    pub(super) fn plain_names(&self) -> Result<Vec<ObjectName>, Error> {
        let mut names = self.names.iter().peekable();
        if names.peek().is_some_and(|first| is_pod(first)) {
            names.next();
        }
        names.map(|name| plain(name)).collect()
    }

    /// The places of the pods that are named, or that files hold; whether or not there are such pods.
    ///
    /// # Errors
    /// A kind that is not known here, a file that cannot be read.
    pub(super) fn named(&self, home: &Home, namespace: &Namespace) -> Result<Vec<PodDir>, Error> {
        let names = self.plain_names()?;
        let mut dirs: Vec<PodDir> = names.iter().map(|n| home.pod(namespace, n)).collect();
        if !self.files.is_given() {
            return Ok(dirs);
        }
        for Target { kind, namespace, name } in targets_of_files(self, home, namespace)? {
            dirs.extend((kind == ObjectKind::Pod).then(|| home.pod(&namespace, &name)));
        }
        Ok(dirs)
    }

    /// Tells whether pods are named rather than listed.
    pub(super) fn names_pods(&self) -> bool {
        self.files.is_given() || self.plain_names().map_or(true, |names| !names.is_empty())
    }

    /// Reads what is asked for, ordered by namespace and name unless it was named. A damaged record among those that are
    /// listed is complained of, and hides no other.
    ///
    /// # Errors
    /// Selectors that make no sense, state that cannot be read.
    pub(super) fn choose(&self, home: &Home, namespace: &Namespace) -> Result<Chosen, Error> {
        let chosen = self.list(home, namespace)?;
        chosen.damaged.iter().for_each(print_error);
        Ok(chosen)
    }

    /// The same, without a complaint.
    ///
    /// # Errors
    /// As [`Which::choose`].
    pub(super) fn list(&self, home: &Home, namespace: &Namespace) -> Result<Chosen, Error> {
        let options = self.list_options(namespace);
        let refuse = |why| refuse_selector(ObjectKind::Pod, &options, why);
        let labels = Labels::parse(&options.labels).map_err(refuse)?;
        let fields = FieldSelector::parse("Pod", &options.fields).map_err(refuse)?;
        let named = self.names_pods();
        if named && (self.filter.selector.is_some() || self.filter.all_namespaces) {
            let what = "name cannot be provided when a selector or --all-namespaces is specified";
            return Err(Error::contradiction(what));
        }
        let mut dirs = self.named(home, namespace)?;
        if !named {
            let all = home.pods()?.into_iter();
            dirs.extend(all.filter(|d| self.filter.all_namespaces || d.namespace == *namespace));
        }
        let mut chosen = Chosen { found: Vec::new(), missing: Vec::new(), damaged: Vec::new() };
        for dir in dirs {
            match read(&dir) {
                Ok(pod) if labels.matches(pod.metadata.labels.as_ref()) && fields.matches(&json!(pod)) => {
                    chosen.found.push(Found { dir, pod });
                }
                Ok(_) => {}
                Err(Error::Engine(engine::Error::State(state::Error::NotFound { .. }))) => {
                    if named {
                        chosen.missing.push(dir.name);
                    }
                }
                Err(e) if named => return Err(e),
                Err(e) => chosen.damaged.push(e),
            }
        }
        Ok(chosen)
    }
}

/// The error of a selector that makes no sense, in kubectl's words.
fn refuse_selector(kind: ObjectKind, options: &ListOptions, why: String) -> Error {
    let version = kind.api_version();
    let version = if version.contains('/') { version } else { format!("/{version}") };
    let what = format!("{version}, Resource={}", kind.plural());
    let ListOptions { labels, fields, .. } = options;
    engine::Error::Selector(format!(
        "Unable to find {what:?} that match label selector {labels:?}, field selector {fields:?}: {why}"
    ))
    .into()
}

/// The error that there is no such pod.
pub(super) fn not_found(name: &str) -> Error {
    engine::Error::NoObject { kind: ObjectKind::Pod, name: name.to_owned() }.into()
}

pub(super) fn is_pod(kind: &str) -> bool {
    matches!(kind, "pod" | "pods" | "po")
}

/// `pod/NAME`, `pods/NAME` and plain `NAME` are the same pod.
pub(super) fn plain(name: &str) -> Result<ObjectName, Error> {
    let refuse = |sentence: &'static str| Err(Error::bad_value(sentence));
    let plain = match name.split_once('/') {
        Some((_, rest)) if rest.contains('/') => {
            return refuse("arguments in resource/name form may not have more than one slash");
        }
        Some((kind, rest)) if kind.is_empty() || rest.is_empty() => {
            return refuse("arguments in resource/name form must have a single resource and name");
        }
        Some((kind, plain)) if is_pod(kind) => plain,
        Some((kind, name)) => return Err(missing_object(kind, name)),
        None => name,
    };
    ObjectName::parse(plain).map_err(|_| not_found(plain))
}

/// The pod as it is to be shown.
pub(super) fn read(dir: &PodDir) -> Result<Pod, Error> {
    Ok(engine::with_display_status(dir)?)
}
