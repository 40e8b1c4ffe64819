//! Durations and times in kubectl's words.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};

/// Tells how long ago that was, `<unknown>` when it never was.
pub fn since(time: Option<&Time>, now: Timestamp) -> String {
    time.map_or_else(|| "<unknown>".into(), |t| worded(now.duration_since(t.0)))
}

/// Two units while they are small, then one.
pub fn worded(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    if seconds < -1 {
        return "<invalid>".into();
    }
    let (s, m, h, d) = (seconds.max(0), seconds / 60, seconds / 3600, seconds / 86_400);
    match s {
        0..120 => format!("{s}s"),
        120..600 if s % 60 == 0 => format!("{m}m"),
        120..600 => format!("{m}m{}s", s % 60),
        600..10_800 => format!("{m}m"),
        10_800..28_800 if m % 60 == 0 => format!("{h}h"),
        10_800..28_800 => format!("{h}h{}m", m % 60),
        28_800..172_800 => format!("{h}h"),
        172_800..691_200 if h % 24 == 0 => format!("{d}d"),
        172_800..691_200 => format!("{d}d{}h", h % 24),
        _ if d < 730 => format!("{d}d"),
        _ if d < 2920 && d % 365 != 0 => format!("{}y{}d", d / 365, d % 365),
        _ => format!("{}y", d / 365),
    }
}

/// `Mon, 02 Jan 2006 15:04:05 +0000`; times are shown in UTC.
pub fn dated(time: &Time) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let at = k8s_openapi::jiff::tz::Offset::UTC.to_datetime(time.0);
    let day = DAYS[at.weekday().to_monday_zero_offset() as usize];
    let month = MONTHS[at.month() as usize - 1];
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!("{day}, {:02} {month} {} {hour:02}:{minute:02}:{second:02} +0000", at.day(), at.year())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_worded_as_kubectl_words_them() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (5, "5s"),
            (119, "119s"),
            (120, "2m"),
            (301, "5m1s"),
            (600, "10m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (259_200, "3d"),
            (262_800, "3d1h"),
            (40_000_000, "462d"),
            (100_000_000, "3y62d"),
        ] {
            assert_eq!(worded(SignedDuration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn times_are_dated_as_kubectl_dates_them() {
        let time = Time("2026-02-04T07:13:50.25Z".parse().unwrap());
        assert_eq!(dated(&time), "Wed, 04 Feb 2026 07:13:50 +0000");
    }
}
