//! One after another: who reads an object, compares it with what was seen of it and writes it, does that in a turn, so that of two
//! who change it at once each knows what the other has written.
//!
//! A turn is a lock of a directory that is there anyway: a pod's record, or the place of all kept objects. It says nothing of
//! whether a pod lives.

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::{Duration, Instant},
};

use super::{Home, PodDir, file_names::open_directory, name_claim::is_named};

/// The time for which a turn is waited for: whoever has it may have been stopped, or wait for a pod that hangs, and the next one
/// goes on without.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time after which it is tried for again.
const PAUSE: Duration = Duration::from_millis(2);

/// The turn to change something, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _lock: Option<File>,
}

impl Home {
    /// Waits for the turn to change kept objects.
    pub fn await_turn(&self) -> Turn {
        let dir = self.data.join("objects");
        if !dir.exists() {
            // Where it cannot be made, nothing can be kept in it either, which is told then.
            let _ = super::home::private_dir(&dir);
        }
        await_turn_in(&dir)
    }
}

impl PodDir {
    /// Waits for the turn to change this pod.
    pub fn await_turn(&self) -> Turn {
        await_turn_in(&self.path)
    }
}

fn await_turn_in(dir: &Path) -> Turn {
    let deadline = Instant::now() + PATIENCE;
    while let Ok(Some(directory)) = open_directory(dir) {
        let lock = File::from(directory);
        match lock.try_lock() {
            Ok(()) if is_named(&lock, dir) => return Turn { _lock: Some(lock) },
            // Another one has taken its place.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(_)) => break,
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Turn { _lock: None }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[test]
    fn of_many_that_change_something_at_once_one_has_the_turn() {
        let scratch = tempfile::tempdir().unwrap();
        let home = Home::at(&scratch.path().join("run"), &scratch.path().join("data")).unwrap();
        let (file, inside) = (scratch.path().join("count"), AtomicU32::new(0));
        fs::write(&file, "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _turn = home.await_turn();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        let count: u32 = fs::read_to_string(&file).unwrap().parse().unwrap();
                        fs::write(&file, (count + 1).to_string()).unwrap();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(fs::read_to_string(&file).unwrap(), "200");
    }
}
