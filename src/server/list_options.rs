//! What a request says of the list or watch that it asks for, and what of it contradicts the rest, in the API server's words. PURE.

use std::time::Duration;

use super::{
    kinds::Kind,
    route::Query,
    status::{Cause, Failure},
};

/// The time for which a watch goes on when its client does not say.
const LONGEST_WATCH: Duration = Duration::from_secs(3600);
/// The one way besides `Exact` in which a revision can be meant.
const NOT_OLDER: &str = "NotOlderThan";

/// Says which state of its objects a client wants, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOptions {
    /// The revision; 0 for whichever there is.
    pub revision: u64,
    /// Tells that it has to be this revision and no newer one.
    pub exact: bool,
    /// Tells that a watch begins with what is there.
    pub sends_initial_events: bool,
    /// Tells that the client takes bookmarks.
    pub takes_bookmarks: bool,
    /// The time after which a watch ends.
    pub longest: Duration,
}

impl ListOptions {
    /// Reads them from a query, which is a watch's or a list's.
    ///
    /// # Errors
    /// What is no number, and what contradicts the rest.
    pub fn parse(query: &Query, is_watch: bool) -> Result<ListOptions, Failure> {
        let revision = query.number("resourceVersion").map_err(Failure::bad_request)?;
        let seconds = query.number("timeoutSeconds").map_err(Failure::bad_request)?.filter(|s| *s > 0);
        let wrong = if is_watch { find_watch_errors(query) } else { find_list_errors(query) };
        if !wrong.is_empty() {
            return Err(Failure::invalid_options(&wrong));
        }
        Ok(ListOptions {
            revision: revision.unwrap_or(0),
            exact: query.find("resourceVersionMatch") == Some("Exact"),
            sends_initial_events: query.is_true("sendInitialEvents"),
            takes_bookmarks: query.is_true("allowWatchBookmarks"),
            longest: seconds.map_or(LONGEST_WATCH, Duration::from_secs).min(LONGEST_WATCH),
        })
    }

    /// Checks that a list of this revision is what is wanted.
    ///
    /// # Errors
    /// What is wanted is older than what is known, or has not been yet.
    pub fn check_revision(self, kind: &Kind, current: u64) -> Result<(), Failure> {
        let wanted = self.revision;
        if wanted > current {
            return Err(Failure::too_new(kind, wanted, current));
        }
        if self.exact && wanted < current {
            let message = format!("The provided resource version {wanted} is no longer kept; {current} is");
            return Err(Failure::gone(message));
        }
        Ok(())
    }
}

fn forbid(field: &str, why: &str) -> Cause {
    Cause { field: field.into(), message: format!("Forbidden: {why}") }
}

fn unknown_match(given: &str, known: &str) -> Cause {
    let message = format!("Unsupported value: {given:?}: supported values: {known}");
    Cause { field: "resourceVersionMatch".into(), message }
}

fn find_list_errors(query: &Query) -> Vec<Cause> {
    let mut wrong = Vec::new();
    let revision = query.find("resourceVersion");
    if let Some(given) = query.find("resourceVersionMatch") {
        let mut forbid = |why: &str| wrong.push(forbid("resourceVersionMatch", why));
        if revision.is_none() {
            forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if query.find("continue").is_some() {
            forbid("resourceVersionMatch is forbidden when continue is provided");
        }
        if given == "Exact" && revision == Some("0") {
            forbid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        if !["Exact", NOT_OLDER].contains(&given) {
            wrong.push(unknown_match(given, "\"Exact\", \"NotOlderThan\""));
        }
    }
    if query.find("sendInitialEvents").is_some() {
        wrong.push(forbid("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    wrong
}

fn find_watch_errors(query: &Query) -> Vec<Cause> {
    let mut wrong = Vec::new();
    let given = query.find("resourceVersionMatch");
    let initial = query.find("sendInitialEvents").is_some();
    if initial && given != Some(NOT_OLDER) {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        wrong.push(forbid("resourceVersionMatch", why));
    }
    if let Some(given) = given {
        if !initial {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            wrong.push(forbid("resourceVersionMatch", why));
        }
        if given != NOT_OLDER {
            wrong.push(unknown_match(given, "\"NotOlderThan\""));
        }
        if query.find("continue").is_some() {
            wrong.push(forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::kinds::find_kind;

    #[test]
    fn options_that_contradict_themselves_are_refused() {
        for (query, is_watch, expected) in [
            ("", false, None),
            ("resourceVersion=0", false, None),
            ("resourceVersion=5&resourceVersionMatch=Exact", false, None),
            ("resourceVersionMatch=Exact", false, Some("unless resourceVersion is provided")),
            ("resourceVersion=0&resourceVersionMatch=Exact", false, Some("for resourceVersion \"0\"")),
            ("resourceVersion=1&resourceVersionMatch=Nearly", false, Some("Unsupported value: \"Nearly\"")),
            ("sendInitialEvents=false", false, Some("forbidden for list")),
            ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", true, None),
            ("sendInitialEvents=true", true, Some("requires setting resourceVersionMatch")),
            (
                "resourceVersionMatch=NotOlderThan",
                true,
                Some("for watch unless sendInitialEvents is provided"),
            ),
            ("resourceVersion=abc", true, Some("is no number")),
        ] {
            let parsed = ListOptions::parse(&Query::parse(query), is_watch);
            match expected {
                None => assert!(parsed.is_ok(), "{query}"),
                Some(part) => assert!(parsed.unwrap_err().message.contains(part), "{query}"),
            }
        }
    }

    #[test]
    fn a_watch_ends_when_its_client_says_and_never_at_once() {
        let longest = |query: &str| ListOptions::parse(&Query::parse(query), true).unwrap().longest.as_secs();
        assert_eq!(longest("timeoutSeconds=7"), 7);
        assert_eq!(longest("timeoutSeconds=0"), 3600);
        assert_eq!(longest("timeoutSeconds=99999999999"), 3600);
    }

    #[test]
    fn a_revision_that_is_not_kept_is_gone_and_one_that_has_not_been_is_waited_for() {
        let pods = find_kind("", "v1", "pods").unwrap();
        let check = |query: &str, current| {
            let options = ListOptions::parse(&Query::parse(query), false).unwrap();
            options.check_revision(pods, current).map_err(|failure| failure.code)
        };
        assert_eq!(check("resourceVersion=5", 9), Ok(()));
        assert_eq!(check("resourceVersion=5&resourceVersionMatch=Exact", 5), Ok(()));
        assert_eq!(check("resourceVersion=5&resourceVersionMatch=Exact", 9), Err(410));
        assert_eq!(check("resourceVersion=10", 9), Err(504));
    }
}
