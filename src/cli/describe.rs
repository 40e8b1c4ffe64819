//! `podctl describe`: pods in full.

use k8s_openapi::jiff::Timestamp;

use super::{
    Error, Namespace,
    objects::{self, Kind},
    services,
    which::{Which, not_found, read},
};
use crate::{state::Home, view};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// With the table of events.
    #[arg(long, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    show_events: bool,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if let Some((Kind::Service, names)) = objects::asked(&args.which.names) {
        return services::describe(home, namespace, &names);
    }
    let chosen = args.which.choose(home, namespace)?;
    let mut dirs: Vec<_> = chosen.found.into_iter().map(|f| f.dir).collect();
    let mut code = 0;
    for name in chosen.missing {
        // As with kubectl, a name may be the beginning of several.
        let begun = home
            .pods()?
            .into_iter()
            .filter(|d| d.namespace == *namespace && d.name.starts_with(name.as_str()));
        let before = dirs.len();
        dirs.extend(begun);
        if dirs.len() == before {
            super::complain(&not_found(&name));
            code = 1;
        }
    }
    if dirs.is_empty() && code == 0 {
        eprintln!("No resources found in {namespace} namespace.");
    }
    let mut texts = Vec::new();
    for dir in dirs {
        let events = if args.show_events { Some(dir.events()?) } else { None };
        texts.push(view::describe::pod(&read(&dir)?, events.as_deref(), Timestamp::now()));
    }
    super::print(&texts.join("\n\n"));
    Ok(code)
}
