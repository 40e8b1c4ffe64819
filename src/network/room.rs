//! Room for connections in one process: whoever serves many parties admits each as long as it takes no more than is left.
//!
//! Promises: a party that floods never takes the last place. Its share is at most what is free beside it: alone it may have
//! half of all, beside one other flood a third (Choudhury and Hahne, "Dynamic queue length thresholds", 1998).

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::Hash,
    io,
    rc::Rc,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Notify;

/// Raises the soft limit of descriptors to the hard one and gives it. What was set for a user's shell, usually 1,024, is
/// for programs that call select(2).
///
/// # Errors
/// Those of getrlimit(2).
pub fn raise_descriptor_limit() -> io::Result<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    Ok(usize::try_from(raised).unwrap_or(usize::MAX))
}

/// The number of places, and who has how many of them.
#[derive(Debug)]
pub struct Room<P> {
    places: usize,
    taken: Cell<usize>,
    shares: RefCell<HashMap<P, usize>>,
    freed: Notify,
}

impl<P: Clone + Eq + Hash> Room<P> {
    /// Makes a room of so many places.
    pub fn new(places: usize) -> Rc<Room<P>> {
        let shares = RefCell::default();
        Rc::new(Room { places, taken: Cell::new(0), shares, freed: Notify::new() })
    }

    /// Takes a place, if the party may have one more.
    pub fn try_take(self: &Rc<Self>, party: &P) -> Option<Place<P>> {
        let mut shares = self.shares.borrow_mut();
        let own = shares.get(party).copied().unwrap_or(0);
        if own >= self.places - self.taken.get() {
            return None;
        }
        shares.insert(party.clone(), own + 1);
        self.taken.set(self.taken.get() + 1);
        Some(Place { room: self.clone(), party: party.clone() })
    }

    /// Waits for a place.
    pub async fn take(self: &Rc<Self>, party: &P) -> Place<P> {
        loop {
            // Made before the look, so that no place is freed unheard in between.
            let freed = self.freed.notified();
            if let Some(place) = self.try_take(party) {
                return place;
            }
            freed.await;
        }
    }
}

/// The place; dropping it frees it.
#[derive(Debug)]
pub struct Place<P: Clone + Eq + Hash> {
    room: Rc<Room<P>>,
    party: P,
}

impl<P: Clone + Eq + Hash> Drop for Place<P> {
    fn drop(&mut self) {
        let mut shares = self.room.shares.borrow_mut();
        if let Some(own) = shares.get_mut(&self.party) {
            *own -= 1;
            if *own == 0 {
                shares.remove(&self.party);
            }
        }
        self.room.taken.set(self.room.taken.get() - 1);
        self.room.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_that_floods_leaves_places_for_every_other() {
        let room = Room::new(12);
        let flood = |party: u8| std::iter::from_fn(|| room.try_take(&party)).collect::<Vec<_>>();
        let first = flood(1);
        assert_eq!(first.len(), 6);
        let second = flood(2);
        assert_eq!(second.len(), 3);
        assert_eq!(flood(3).len(), 2);
        drop(first);
        assert_eq!(flood(1).len(), 5);
        drop(second);
        assert_eq!(room.taken.get(), 0);
        assert!(room.shares.borrow().is_empty());
    }
}
