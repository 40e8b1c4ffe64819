//! The pod's place on the network while the pod lives: a keeper that is killed is followed by another; a network that stays
//! away is told to whoever looks at the pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::{Supervisor, event_recorder::Happened, poll::Source};
use crate::{
    lifecycle::Record,
    network::{Joined, Member},
    pod::{PodExt, ServiceLink},
};

/// The time for which the network may be without a keeper before the pod says so. The guard has another one
/// there within a second.
const PATIENCE: Duration = Duration::from_secs(4);

/// The condition that a kubelet sets when the pod's sandbox and its network stand.
const CONDITION: &str = "PodReadyToStartContainers";
const LOST: &str = "NetworkLost";
const WHY: &str = "the process that keeps the pods' network was killed, and those that guard it: names, published ports \
    and the outside are gone until the next podctl command brings them back";

/// Finds the Services that the pod's containers have among their variables from now on.
pub(super) fn find_service_links(pod: &Pod, joined: Option<&Joined>) -> Vec<ServiceLink> {
    joined.filter(|_| pod.has_service_links()).map(|joined| joined.services.clone()).unwrap_or_default()
}

/// The pod's place on the network, where it has one.
pub(super) struct Membership {
    pub member: Option<Member>,
    /// Tells that it has had no keeper for long.
    pub is_lost: bool,
}

impl Supervisor {
    /// Hears from the network's keeper, or that it is gone.
    pub(super) fn hear_network(&mut self) {
        let over = self.network.member.as_mut().and_then(Member::hear);
        self.sandbox.facts.services =
            find_service_links(&self.pod, self.network.member.as_ref().map(|n| &n.joined));
        over.iter().for_each(|socket| self.poll.forget(socket));
    }

    /// Joins the network's next keeper, and tells when there has been none for long, and when there is one again.
    pub(super) fn rejoin_network(&mut self) {
        let Some(network) = &mut self.network.member else { return };
        if network.rejoin(&self.home)
            && let Some(socket) = &network.socket
        {
            // Unheard, the network's next end is found by the next look.
            let _ = self.poll.add(socket, Source::Network);
        }
        let lost = network.lost_for().is_some_and(|time| time > PATIENCE);
        if lost != self.network.is_lost {
            self.network.is_lost = lost;
            self.changed = true;
            let (reason, message) = match lost {
                true => (LOST, WHY.to_owned()),
                false => ("NetworkRestored", "the pods' network is there again".to_owned()),
            };
            let record = Record { warning: lost, reason, message, container: None };
            self.records.events.write(Happened::now(record));
        }
    }

    /// Says in a status that the network is lost.
    pub(super) fn mark_network(&self, status: &mut PodStatus) {
        let conditions = status.conditions.iter_mut().flatten();
        for condition in conditions.filter(|c| self.network.is_lost && c.type_ == CONDITION) {
            condition.status = "False".to_owned();
            condition.reason = Some(LOST.to_owned());
            condition.message = Some(WHY.to_owned());
        }
    }
}
