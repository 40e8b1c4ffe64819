//! Signals by name, as `lifecycle.stopSignal` and an image's StopSignal give them (R-HOOK-2).

/// Number of SIGTERM, for containers that say nothing.
const SIGTERM: i32 = 15;

/// Linux's signals by number, from 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Reads a signal's name (`SIGQUIT`, `QUIT`, `SIGRTMIN+3`) or number; SIGTERM when it is none.
pub fn parse_stop_signal(name: Option<&str>) -> i32 {
    let Some(name) = name else { return SIGTERM };
    if let Ok(number) = name.parse() {
        return number;
    }
    let short = name.strip_prefix("SIG").unwrap_or(name);
    if let Some(rest) = short.strip_prefix("RTMIN") {
        return 34 + rest.trim_start_matches('+').parse::<i32>().unwrap_or(0);
    }
    if let Some(rest) = short.strip_prefix("RTMAX") {
        return 64 - rest.trim_start_matches('-').parse::<i32>().unwrap_or(0);
    }
    let short = match short {
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "POLL" => "IO",
        other => other,
    };
    NAMES.iter().position(|n| *n == short).map_or(SIGTERM, |at| at as i32 + 1)
}

/// Tells whether the API server takes this name for `stopSignal`: all names in full, and real-time ones.
pub fn is_api_signal(name: &str) -> bool {
    let real_time = |prefix: &str, most: u32| {
        let number = name.strip_prefix(prefix).and_then(|number| number.parse::<u32>().ok());
        number.is_some_and(|number| (1..=most).contains(&number))
    };
    let known = name.strip_prefix("SIG").is_some_and(|short| NAMES.contains(&short));
    let alias = ["SIGCLD", "SIGIOT", "SIGPOLL", "SIGRTMIN", "SIGRTMAX"].contains(&name);
    known || alias || real_time("SIGRTMIN+", 15) || real_time("SIGRTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_hook_2_stop_signals_by_name_and_number() {
        for (name, number) in [
            (None, 15),
            (Some("SIGQUIT"), 3),
            (Some("SIGIOT"), 6),
            (Some("RTMIN+3"), 37),
            (Some("10"), 10),
            (Some("?"), 15),
        ] {
            assert_eq!(parse_stop_signal(name), number);
        }
    }

    #[test]
    fn the_api_server_takes_full_names_only() {
        for name in ["SIGTERM", "SIGPOLL", "SIGRTMIN", "SIGRTMIN+15", "SIGRTMAX-14"] {
            assert!(is_api_signal(name), "{name}");
        }
        for name in ["TERM", "15", "SIGRTMIN+16", "SIGRTMAX-15", ""] {
            assert!(!is_api_signal(name), "{name}");
        }
    }
}
