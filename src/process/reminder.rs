//! Says what lasts again from time to time, instead of with every try or only once.

use std::time::Duration;
use tokio::time::Instant;

/// How often what has not changed is said again.
const EVERY: Duration = Duration::from_secs(30);

/// Remembers what was said last, and when.
#[derive(Debug, Default)]
pub(super) struct Reminder(Option<(String, Instant)>);

impl Reminder {
    /// Whether `text` is to be said at `now`: it is new, or was last said a while ago.
    pub(super) fn is_due(&mut self, text: &str, now: Instant) -> bool {
        let due = !matches!(&self.0, Some((said, at)) if said == text && now.duration_since(*at) < EVERY);
        if due {
            self.0 = Some((text.to_owned(), now));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_in_a_while_and_news_at_once() {
        let mut reminder = Reminder::default();
        let start = Instant::now();
        assert!(reminder.is_due("missing", start));
        assert!(!reminder.is_due("missing", start + Duration::from_secs(29)));
        assert!(reminder.is_due("missing", start + Duration::from_secs(30)));
        assert!(reminder.is_due("forbidden", start + Duration::from_secs(31)));
        assert!(reminder.is_due("missing", start + Duration::from_secs(32)));
    }
}
