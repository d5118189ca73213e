//! Writes and deletes that are given up, and land later, in the walk over all orders.

use std::rc::Rc;

use super::{
    super::{
        bucket::Late,
        event::Choice,
        process::{Set, Time},
    },
    State, Walk,
};

impl Walk<'_> {
    /// Lets a process give up on an operation, if it may.
    pub(super) fn give_up(&mut self, state: &State, process: usize, nth: usize) -> Result<Option<State>, String> {
        let here = state.at[process];
        let op = self.processes[process].nodes[here].waiting[nth].clone();
        if !state.giveups.allows(&op) {
            return Ok(None);
        }
        let now = state.now;
        let time = Time { store: now, own: state.own[process] };
        let child = self.processes[process].give_up(here, nth, time, &mut self.touches);
        let mut next = state.clone();
        next.giveups.count(&op);
        next.at[process] = child;
        Rc::make_mut(&mut next.late).push(Late::new(op, now));
        let node = &self.processes[process].nodes[child];
        Self::answer(&mut next, node);
        next.stalled |= state.stood[process] > 1;
        next.stood[process] = 0;
        next.settle();
        if let Some(failed) = &node.failed {
            self.ways.push((state.from, Choice::GiveUp(process, nth)));
            return Err(self.failure(self.ways.len() - 1, failed));
        }
        Ok(Some(next))
    }

    /// Lets an operation land that was given up.
    pub(super) fn land(&mut self, state: &State, nth: usize) -> State {
        let mut next = state.clone();
        let late = Rc::make_mut(&mut next.late).remove(nth);
        let mut map = (*state.map).clone();
        late.op.apply(&mut map, state.now);
        next.map = Rc::clone(self.stores.entry(map.hash).or_insert_with(|| Rc::new(map)));
        next
    }

    /// Returns whether a step with these touches does not commute with the operations that were given up and may land
    /// later.
    pub(super) fn meets_late(&mut self, state: &State, touches: &[usize]) -> bool {
        let mut late = Set::default();
        for touch in state.late.iter().filter_map(|late| late.op.touch(&state.map)) {
            late.insert(self.touches.number(touch));
        }
        self.touches.conflict(touches, &late)
    }
}
