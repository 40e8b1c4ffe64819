//! Carrying out the lifecycle's actions.

use super::{Supervisor, event_recorder::Happened};
use crate::lifecycle::{Action, Run};
use crate::pod::PodExt;

impl Supervisor {
    pub(super) fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.records.trace.mark_action(&action);
            match action {
                Action::PullImage { container } => self.pull(&container),
                Action::CreateContainer { run } => self.create_ahead(&run),
                Action::StartContainer { run } => self.start(run),
                Action::Signal { run, signal } => {
                    let cgroup = |run| self.live.get(run).and_then(|live| live.cgroup.as_ref());
                    if signal == libc::SIGKILL
                        && let Some(cgroup) = cgroup(&run)
                    {
                        // The signal below reaches the first process; what it leaves behind ends with the container.
                        let _ = cgroup.kill();
                    }
                    // One that is gone already needs no signal.
                    let _ = self.live.get(&run).map(|live| live.process.signal(signal));
                }
                Action::RunHook { run, hook, timeout } => self.run_hook(run, hook, timeout),
                Action::RunProbe { run, probe } => self.run_probe(run, probe),
                Action::Resize { run } => self.resize(run),
                Action::ResizePod => self.resize_pod(),
                Action::Record(record) => {
                    self.records.events.write(Happened::now(record));
                    self.client.has_news = true;
                }
                Action::Finish => {
                    self.give_up_the_made();
                    self.finished = true;
                }
            }
        }
    }

    pub(super) fn container_id(&self, run: &Run) -> String {
        format!("podctl://{}/{}/{}", self.pod.uid(), run.container, run.attempt)
    }
}
