//! Which endpoint a connection from this machine to a published Service goes to. PURE.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// Clients that are remembered for their endpoint's sake.
const REMEMBERED: usize = 4096;

/// Names whose turn it is, and who has an endpoint of their own (`sessionAffinity: ClientIP`).
#[derive(Debug, Default)]
pub struct Choice {
    turn: usize,
    known: HashMap<IpAddr, (SocketAddr, Instant)>,
}

impl Choice {
    /// One after the other; with `affinity` a client gets the same one until it has stayed away for so long.
    pub fn next(
        &mut self,
        endpoints: &[SocketAddr],
        client: IpAddr,
        affinity: Option<Duration>,
        now: Instant,
    ) -> Option<SocketAddr> {
        let Some(affinity) = affinity else { return self.turn(endpoints) };
        let known = self.known.get(&client);
        let known =
            known.filter(|(to, at)| now - *at < affinity && endpoints.contains(to)).map(|(to, _)| *to);
        let to = known.or_else(|| self.turn(endpoints))?;
        if self.known.len() >= REMEMBERED {
            self.known.retain(|_, (_, at)| now - *at < affinity);
        }
        if self.known.len() < REMEMBERED || self.known.contains_key(&client) {
            self.known.insert(client, (to, now));
        }
        Some(to)
    }

    fn turn(&mut self, endpoints: &[SocketAddr]) -> Option<SocketAddr> {
        self.turn = self.turn.wrapping_add(1);
        endpoints.get(self.turn.checked_rem(endpoints.len())?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_keeps_its_endpoint_while_that_serves_and_the_time_has_not_run_out() {
        let endpoints: Vec<SocketAddr> = (2..5).map(|n| ([10, 213, 0, n], 80).into()).collect();
        let client = IpAddr::from([127, 0, 0, 1]);
        let (mut choice, now) = (Choice::default(), Instant::now());
        let hour = Some(Duration::from_secs(3600));
        let mut next = |endpoints: &[SocketAddr], affinity, after| {
            choice.next(endpoints, client, affinity, now + Duration::from_secs(after)).unwrap()
        };
        assert_ne!(next(&endpoints, None, 0), next(&endpoints, None, 0));
        let own = next(&endpoints, hour, 0);
        assert_eq!(next(&endpoints, hour, 3000), own);
        assert_eq!(next(&endpoints, hour, 6000), own, "each connection begins the time anew");
        let rest: Vec<SocketAddr> = endpoints.iter().copied().filter(|e| *e != own).collect();
        let other = next(&rest, hour, 6001);
        assert_eq!(next(&endpoints, hour, 6002), other, "it has moved for good");
        assert_ne!(next(&endpoints, hour, 9999), other, "the time has run out, and it is another's turn");
    }
}
