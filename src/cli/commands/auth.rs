//! `podctl auth`: what its user may do, which is everything, and who the user is.

use http::Method;
use serde_json::{Value, json};

use crate::{
    cli::{
        Error, kind_words,
        output_formats::{Output, OutputArgs},
        print, warn_as_kubectl,
    },
    engine::Engine,
    pod::ObjectKind,
    server::raw_request::answer_raw,
    state::Home,
    view::tab_stops,
};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Tell whether something may be done: everything may, by the user whose pods they are.
    #[command(name = "can-i")]
    CanI(CanArgs),
    /// Tell who the user is to the Kubernetes API.
    Whoami(WhoArgs),
}

#[derive(clap::Args)]
pub(super) struct CanArgs {
    /// `VERB KIND`, `VERB KIND/NAME` or `VERB /PATH`.
    words: Vec<String>,
    /// List what may be done.
    #[arg(long)]
    list: bool,
    /// With --list: leave the table's first line out.
    #[arg(long)]
    no_headers: bool,
    /// Say nothing; the exit code tells.
    #[arg(short, long)]
    quiet: bool,
    /// In every namespace.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// What of the object, such as `log` or `scale`.
    #[arg(long, default_value = "")]
    subresource: String,
}

#[derive(clap::Args)]
pub(super) struct WhoArgs {
    /// kubectl takes words, and looks at none.
    #[arg(hide = true)]
    words: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Verbs of the Kubernetes API.
const VERBS: &str = "get list watch create update patch delete deletecollection use bind impersonate * approve sign \
    escalate attest head post put options trace connect";

pub(super) fn run(command: &Command, home: &Home) -> Result<i32, Error> {
    match command {
        Command::CanI(args) => answer_whether(args),
        Command::Whoami(args) => tell_user(args, home),
    }
}

fn answer_whether(args: &CanArgs) -> Result<i32, Error> {
    if args.list {
        return list_rights(args);
    }
    let [verb, what] = &args.words[..] else {
        return Err(Error::missing(
            "you must specify two arguments: verb resource or verb resource/resourceName.\nSee 'podctl auth can-i -h' for help and examples.",
        ));
    };
    if what.starts_with('/') && !args.subresource.is_empty() {
        return Err(Error::contradiction("--subresource can not be used with NonResourceURL"));
    }
    let kind = what.split('/').next().filter(|kind| !what.starts_with('/') && *kind != "*");
    if let Some(warning) = kind.and_then(|kind| warn_of_kind(kind, args.all_namespaces)) {
        warn_as_kubectl(&format!("{warning}\n"));
    }
    if !VERBS.split_whitespace().any(|known| known == verb) {
        warn_as_kubectl(&format!("verb '{verb}' is not a known verb\n"));
    }
    if !args.quiet {
        println!("yes");
    }
    Ok(0)
}

/// Returns what kubectl warns of when a word is asked about that is for no kind, or for one without namespaces.
fn warn_of_kind(word: &str, all_namespaces: bool) -> Option<String> {
    let served = kind_words::find_served_kind(word);
    let is_namespaced = match (ObjectKind::of_word(word), served) {
        (Some(kind), _) => kind.is_namespaced(),
        (None, Some(kind)) => kind.namespaced,
        (None, None) => {
            return Some(match word.split_once('.') {
                Some((base, group)) => {
                    format!("the server doesn't have a resource type '{base}' in group '{group}'")
                }
                None => format!("the server doesn't have a resource type '{word}'"),
            });
        }
    };
    (!is_namespaced && !all_namespaces).then(|| format!("resource '{word}' is not namespace scoped"))
}

fn list_rights(args: &CanArgs) -> Result<i32, Error> {
    if !args.words.is_empty() {
        return Err(Error::contradiction("list option must be specified with no arguments"));
    }
    if args.quiet || args.all_namespaces || !args.subresource.is_empty() {
        let what =
            "list option can't be specified with neither quiet, all-namespaces nor subresource options";
        return Err(Error::contradiction(what));
    }
    let rows = [
        ["Resources", "Non-Resource URLs", "Resource Names", "Verbs"],
        ["*.*", "[]", "[]", "[*]"],
        ["", "[*]", "[]", "[*]"],
    ];
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
    print(&tab_stops::table(&rows[usize::from(args.no_headers)..]));
    Ok(0)
}

fn tell_user(args: &WhoArgs, home: &Home) -> Result<i32, Error> {
    let output = args.output.parse()?;
    let asked =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}});
    let mut answer = Vec::new();
    let mut receive = |bytes: &[u8]| {
        answer.extend_from_slice(bytes);
        true
    };
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    answer_raw(&Engine::over(home), Method::POST, path, asked.to_string().into_bytes(), &mut receive)?;
    let review: Value = serde_json::from_slice(&answer)?;
    if let Output::Table { .. } = output {
        let user = &review["status"]["userInfo"];
        let groups = user["groups"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let rows = [
            ["ATTRIBUTE".to_owned(), "VALUE".to_owned()],
            ["Username".to_owned(), user["username"].as_str().unwrap_or_default().to_owned()],
            ["Groups".to_owned(), format!("[{}]", groups.collect::<Vec<_>>().join(" "))],
        ];
        print(&tab_stops::table(&rows.map(Vec::from)));
    } else {
        print(&args.output.format_objects(&output, &[review], true)?);
    }
    Ok(0)
}
