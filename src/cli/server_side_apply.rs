//! `apply --server-side`: what files say becomes their manager's, and what other managers own is not taken from them.

use http::Method;
use serde_json::Value;

use super::{
    Error, Namespace,
    manifest_files::{FileArgs, parse_file_selector, read_manifest},
    object_selection::{Target, check_own_namespace, target_of_object},
    output_formats::{ChangeArgs, DryRun},
    output_streams::print_failures,
    stored_objects::read_stored,
};
use crate::{
    engine::Engine,
    server::{
        raw_request::{APPLY_PATCH, Refusal, answer_raw_as},
        route::encode_percent,
    },
    state::Home,
};

/// What kubectl says behind a conflict.
const CONFLICT_ADVICE: &str = "Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
* If you intend to manage all of these fields, please re-run the apply
  command with the `--force-conflicts` flag.
* If you do not intend to manage all of the fields, please edit your
  manifest to remove references to the fields that should keep their
  current managers.
* You may co-own fields by updating your manifest to match the existing
  value; in this case, you'll become the manager if the other manager(s)
  stop managing the field (remove it from their configuration).
See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts";

/// Whose the fields of applied objects become where nobody is named, as with kubectl.
const DEFAULT_MANAGER: &str = "kubectl";

/// Whose the fields of applied objects become.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct ServerSideArgs {
    /// Note whose each field is, and take nothing from other managers.
    #[arg(long)]
    pub server_side: bool,
    /// With --server-side: take the fields from other managers.
    #[arg(long)]
    force_conflicts: bool,
}

impl ServerSideArgs {
    /// Refuses what has no meaning together.
    ///
    /// # Errors
    /// In kubectl's words.
    pub(super) fn check_manner(&self, dry: DryRun) -> Result<(), Error> {
        let refuse = |what: &'static str| Err(Error::contradiction(what));
        match (self.server_side, dry) {
            (false, _) if self.force_conflicts => refuse("--force-conflicts only works with --server-side"),
            (true, DryRun::Client) => refuse(
                "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)",
            ),
            _ => Ok(()),
        }
    }

    /// Applies the objects of files, one after another; gives the exit code.
    ///
    /// # Errors
    /// Files that cannot be read or are refused; what goes wrong with an object is said, and the others are applied.
    pub(super) fn apply_files(
        &self,
        (files, selector): (&FileArgs, &str),
        change: &ChangeArgs,
        home: &Home,
        namespace: &Namespace,
    ) -> Result<i32, Error> {
        let sources = files.read_sources()?;
        let manifest = read_manifest(&sources, &read_stored(home, &[])?, namespace)?;
        let labels = parse_file_selector(selector)?;
        let (engine, output) = (Engine::over(home), change.output.parse()?);
        let written = manifest.written.iter().map(|written| &written.object);
        let objects: Vec<&Value> = written.filter(|object| labels.matches_object(object)).collect();
        if objects.is_empty() {
            return Err(Error::absent("no objects passed to apply"));
        }
        let mut failed = Vec::new();
        for object in objects {
            check_own_namespace(object, namespace)?;
            let target = target_of_object(object, namespace)?;
            match self.apply_object(&engine, object, &target, change) {
                Ok(applied) => change.print_change(&output, &applied, "serverside-applied")?,
                Err(refusal) => {
                    failed.push(match refusal.reason.as_str() {
                        "Conflict" => Error::unmet(format!("{refusal}\n{CONFLICT_ADVICE}")),
                        _ => refusal.into(),
                    });
                }
            }
        }
        print_failures(&failed);
        Ok(i32::from(!failed.is_empty()))
    }

    fn apply_object(
        &self,
        engine: &Engine,
        object: &Value,
        Target { kind, namespace, name }: &Target,
        change: &ChangeArgs,
    ) -> Result<Value, Refusal> {
        let root = if kind.api_version().contains('/') { "apis" } else { "api" };
        let place = if kind.is_namespaced() { format!("namespaces/{namespace}/") } else { String::new() };
        let tried = if change.dry_run().is_dry() { "&dryRun=All" } else { "" };
        let uri = format!(
            "/{root}/{}/{place}{}/{name}?fieldManager={}&force={}&fieldValidation=Strict{tried}",
            kind.api_version(),
            kind.plural(),
            encode_percent(change.manager().unwrap_or(DEFAULT_MANAGER)),
            self.force_conflicts,
        );
        let mut answer = Vec::new();
        let mut receive = |bytes: &[u8]| {
            answer.extend_from_slice(bytes);
            true
        };
        let body = object.to_string().into_bytes();
        answer_raw_as(APPLY_PATCH, engine, Method::PATCH, &uri, body, &mut receive)?;
        serde_json::from_slice(&answer)
            .map_err(|e| Refusal { reason: "InternalError".to_owned(), message: e.to_string() })
    }
}
