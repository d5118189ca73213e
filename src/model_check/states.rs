//! The walk over all orders of a small case. It goes on from each state once.
//!
//! A state is the store with its times, the node of each process (its answers, and the times when it read its clock),
//! the time, and the answers to clients. A process that stops for good needs no step of its own. To the others it looks
//! like a process that does not go on, and the walk covers all that they do meanwhile.
//!
//! The walk leaves out orders that cannot make a difference. It takes only the next step of a process, if that step
//! - touches nothing that any other process may still touch in a way that does not commute with it;
//! - changes nothing that the invariants look at, and makes no answer void;
//! - neither reads the clock nor writes a time as long as time can pass.
//!
//! The steps of the others before it can come after it just as well, and break there what they would have broken
//! before. The touches that a process may still make are those that it was seen to make from there on. While the walk
//! is under way, that is less than all. So the walk checks each such decision at its end, and starts anew if one was
//! wrong. Every mistake shows there: an order that was left out begins with steps that were walked after the step that
//! it was left out for. The first of them that does not commute with that step would have been seen there.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

mod given_up;

use super::{
    answers::Ack,
    broken::broken,
    bucket::{GiveUps, LEASE, Late, Map, Op, hash_of},
    event::Choice,
    play::{Case, RUNTIME, jumped},
    process::{Node, Process, Time, Touches},
    walk::{replayed, written},
};
use crate::{registry::Clock, storage::mutation};

/// The result of a walk.
pub(super) struct Walked {
    pub(super) states: usize,
    /// The number of steps of processes that ran to know the results of all.
    pub(super) steps: usize,
    /// True if nothing was left to walk.
    pub(super) finished: bool,
    pub(super) failure: Option<String>,
    /// The stores and answers with which it can end.
    ends: HashSet<u64>,
}

/// The answers that hold, and a hash of them that does not depend on their order.
#[derive(Clone, Default)]
struct Acked {
    all: Vec<Ack>,
    hash: u64,
}

#[derive(Clone)]
struct State {
    map: Rc<Map>,
    /// The node of each process.
    at: Vec<usize>,
    ticks: usize,
    /// The time that the store's clock shows.
    now: u64,
    /// True if the store's clock was set back.
    set_back: bool,
    /// The latest time that the store's clock has shown.
    latest: u64,
    /// The times that the clocks of the processes show.
    own: Vec<u64>,
    giveups: GiveUps,
    late: Rc<Vec<Late>>,
    acked: Rc<Acked>,
    /// The number of ticks since each process did something, less the ticks that could have passed before steps that
    /// were taken alone.
    stood: Vec<i8>,
    /// True if one operation took a lease.
    stalled: bool,
    from: usize,
}

/// The findings of a walk, which stay when the walk starts anew.
struct Walk<'a> {
    case: &'a Case,
    beginning: u64,
    processes: Vec<Process<'a>>,
    touches: Touches,
    /// The state before each state, and the choice that led to it.
    ways: Vec<(usize, Choice)>,
    seen: HashSet<u64>,
    checked: HashSet<u64>,
    stores: HashMap<u64, Rc<Map>>,
    /// The steps that were taken alone: the process, its node after the step, and the nodes of all processes before it.
    alone: HashSet<(usize, usize, Vec<usize>)>,
    /// True if steps are taken alone at all.
    reduces: bool,
    ends: HashSet<u64>,
}

/// Walks all orders of a case, unless it has more than `most` states.
pub(super) fn all_orders(case: &Case, most: usize) -> Walked {
    walked(case, most, true)
}

fn walked(case: &Case, most: usize, reduces: bool) -> Walked {
    let _runtime = RUNTIME.enter();
    mutation::WISHES.set(case.wishes);
    let clock = Clock::by_hand();
    clock.advance(case.passed);
    let beginning = clock.now_ms();
    let mut touches = Touches::default();
    let processes = (0..case.scripts.len()).map(|number| Process::new(case, number, &mut touches)).collect();
    let mut walk = Walk {
        case,
        beginning,
        processes,
        touches,
        ways: Vec::new(),
        seen: HashSet::new(),
        checked: HashSet::new(),
        stores: HashMap::new(),
        alone: HashSet::new(),
        reduces,
        ends: HashSet::new(),
    };
    let mut before = 0;
    let (finished, failure) = loop {
        let failure = walk.once(most.saturating_sub(before));
        before += walk.seen.len();
        match failure {
            Err(failure) => break (false, Some(failure)),
            Ok(finished) if !finished || walk.was_right() => break (finished, None),
            Ok(_) => {}
        }
    };
    let steps = walk.processes.iter().map(|process| process.nodes.len()).sum();
    let states = walk.seen.len();
    Walked { states, steps, finished, failure, ends: walk.ends }
}

impl Walk<'_> {
    /// Walks once, with the touches that were seen until now. Returns whether the walk came to its end.
    fn once(&mut self, most: usize) -> Result<bool, String> {
        let processes = self.processes.len();
        self.ways.clear();
        self.seen.clear();
        self.alone.clear();
        let first = State {
            map: Rc::new(Map::new(self.case.objects.clone())),
            at: vec![0; processes],
            ticks: self.case.ticks,
            now: self.beginning,
            set_back: false,
            latest: self.beginning,
            own: vec![self.beginning; processes],
            giveups: self.case.giveups,
            late: Rc::default(),
            acked: Rc::default(),
            stood: vec![0; processes],
            stalled: false,
            from: 0,
        };
        self.ways.push((0, Choice::Tick));
        let mut stack = vec![first];
        while let Some(state) = stack.pop() {
            if self.seen.len() >= most {
                return Ok(false);
            }
            if !self.seen.insert(state.hash()) {
                continue;
            }
            let (next, from) = (self.next(&state)?, state.from);
            for (choice, mut next) in next {
                if !self.seen.contains(&next.hash()) {
                    self.ways.push((from, choice));
                    next.from = self.ways.len() - 1;
                    self.check(&next)?;
                    stack.push(next);
                }
            }
        }
        Ok(true)
    }

    /// Returns the states that follow a state.
    fn next(&mut self, state: &State) -> Result<Vec<(Choice, State)>, String> {
        let mut all = Vec::new();
        for process in 0..self.processes.len() {
            let node = &self.processes[process].nodes[state.at[process]];
            if node.ended {
                continue;
            }
            let waiting = if self.case.any_of_many { node.waiting.len() } else { 1 };
            for nth in 0..waiting {
                let choice = Choice::Step(process, nth);
                let (next, anybody) = self.step(state, process, nth)?;
                if anybody && waiting == 1 {
                    return Ok(vec![(choice, next)]);
                }
                all.push((choice, next));
                if let Some(next) = self.give_up(state, process, nth)? {
                    all.push((Choice::GiveUp(process, nth), next));
                }
            }
        }
        let now = state.now;
        for (nth, late) in state.late.iter().enumerate() {
            if late.may_land(&state.map.objects, now) {
                all.push((Choice::Land(nth), self.land(state, nth)));
            }
        }
        if all.is_empty() {
            self.ends.insert(hash_of(&(state.map.hash, state.acked.hash)));
        } else if state.ticks > 0 {
            all.push((Choice::Tick, state.after(Choice::Tick)));
            let living =
                (0..self.processes.len()).filter(|process| !self.processes[*process].nodes[state.at[*process]].ended);
            let frozen = living.filter(|_| self.case.freezes).map(Choice::Freeze);
            let jumps = [true, false].into_iter().filter(|forward| self.case.jumps && !(*forward && state.set_back));
            all.extend(frozen.chain(jumps.map(Choice::Jump)).map(|choice| (choice, state.after(choice))));
        }
        Ok(all)
    }

    /// Adds the answers of a node. Returns whether they made other answers void.
    fn answer(state: &mut State, node: &Node) -> bool {
        if node.void.is_empty() && node.acked.is_empty() {
            return false;
        }
        let mut all = state.acked.all.clone();
        all.retain(|ack| !node.void.iter().any(|void| void(ack)));
        let voids = all.len() < state.acked.all.len();
        all.extend(node.acked.iter().cloned());
        let hash = all.iter().fold(0_u64, |hash, ack| hash.wrapping_add(hash_of(&format!("{ack:?}"))));
        state.acked = Rc::new(Acked { all, hash });
        voids
    }

    /// Returns the state after a step, and whether the step commutes with all that others can do.
    fn step(&mut self, state: &State, process: usize, nth: usize) -> Result<(State, bool), String> {
        let now = state.now;
        let here = state.at[process];
        let time = Time { store: now, own: state.own[process] };
        let child = self.processes[process].step(here, nth, &state.map, time, &mut self.touches);
        let touched = self.processes[process].nodes[child].touches.clone();
        let late = self.meets_late(state, &touched);
        let op = &self.processes[process].nodes[here].waiting[nth];
        let late = late || state.giveups.allows(op);
        let mut next = state.clone();
        next.at[process] = child;
        let changes = op.changes(&state.map);
        if changes {
            let mut map = (*state.map).clone();
            op.apply(&mut map, now);
            next.map = Rc::clone(self.stores.entry(map.hash).or_insert_with(|| Rc::new(map)));
        }
        let node = &self.processes[process].nodes[child];
        let voids = Self::answer(&mut next, node);
        let timely = state.ticks > 0 && (node.timely || matches!(op, Op::Put { .. }));
        let others = || (0..self.processes.len()).filter(|other| *other != process);
        let meets = others().any(|other| {
            let future = &self.processes[other].nodes[state.at[other]].future;
            self.touches.conflict(&node.touches, future)
        });
        let anybody = self.reduces
            && !timely
            && !voids
            && !meets
            && !late
            && node.failed.is_none()
            && !self.touches.show(&node.touches);
        let begins = matches!(op, Op::Begin(_));
        next.stalled |= state.stood[process] > 1 && !begins;
        next.stood[process] = if anybody { state.stood[process] - 1 } else { 0 };
        next.settle();
        if anybody {
            self.alone.insert((process, child, state.at.clone()));
        }
        if let Some(failed) = &node.failed {
            self.ways.push((state.from, Choice::Step(process, nth)));
            return Err(self.failure(self.ways.len() - 1, failed));
        }
        Ok((next, anybody))
    }

    /// Returns whether all steps that were taken alone could be.
    fn was_right(&self) -> bool {
        self.alone.iter().all(|(process, child, at)| {
            let touched = &self.processes[*process].nodes[*child].touches;
            let others = at.iter().enumerate().filter(|(other, _)| other != process);
            others.into_iter().all(|(other, node)| {
                let future = &self.processes[other].nodes[*node].future;
                !self.touches.conflict(touched, future)
            })
        })
    }

    fn check(&mut self, state: &State) -> Result<(), String> {
        let now = state.latest;
        if !self.checked.insert(hash_of(&(state.map.hash, state.acked.hash, now, state.stalled))) {
            return Ok(());
        }
        match broken(&state.map.objects, &state.acked.all, now, !state.stalled) {
            None => Ok(()),
            Some(what) => Err(self.failure(state.from, &what)),
        }
    }

    fn failure(&self, at: usize, what: &str) -> String {
        let mut way = Vec::new();
        let mut at = at;
        while at > 0 {
            let (before, choice) = self.ways[at];
            way.push(choice);
            at = before;
        }
        way.reverse();
        let schedule = written(way);
        replayed(self.case, &schedule).unwrap_or_else(|| {
            format!("{}: {what}\n  which only the walk sees; SCHEDULE='{schedule}'\n", self.case.name)
        })
    }
}

impl State {
    fn hash(&self) -> u64 {
        let times = (self.ticks, self.now, self.latest, self.set_back, &self.own);
        let late: Vec<u64> = self.late.iter().map(|late| hash_of(&(late.op.says(), late.asked))).collect();
        let late = (self.giveups, late);
        hash_of(&(self.map.hash, &self.at, times, self.acked.hash, &self.stood, self.stalled, late))
    }

    /// Returns this state after time has passed in one way or another.
    fn after(&self, choice: Choice) -> Self {
        let mut next = self.clone();
        next.ticks -= 1;
        if let Choice::Jump(forward) = choice {
            next.now = jumped(self.now, forward);
            next.set_back |= !forward;
            next.stood.iter_mut().for_each(|stood| *stood += 2 * i8::from(forward));
        } else {
            let half = u64::try_from(LEASE.as_millis() / 2).unwrap_or_default();
            next.now += half;
            let going = next.own.iter_mut().enumerate().filter(|(process, _)| choice != Choice::Freeze(*process));
            going.for_each(|(_, own)| *own += half);
            next.stood.iter_mut().for_each(|stood| *stood += 1);
        }
        next.latest = next.latest.max(next.now);
        next.settle();
        next
    }

    /// Makes states equal that cannot be told apart any more.
    fn settle(&mut self) {
        let ticks = i8::try_from(self.ticks).unwrap_or(i8::MAX);
        for stood in &mut self.stood {
            *stood = if self.stalled { 0 } else { (*stood).clamp(1 - ticks, 2) };
        }
    }
}

#[test]
fn orders_that_are_left_out_end_as_others_do() {
    for (name, ticks) in
        [("manifest put on an old grant, one scrub", 0), ("manifest put on an old grant, scrub, time", 1)]
    {
        let case = super::cases::cases().into_iter().find(|case| case.name == name).expect("there is such a case");
        let case = Case { ticks, ..case };
        let (whole, less) = (walked(&case, usize::MAX, false), walked(&case, usize::MAX, true));
        assert!(whole.finished && less.finished);
        assert!(less.states < whole.states, "{} of {} states", less.states, whole.states);
        assert!(whole.ends.len() > 1, "{name} can end in one way only");
        println!("{name}: {} of {} states, {} ends", less.states, whole.states, whole.ends.len());
        assert!(less.ends == whole.ends, "{name}: {} ends of {}", less.ends.len(), whole.ends.len());
    }
}
