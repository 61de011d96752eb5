//! Whose turn it is on the lab. Tests run side by side, each in its namespace; what one does to a node or to a
//! StorageClass it does to all of them, so such a test has the lab to itself.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The right to be on the lab.
pub enum Turn {
    BesideOthers { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

impl Turn {
    /// Waits for one. Who waits to be alone is not overtaken.
    pub async fn wait_for(alone: bool) -> Self {
        static LAB: RwLock<()> = RwLock::const_new(());
        Self::at(&LAB, alone).await
    }

    /// Each test has a runtime of its own; this lock is bound to none.
    async fn at(lab: &'static RwLock<()>, alone: bool) -> Self {
        if alone {
            Self::Alone { _guard: lab.write().await }
        } else {
            Self::BesideOthers { _guard: lab.read().await }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    const A_MOMENT: Duration = Duration::from_millis(200);

    /// Asks for a turn on a thread and a runtime of its own, as a test does.
    fn ask(lab: &'static RwLock<()>, alone: bool) -> Receiver<Turn> {
        let (send, turn) = channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            send.send(runtime.block_on(Turn::at(lab, alone)))
        });
        turn
    }

    #[test]
    fn a_test_that_must_be_alone_waits_for_the_others_and_they_for_it() {
        static LAB: RwLock<()> = RwLock::const_new(());
        let long = 100 * A_MOMENT;
        let first = ask(&LAB, false).recv_timeout(long).unwrap();
        let second = ask(&LAB, false).recv_timeout(long).unwrap();
        let alone = ask(&LAB, true);
        assert!(alone.recv_timeout(A_MOMENT).is_err(), "two are there");
        let late = ask(&LAB, false);
        drop(first);
        assert!(alone.recv_timeout(A_MOMENT).is_err(), "one is there");
        drop(second);
        let alone = alone.recv_timeout(long).unwrap();
        assert!(late.recv_timeout(A_MOMENT).is_err(), "one is alone");
        drop(alone);
        late.recv_timeout(long).unwrap();
    }
}
