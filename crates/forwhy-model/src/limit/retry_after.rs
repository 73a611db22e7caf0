//! `Retry-After`, in the forms in which it is met: seconds, fractions, dates, and nonsense.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a server asks to wait, within 0 and `cap`; `None` if it says nothing that can be read.
/// `now_ms` is milliseconds since 1970, for dates.
pub fn wait(text: Option<&str>, cap: Duration, now_ms: u64) -> Option<Duration> {
    let text = text?.trim();
    if let Ok(date) = httpdate::parse_http_date(text) {
        let now: SystemTime = UNIX_EPOCH + Duration::from_millis(now_ms);
        return Some(date.duration_since(now).unwrap_or(Duration::ZERO).min(cap));
    }
    let secs: f64 = text.parse().ok()?;
    if secs.is_nan() {
        return None;
    }
    // "inf" and what does not fit are the cap; below nothing is nothing.
    Some(Duration::try_from_secs_f64(secs.max(0.0)).unwrap_or(cap).min(cap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_12_every_form_is_a_wait_between_nothing_and_the_cap() {
        let cap = Duration::from_secs(60);
        // Sunday, 6 November 1994, 08:49:37.
        let date_ms = 784_111_777_000;
        let secs = |text: &str, now_ms| wait(Some(text), cap, now_ms).map(|d| d.as_secs_f64());
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (text, now_ms, expected) in [
            ("1", 0, Some(1.0)),
            ("0.25", 0, Some(0.25)),
            ("89", 0, Some(60.0)),
            ("inf", 0, Some(60.0)),
            ("1e400", 0, Some(60.0)),
            ("-1", 0, Some(0.0)),
            ("-inf", 0, Some(0.0)),
            (" 7 ", 0, Some(7.0)),
            (date, date_ms - 20_000, Some(20.0)),
            (date, date_ms + 20_000, Some(0.0)),
            (date, 0, Some(60.0)),
            ("NaN", 0, None),
            ("soon", 0, None),
            ("", 0, None),
        ] {
            assert_eq!(secs(text, now_ms), expected, "{text}");
        }
        assert_eq!(wait(None, cap, 0), None);
    }
}
