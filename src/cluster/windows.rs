//! Maintenance windows: when a change may begin. Pure: the time is given.

use crate::api;
use cronexpr::{Crontab, MakeTimestamp, parse_crontab};
use jiff::Timestamp;
use std::time::Duration;

/// A window that comes again and again.
#[derive(Clone, Debug)]
pub struct Window {
    begins: Crontab,
    lasts: Duration,
}

impl Window {
    /// Reads a window of the spec.
    ///
    /// # Errors
    /// The field of the window that cannot be read, and why.
    pub fn parse(window: &api::MaintenanceWindow) -> Result<Self, (&'static str, String)> {
        let zone = window.time_zone.as_deref().unwrap_or("UTC");
        if jiff::tz::TimeZone::get(zone).is_err() {
            return Err((
                "timeZone",
                format!("{zone:?} is no time zone of the IANA database, e.g. Europe/Berlin"),
            ));
        }
        let lasts = window.duration.get().filter(|span| *span >= Duration::from_mins(1));
        let lasts = lasts.ok_or_else(|| {
            (
                "duration",
                format!("{:?} is no duration of a minute or more, e.g. 4h", window.duration.as_str()),
            )
        })?;
        // A sixth field would be a time zone, which has a field of its own.
        let schedule = window.schedule.trim();
        let fields = schedule.split_whitespace().count();
        let begins = (fields == 5).then(|| parse_crontab(&format!("{schedule} {zone}"))).and_then(Result::ok);
        let begins = begins.ok_or_else(|| {
            (
                "schedule",
                format!("{schedule:?} is no schedule of five fields as of a CronJob, e.g. \"0 2 * * 6\""),
            )
        })?;
        Ok(Self { begins, lasts })
    }

    /// Whether it is open.
    pub fn is_open(&self, now: Timestamp) -> bool {
        // One that begins just now is open.
        let before = now.checked_sub(self.lasts).unwrap_or(Timestamp::MIN);
        self.next_after(before).is_some_and(|begin| begin <= now)
    }

    /// When it opens next; nothing where it never does.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        self.begins.find_next(MakeTimestamp(time)).ok().map(|zoned| zoned.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn window(schedule: &str, duration: &str, zone: Option<&str>) -> Result<Window, (&'static str, String)> {
        Window::parse(&api::MaintenanceWindow {
            schedule: schedule.to_owned(),
            duration: api::Duration::new(duration.to_owned()),
            time_zone: zone.map(str::to_owned),
        })
    }

    #[rstest]
    #[case::before("2026-11-28T01:59:59Z", false)]
    #[case::at_its_beginning("2026-11-28T02:00:00Z", true)]
    #[case::inside("2026-11-28T05:59:59Z", true)]
    #[case::at_its_end("2026-11-28T06:00:00Z", false)]
    #[case::another_day("2026-11-27T03:00:00Z", false)]
    fn saturdays_from_two_to_six(#[case] now: &str, #[case] open: bool) {
        let window = window("0 2 * * 6", "4h", None).unwrap();
        assert_eq!(window.is_open(now.parse().unwrap()), open);
    }

    #[test]
    fn the_time_is_that_of_the_zone_in_summer_and_in_winter() {
        let window = window("0 2 * * *", "1h", Some("Europe/Berlin")).unwrap();
        for (now, open) in [
            ("2026-07-01T00:30:00Z", true),
            ("2026-07-01T01:30:00Z", false),
            ("2026-12-01T00:30:00Z", false),
            ("2026-12-01T01:30:00Z", true),
        ] {
            assert_eq!(window.is_open(now.parse().unwrap()), open, "{now}");
        }
    }

    #[test]
    fn it_says_when_it_opens_next() {
        let window = window("30 22 * * 1-5", "2h", None).unwrap();
        let friday: Timestamp = "2026-11-27T23:00:00Z".parse().unwrap();
        assert_eq!(window.next_after(friday), Some("2026-11-30T22:30:00Z".parse().unwrap()));
    }

    #[test]
    fn one_that_never_opens_is_never_open() {
        let window = window("0 0 30 2 *", "4h", None).unwrap();
        let now: Timestamp = "2026-11-27T23:00:00Z".parse().unwrap();
        assert_eq!((window.is_open(now), window.next_after(now)), (false, None));
    }

    #[rstest]
    #[case("0 2 * *", "4h", None, "schedule")]
    #[case("@daily", "4h", None, "schedule")]
    #[case("0 25 * * *", "4h", None, "schedule")]
    #[case("0 2 * * * Europe/Berlin", "4h", None, "schedule")]
    #[case("0 2 * * *", "4", None, "duration")]
    #[case("0 2 * * *", "30s", None, "duration")]
    #[case("0 2 * * *", "4h", Some("Berlin"), "timeZone")]
    fn what_cannot_be_read_is_named(
        #[case] schedule: &str,
        #[case] duration: &str,
        #[case] zone: Option<&str>,
        #[case] field: &str,
    ) {
        assert_eq!(window(schedule, duration, zone).unwrap_err().0, field);
    }
}
