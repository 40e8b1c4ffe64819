//! R-EPH-1: containers that join a running pod; never restarted, gone with the pod.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer};

use super::{Action, Now, Spec, State, advance, spec::Kind, state::Phase};

impl Spec {
    /// Takes an ephemeral container in; [`super::Event::AddEphemeralContainer`] follows.
    pub fn add_ephemeral(&mut self, added: &EphemeralContainer) {
        self.containers.push((Kind::Ephemeral, as_container(added)));
    }

    /// Every container: init, app and ephemeral ones.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().map(|(_, c)| c)
    }

    /// The ephemeral container of that name.
    pub fn ephemeral(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|(k, c)| *k == Kind::Ephemeral && c.name == name).map(|(_, c)| c)
    }
}

/// The fields that both kinds have.
fn as_container(added: &EphemeralContainer) -> Container {
    let added = added.clone();
    Container {
        name: added.name,
        image: added.image,
        command: added.command,
        args: added.args,
        working_dir: added.working_dir,
        env: added.env,
        env_from: added.env_from,
        volume_mounts: added.volume_mounts,
        volume_devices: added.volume_devices,
        image_pull_policy: added.image_pull_policy,
        security_context: added.security_context,
        stdin: added.stdin,
        stdin_once: added.stdin_once,
        tty: added.tty,
        termination_message_path: added.termination_message_path,
        termination_message_policy: added.termination_message_policy,
        ..Container::default()
    }
}

/// The container that [`Spec::add_ephemeral`] took in gets its state, and its image is asked for.
pub(super) fn added(spec: &Spec, state: &mut State, actions: &mut Vec<Action>) {
    for at in state.all.len()..spec.containers.len() {
        state.all.push(State::one(spec, at));
        advance::pull(spec, state, at, actions);
    }
}

/// They start as soon as their image is there, beside everything else.
pub(super) fn start(spec: &Spec, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    for at in 0..state.all.len() {
        let due = match &state.all[at].phase {
            Phase::Waiting => true,
            Phase::NotCreated { retry, .. } => *retry <= now.monotonic,
            _ => false,
        };
        if due && spec.kind(at) == Kind::Ephemeral {
            advance::start(spec, state, at, actions);
        }
    }
}
