//! A process as a function of its answers: it gives the next operation, and the answers to its client.
//!
//! A future cannot be cloned. But its behaviour depends only on the answers that it got, and on the times at which it
//! read its clock. So each step runs once, and a walk that comes by again uses the known result. To branch off from an
//! earlier step, the process begins anew and gets all its answers again, without a store and without the other
//! processes.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    answers::{Ack, Answers, Void},
    bucket::{Answer, Bucket, Map, Objects, Op},
    event::Touch,
    play::{Case, Player},
};
use crate::storage::mutation::{self, Mutation};

/// A set of small numbers.
#[derive(Clone, Default)]
pub(super) struct Set(Vec<u64>);

impl Set {
    /// Adds a number. Returns whether it is new.
    pub(super) fn insert(&mut self, number: usize) -> bool {
        let (word, bit) = (number / 64, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(one, two)| one & two != 0)
    }
}

/// All touches of any process so far, by number, and the pairs that do not commute.
#[derive(Default)]
pub(super) struct Touches {
    all: Vec<Touch>,
    numbers: HashMap<Touch, usize>,
    conflicts: Vec<Set>,
}

impl Touches {
    pub(super) fn number(&mut self, touch: Touch) -> usize {
        if let Some(number) = self.numbers.get(&touch) {
            return *number;
        }
        let number = self.all.len();
        self.all.push(touch.clone());
        self.conflicts.push(Set::default());
        for (other, with) in self.all.iter().enumerate() {
            if with.conflicts(&touch) {
                self.conflicts[other].insert(number);
                self.conflicts[number].insert(other);
            }
        }
        self.numbers.insert(touch, number);
        number
    }

    /// Returns whether one of a process's touches does not commute with one of the others'.
    pub(super) fn conflict(&self, own: &[usize], others: &Set) -> bool {
        own.iter().any(|touch| self.conflicts[*touch].meets(others))
    }

    /// Returns whether one of these touches writes an object that the invariants look at.
    pub(super) fn show(&self, these: &[usize]) -> bool {
        these.iter().any(|touch| self.all[*touch].shows())
    }
}

/// The time of the clocks when a process gets an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Time {
    /// The store's, in milliseconds since 1970.
    pub(super) store: u64,
    /// The process's own.
    pub(super) own: u64,
}

impl Time {
    fn ahead(self) -> i64 {
        self.store.cast_signed() - self.own.cast_signed()
    }
}

/// A place in the life of a process.
pub(super) struct Node {
    /// The step that led here: the node before, the operation that was let through, the times, and the answer.
    before: Option<(usize, usize, Time, Answer)>,
    /// The time by which the process has seen the store's clock ahead of its own.
    ahead: i64,
    /// The operations that it waits for.
    pub(super) waiting: Rc<Vec<Op>>,
    pub(super) ended: bool,
    /// True if it read its clock in that step.
    pub(super) timely: bool,
    pub(super) acked: Vec<Ack>,
    pub(super) void: Vec<Void>,
    pub(super) failed: Option<String>,
    /// The touches of that step.
    pub(super) touches: Vec<usize>,
    /// All touches that the process was ever seen to make from here on.
    pub(super) future: Set,
}

/// A process that can go on from a node.
struct Live {
    /// The time at which it began to wait.
    since: Instant,
    player: Player,
    bucket: Arc<Bucket>,
    answers: Arc<Mutex<Answers>>,
}

/// A process with all its nodes so far.
pub(super) struct Process<'a> {
    case: &'a Case,
    number: usize,
    pub(super) nodes: Vec<Node>,
    children: HashMap<(usize, usize, u64, Option<Time>), usize>,
    live: HashMap<usize, Live>,
    /// The nodes in `live`, the last used one at the end.
    recent: VecDeque<usize>,
}

/// The number of running processes that are kept. Each has a registry of its own.
const KEPT: usize = 256;
/// The longest time that a running process is kept: less than any time limit of the store.
const PATIENCE: Duration = Duration::from_secs(5);

impl<'a> Process<'a> {
    pub(super) fn new(case: &'a Case, number: usize, touches: &mut Touches) -> Self {
        let mut process = Self {
            case,
            number,
            nodes: Vec::new(),
            children: HashMap::new(),
            live: HashMap::new(),
            recent: VecDeque::new(),
        };
        let live = process.begin();
        process.add(None, 0, live, true, Vec::new(), touches);
        process
    }

    /// Returns the process at a node. A process that has waited too long begins anew, since the time limits of the store
    /// are real.
    fn live(&mut self, node: usize) -> Live {
        let live = self.live.remove(&node).filter(|live| live.since.elapsed() < PATIENCE);
        live.unwrap_or_else(|| self.replay(node))
    }

    fn begin(&self) -> Live {
        let bucket = Bucket::new(Objects::new(), self.case.passed, self.case.scripts.len());
        let answers = Arc::new(Mutex::new(Answers::default()));
        let mut player = self.case.player(self.number, &bucket, &answers);
        player.go_on(&bucket, self.number);
        Live { since: Instant::now(), player, bucket, answers }
    }

    /// Returns the node after this one if the operation is let through now, with this store.
    pub(super) fn step(&mut self, node: usize, nth: usize, map: &Map, now: Time, touches: &mut Touches) -> usize {
        let waiting = Rc::clone(&self.nodes[node].waiting);
        let op = &waiting[nth];
        let answer = op.hash_of_answer(map);
        // news of the store's clock is part of the answer
        let news = now.ahead() != self.nodes[node].ahead;
        let whenever = if news { None } else { self.children.get(&(node, nth, answer, None)) };
        let known = whenever.or_else(|| self.children.get(&(node, nth, answer, Some(now))));
        if let Some(child) = known {
            return *child;
        }
        let told = op.answer(map);
        let mut live = self.live(node);
        let timely = self.tell(&mut live, nth, now, told.clone()) || news;
        let did = op.touch(map).into_iter().collect();
        let child = self.add(Some((node, nth, now, told)), now.ahead(), live, timely, did, touches);
        self.children.insert((node, nth, answer, timely.then_some(now)), child);
        child
    }

    /// Returns the node after this one if the process gives up on a write.
    pub(super) fn give_up(&mut self, node: usize, nth: usize, now: Time, touches: &mut Touches) -> usize {
        // no answer of a store has this hash
        const GIVEN_UP: u64 = u64::MAX;
        let known = [None, Some(now)].into_iter().find_map(|at| self.children.get(&(node, nth, GIVEN_UP, at)));
        if let Some(child) = known {
            return *child;
        }
        let mut live = self.live(node);
        let did = self.nodes[node].waiting[nth].touch(&Map::default()).into_iter().collect();
        let timely = self.tell(&mut live, nth, now, Answer::GivenUp);
        // without an answer it learns nothing of the store's clock
        let ahead = self.nodes[node].ahead;
        let child = self.add(Some((node, nth, now, Answer::GivenUp)), ahead, live, timely, did, touches);
        self.children.insert((node, nth, GIVEN_UP, timely.then_some(now)), child);
        child
    }

    /// Gives the process an answer, and runs it to its next operation. Returns whether it read its clock.
    fn tell(&self, live: &mut Live, nth: usize, now: Time, answer: Answer) -> bool {
        let clocks = [&live.bucket.clock, live.bucket.clock_of(Some(self.number))];
        // this may set them back; the process did not read them since
        for (clock, now) in clocks.into_iter().zip([now.store, now.own]) {
            clock.set_ms(now);
        }
        let looks = |bucket: &Bucket| bucket.clock.looks() + bucket.clock_of(Some(self.number)).looks();
        let before = looks(&live.bucket);
        mutation::TIME.set(now.store);
        live.bucket.tell(self.number, nth, answer);
        live.player.go_on(&live.bucket, self.number);
        live.since = Instant::now();
        looks(&live.bucket) > before || mutation::mutated(Mutation::ClockAfterLook)
    }

    fn replay(&self, node: usize) -> Live {
        let mut way = vec![node];
        while let Some((before, ..)) = self.nodes[way[way.len() - 1]].before {
            way.push(before);
        }
        let mut live = self.begin();
        for node in way.iter().rev() {
            if let Some((_, nth, now, answer)) = &self.nodes[*node].before {
                self.tell(&mut live, *nth, *now, answer.clone());
            }
        }
        let mut answers = live.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers = Answers::default();
        drop(answers);
        assert!(
            live.bucket.waiting(self.number) == *self.nodes[node].waiting,
            "{}: process {} does something else when it is told the same",
            self.case.name,
            self.number
        );
        live
    }

    fn add(
        &mut self,
        before: Option<(usize, usize, Time, Answer)>,
        ahead: i64,
        live: Live,
        timely: bool,
        mut did: Vec<Touch>,
        touches: &mut Touches,
    ) -> usize {
        let node = self.nodes.len();
        let answers = std::mem::take(&mut *live.answers.lock().unwrap_or_else(PoisonError::into_inner));
        if !answers.acked.is_empty() {
            did.push(Touch::Answered);
        }
        if !answers.void.is_empty() {
            did.push(Touch::Voided);
        }
        let waiting = live.bucket.waiting(self.number);
        let nothing = Map::default();
        let soon: Vec<usize> =
            waiting.iter().filter_map(|op| op.touch(&nothing)).map(|it| touches.number(it)).collect();
        let own: Vec<usize> = did.into_iter().map(|touch| touches.number(touch)).collect();
        let parent = before.as_ref().map(|(parent, ..)| *parent);
        self.nodes.push(Node {
            before,
            ahead,
            waiting: Rc::new(waiting),
            ended: live.player.task.is_none(),
            timely,
            acked: answers.acked,
            void: answers.void,
            failed: answers.failed.first().cloned(),
            touches: own.clone(),
            future: Set::default(),
        });
        for touch in soon {
            self.expect(node, touch);
        }
        if let Some(parent) = parent {
            for touch in own {
                self.expect(parent, touch);
            }
        }
        if !self.nodes[node].ended {
            self.live.insert(node, live);
            self.recent.push_back(node);
            if self.recent.len() > KEPT
                && let Some(oldest) = self.recent.pop_front()
            {
                self.live.remove(&oldest);
            }
        }
        node
    }

    /// Records that the process may touch something from this node on.
    fn expect(&mut self, node: usize, touch: usize) {
        let mut node = Some(node);
        while let Some(at) = node.filter(|at| self.nodes[*at].future.insert(touch)) {
            node = self.nodes[at].before.as_ref().map(|(before, ..)| *before);
        }
    }
}
