//! What a test says though it passes. libtest keeps what `println!` and `eprintln!` print, and shows it of failed
//! tests only; the receipts of those that pass are what the figures of an upgrade are read from.

use std::io::Write as _;

/// Writes a line that begins with the test's name past libtest, as a whole: other tests write theirs.
pub fn say(line: &str) {
    let thread = std::thread::current();
    // libtest names the thread of a test after it.
    let _ = writeln!(std::io::stderr(), "{}: {line}", thread.name().unwrap_or("a test"));
}
