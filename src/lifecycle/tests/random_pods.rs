//! Containers at random, the same for the same seed.

use serde_json::{Value, json};

use crate::lifecycle::spec::Kind;

/// splitmix64.
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn has_chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }
}

fn random_probe(random: &mut Random, readiness: bool) -> Value {
    let mut probe = json!({
        "exec": {},
        "periodSeconds": random.below(20) + 1,
        "initialDelaySeconds": random.below(5),
        "failureThreshold": random.below(3) + 1,
    });
    if readiness {
        probe["successThreshold"] = (random.below(3) + 1).into();
    } else if random.has_chance(30) {
        probe["terminationGracePeriodSeconds"] = (random.below(20) + 1).into();
    }
    probe
}

pub(super) fn random_container(random: &mut Random, name: String, kind: Kind) -> Value {
    let mut c = json!({"name": name, "image": "i"});
    if kind == Kind::Sidecar {
        c["restartPolicy"] = "Always".into();
    } else if random.has_chance(20) {
        c["restartPolicy"] = random.one_of(&["OnFailure", "Never"]).into();
    }
    if random.has_chance(15) {
        c["restartPolicyRules"] = json!([{
            "action": random.one_of(&["Restart", "RestartAllContainers"]),
            "exitCodes": {"operator": random.one_of(&["In", "NotIn"]), "values": [random.below(3)]},
        }]);
    }
    if kind != Kind::Init {
        for (name, readiness) in [("startupProbe", false), ("livenessProbe", false), ("readinessProbe", true)]
        {
            if random.has_chance(25) {
                c[name] = random_probe(random, readiness);
            }
        }
        for name in ["postStart", "preStop"] {
            if random.has_chance(25) {
                c["lifecycle"][name] = json!({"exec": {}});
            }
        }
    }
    c
}
