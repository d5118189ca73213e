//! Writes that a process gives up, and that land later.

use super::{super::late::Late, Answer, Bucket, Op};

impl Bucket {
    /// Lets a process give up on the `nth` of them, which is a write; what it was.
    pub(in crate::scrub::interleavings) fn give_up(&self, process: usize, nth: usize) -> Op {
        let op = self.waiting(process).swap_remove(nth);
        self.inner().late.push(Late { op: op.clone(), asked: self.clock.peek_ms() });
        self.tell(process, nth, Answer::GivenUp);
        op
    }

    /// Counts the writes that were given up and have not landed.
    pub(in crate::scrub::interleavings) fn late(&self) -> usize {
        self.inner().late.len()
    }

    /// Returns whether one of them may land now.
    pub(in crate::scrub::interleavings) fn may_land(&self, nth: usize) -> bool {
        let inner = self.inner();
        inner.late.get(nth).is_some_and(|late| late.may_land(&inner.map.objects, self.clock.peek_ms()))
    }

    /// Lets one of them land; what it was.
    pub(in crate::scrub::interleavings) fn land(&self, nth: usize) -> Op {
        let mut inner = self.inner();
        let late = inner.late.remove(nth);
        late.op.apply(&mut inner.map, self.clock.peek_ms());
        late.op
    }
}
