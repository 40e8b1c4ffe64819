//! Lengths of time in flags: seconds, and durations as Go and kubectl write them.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::SignedDuration;

use crate::cli::Error;

/// Reads a number of seconds: `10`, `0.5` or `10s`.
///
/// # Errors
/// The sentence that says what is no such number.
pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches('s');
    let value: f64 = number.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(value).map_err(|e| e.to_string())
}

/// Reads one of Go's durations: `30s`, `1h30m`, `500ms`.
///
/// # Errors
/// The sentence that says what is no such duration.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("time: invalid duration {text:?}");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        if !rest.starts_with(is_number) {
            return Err(wrong());
        }
        let end = rest
            .find(|c: char| !is_number(c))
            .ok_or_else(|| format!("time: missing unit in duration {text:?}"))?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        let units = [("ms", 0.001), ("us", 1e-6), ("ns", 1e-9), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, seconds) =
            units.into_iter().find(|(u, _)| rest[end..].starts_with(u)).ok_or_else(|| {
                let own = rest[end..].split(is_number).next().unwrap_or_default();
                format!("time: unknown unit {own:?} in duration {text:?}")
            })?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[end + unit.len()..];
    }
    // Go counts nanoseconds in 64 bits: some 292 years.
    if text.is_empty() || total.as_nanos() > i64::MAX as u128 { Err(wrong()) } else { Ok(total) }
}

/// Reads one of Go's durations, which may be below zero: `-30s`.
///
/// # Errors
/// As [`parse_duration`].
pub(super) fn parse_signed_duration(text: &str) -> Result<SignedDuration, String> {
    let length = parse_duration(text.strip_prefix('-').unwrap_or(text))
        .map_err(|_| parse_duration(text).err().unwrap_or_default())?;
    let length = SignedDuration::try_from(length).map_err(|e| e.to_string())?;
    Ok(if text.starts_with('-') { -length } else { length })
}

/// Explains what of a text is no time as RFC 3339 has it, in the words of Go, which reads it part by part.
pub(super) fn explain_wrong_time(text: &str) -> String {
    const PARTS: [&str; 12] = ["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05", "Z07:00"];
    let is_there = |rest: &str, part: &str| {
        let own = rest.get(..part.len()).unwrap_or_default();
        own == part
            || !own.is_empty()
                && part != "Z07:00"
                && [own, part].iter().all(|word| word.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut rest = text;
    let wrong = PARTS.iter().find(|part| {
        let found = is_there(rest, part);
        rest = if found { &rest[part.len()..] } else { rest };
        !found
    });
    let wrong = wrong.copied().unwrap_or_default();
    format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {rest:?} as {wrong:?}")
}

/// Reads `--request-timeout`, seconds or a duration, as the moment at which a watch ends; 0 is never.
///
/// # Errors
/// The value is neither.
pub(super) fn parse_request_timeout(text: Option<&str>) -> Result<Option<Instant>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let seconds = text.parse().map(Duration::from_secs);
    let length = seconds.or_else(|_| parse_duration(text)).map_err(|_| {
        Error::bad_value(
            "Invalid timeout value. Timeout must be a single integer in seconds, or an integer followed by a corresponding time unit (e.g. 1s | 2m | 3h)",
        )
    })?;
    Ok((!length.is_zero()).then(|| Instant::now().checked_add(length)).flatten())
}

/// Returns what is left until then; nothing when that is never.
pub(super) fn time_left(until: Option<Instant>) -> Option<Duration> {
    until.map(|until| until.saturating_duration_since(Instant::now()))
}
