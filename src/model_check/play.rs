//! One run of a case: a chooser lets processes through one operation at a time.

use std::{
    rc::Rc,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::Duration,
};

use super::{
    actor::{Client, Task},
    answers::Answers,
    broken::broken,
    bucket::{Bucket, GiveUps, LEASE, Objects, Op, hash_of},
    event::{Choice, Event},
    service::Way,
};
use crate::{action::seeded, storage::mutation};

/// The operations of a process.
pub(super) type Script = Rc<dyn Fn(Client) -> Task>;

/// A store at the beginning, and the processes that work on it.
#[derive(Clone)]
#[allow(clippy::struct_excessive_bools, reason = "a case is a table of what may happen in it")]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) objects: Objects,
    /// The age of the store.
    pub(super) passed: Duration,
    pub(super) scripts: Vec<Script>,
    /// The number of times that half a lease passes.
    pub(super) ticks: usize,
    /// True if the clocks of a process may stand still while time passes.
    pub(super) freezes: bool,
    /// True if the store's clock may step instead of half a lease passing.
    pub(super) jumps: bool,
    /// The number of processes that may stop for good.
    pub(super) mortal: usize,
    /// The number of writes and deletes that may be given up.
    pub(super) giveups: GiveUps,
    /// True if processes write wishes for a lease.
    pub(super) wishes: bool,
    /// True if scrub keeps untagged manifests.
    pub(super) keeps: bool,
    /// True if listings are ordered, as in a bucket.
    pub(super) ordered: bool,
    /// The number of keys that a listing sees at one moment.
    pub(super) page: usize,
    /// True if a walk over all orders lets any of a process's waiting operations through, and not only the first.
    pub(super) any_of_many: bool,
    /// The seed of random names and ids.
    pub(super) seed: u64,
    /// The script that runs alone after all processes have ended.
    pub(super) after: Option<Script>,
}

impl Case {
    /// Returns a process of this case, before its first step.
    pub(super) fn player(&self, process: usize, bucket: &Arc<Bucket>, answers: &Arc<Mutex<Answers>>) -> Player {
        let way = Way {
            bucket: Arc::clone(bucket),
            process: Some(process),
            page: self.page,
            dated: self.ordered,
            gave_up: Arc::default(),
        };
        let actor = Client::new(process, way, self.ordered, self.keeps, Arc::clone(answers));
        Player::new(self.scripts[process](actor), hash_of(&(self.seed, process)))
    }
}

/// The result of a run.
pub(super) struct Played {
    pub(super) events: Vec<Event>,
    pub(super) broken: Option<String>,
    pub(super) log: Vec<String>,
}

/// A chooser of the next event, or of the end.
pub(super) trait Chooser {
    fn choose(&mut self, stage: &Stage<'_>) -> Option<Choice>;
}

/// The runtime for tasks that futures spawn, such as hashing. The test's own thread polls the futures themselves.
pub(super) static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime can be made")
});

struct Awake {
    woken: AtomicBool,
    thread: Thread,
}

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// The longest time that a process may be busy with something else than the store.
const BUSY: Duration = Duration::from_secs(20);

/// A process, as the stage sees it.
pub(super) struct Player {
    pub(super) task: Option<Task>,
    awake: Arc<Awake>,
    waker: Waker,
    random: u64,
}

impl Player {
    pub(super) fn new(task: Task, random: u64) -> Self {
        let awake = Arc::new(Awake { woken: AtomicBool::new(true), thread: std::thread::current() });
        let waker = Waker::from(Arc::clone(&awake));
        Self { task: Some(task), awake, waker, random }
    }

    /// Runs the process until it has ended, or waits at the gate.
    pub(super) fn go_on(&mut self, bucket: &Bucket, process: usize) {
        let began = std::time::Instant::now();
        while let Some(task) = self.task.as_mut() {
            if self.awake.woken.swap(false, Ordering::SeqCst) {
                let mut context = Context::from_waker(&self.waker);
                if let Poll::Ready(()) = seeded::with(&mut self.random, || task.as_mut().poll(&mut context)) {
                    self.task = None;
                }
            } else if bucket.waits(process) > 0 {
                return;
            } else {
                assert!(began.elapsed() < BUSY, "process {process} waits for something else than the store");
                std::thread::park_timeout(Duration::from_millis(100));
            }
        }
    }
}

/// A run under way.
pub(super) struct Stage<'a> {
    pub(super) case: &'a Case,
    pub(super) bucket: Arc<Bucket>,
    players: Vec<Player>,
    ticks: usize,
    /// True if the store's clock was set back.
    set_back: bool,
    /// The latest time that the store's clock has shown.
    latest: u64,
    giveups: GiveUps,
    /// The number of ticks since each process did something.
    stood: Vec<usize>,
    /// True if one operation took a lease: its process may notice that too late.
    stalled: bool,
    pub(super) events: Vec<Event>,
}

impl Stage<'_> {
    pub(super) fn lives(&self, process: usize) -> bool {
        self.players[process].task.is_some()
    }

    pub(super) fn over(&self) -> bool {
        self.players.iter().all(|player| player.task.is_none())
    }

    pub(super) fn may(&self, choice: Choice) -> bool {
        match choice {
            Choice::Tick => self.ticks > 0,
            Choice::Freeze(process) => self.case.freezes && self.ticks > 0 && self.lives(process),
            // no process can see a step back that is undone before the next question to the store
            Choice::Jump(forward) => self.case.jumps && self.ticks > 0 && !(forward && self.set_back),
            Choice::Kill(process) => process < self.case.mortal && self.lives(process),
            Choice::Step(process, nth) => self.lives(process) && nth < self.bucket.waits(process),
            Choice::GiveUp(process, nth) => {
                self.lives(process) && self.bucket.waiting(process).get(nth).is_some_and(|op| self.giveups.allows(op))
            }
            Choice::Land(nth) => self.bucket.may_land(nth),
        }
    }

    /// Carries out a choice. Returns whether it changed the store.
    fn act(&mut self, choice: Choice) -> bool {
        let (mut says, mut changed) = (String::new(), false);
        match choice {
            Choice::Tick | Choice::Freeze(_) => {
                self.ticks -= 1;
                self.stood.iter_mut().for_each(|stood| *stood += 1);
                let frozen = if let Choice::Freeze(process) = choice { Some(process) } else { None };
                self.bucket.pass(LEASE / 2, frozen);
            }
            Choice::Jump(forward) => {
                self.ticks -= 1;
                self.set_back |= !forward;
                self.stood.iter_mut().for_each(|stood| *stood += 2 * usize::from(forward));
                self.bucket.clock.set_ms(jumped(self.bucket.clock.peek_ms(), forward));
            }
            Choice::Kill(process) => self.players[process].task = None,
            Choice::GiveUp(process, nth) => {
                let op = self.bucket.give_up(process, nth);
                self.giveups.count(&op);
                says = op.says();
                self.stalled |= std::mem::take(&mut self.stood[process]) > 1;
                self.players[process].go_on(&self.bucket, process);
            }
            Choice::Land(nth) => (says, changed) = (self.bucket.land(nth).says(), true),
            Choice::Step(process, nth) => {
                let op = self.bucket.grant(process, nth);
                self.stalled |= std::mem::take(&mut self.stood[process]) > 1 && !matches!(op, Op::Begin(_));
                changed = matches!(op, Op::Put { .. } | Op::Delete(_));
                says = op.says();
                self.players[process].go_on(&self.bucket, process);
            }
        }
        self.latest = self.latest.max(self.bucket.clock.peek_ms());
        self.events.push(Event { choice, says });
        changed
    }
}

/// Returns the time that the store's clock shows after a step of a lease.
pub(super) fn jumped(now: u64, forward: bool) -> u64 {
    let lease = u64::try_from(LEASE.as_millis()).unwrap_or_default();
    if forward { now + lease } else { now - lease }
}

/// Plays a case as `chooser` says, until it is over or an invariant is broken.
pub(super) fn play(case: &Case, chooser: &mut dyn Chooser) -> Played {
    let _runtime = RUNTIME.enter();
    mutation::WISHES.set(case.wishes);
    let answers = Arc::new(Mutex::new(Answers::default()));
    let bucket = Bucket::new(case.objects.clone(), case.passed, case.scripts.len());
    let players = (0..case.scripts.len()).map(|process| case.player(process, &bucket, &answers)).collect();
    let mut stage = Stage {
        case,
        bucket,
        players,
        ticks: case.ticks,
        set_back: false,
        latest: 0,
        giveups: case.giveups,
        stood: vec![0; case.scripts.len()],
        stalled: false,
        events: Vec::new(),
    };
    for process in 0..stage.players.len() {
        stage.players[process].go_on(&stage.bucket, process);
    }
    let mut played = Played { events: Vec::new(), broken: None, log: Vec::new() };
    loop {
        let choice = if stage.over() {
            // operations that were given up land at last
            (0..stage.bucket.late()).map(Choice::Land).find(|land| stage.may(*land))
        } else {
            chooser.choose(&stage)
        };
        let Some(choice) = choice else { break };
        mutation::TIME.set(stage.bucket.clock.now_ms());
        let changed = stage.act(choice);
        let answers = answers.lock().expect("no test panics while it holds the answers");
        let now = stage.latest;
        let of_store = |objects: &Objects| broken(objects, &answers.acked, now, !stage.stalled);
        played.broken = answers.failed.first().cloned();
        if played.broken.is_none() && (changed || stage.over()) {
            played.broken = stage.bucket.with_objects(of_store);
        }
        if played.broken.is_some() {
            break;
        }
    }
    let ended = played.broken.is_none() && stage.over() && !stage.stalled;
    if let Some(after) = case.after.as_ref().filter(|_| ended) {
        let way = Way {
            bucket: Arc::clone(&stage.bucket),
            process: None,
            page: case.page,
            dated: case.ordered,
            gave_up: Arc::default(),
        };
        let actor = Client::new(98, way, case.ordered, case.keeps, Arc::clone(&answers));
        unhindered(after(actor), hash_of(&(case.seed, "after")));
        let answers = answers.lock().expect("no test panics while it holds the answers");
        let now = stage.bucket.clock.now_ms();
        let of_store = |objects: &Objects| broken(objects, &answers.acked, now, true);
        played.broken = answers.failed.first().cloned().or_else(|| stage.bucket.with_objects(of_store));
    }
    played.log = std::mem::take(&mut answers.lock().expect("no test panics while it holds the answers").log);
    played.events = std::mem::take(&mut stage.events);
    played
}

/// Runs a setup to its end without a gate, on a store of its own. Returns the store afterwards, and the time that
/// passed.
pub(super) fn prepare<F: Future<Output = ()>>(setup: impl FnOnce(Client) -> F) -> (Objects, Duration) {
    let _runtime = RUNTIME.enter();
    mutation::WISHES.set(false);
    let bucket = Bucket::new(Objects::new(), Duration::ZERO, 0);
    let began = bucket.clock.now();
    let way = Way { bucket: Arc::clone(&bucket), process: None, page: 1000, dated: true, gave_up: Arc::default() };
    let actor = Client::new(99, way, true, true, Arc::default());
    unhindered(setup(actor), 1);
    (bucket.objects(), bucket.clock.since(began))
}

/// Runs a task to its end that waits at no gate.
fn unhindered(task: impl Future<Output = ()>, mut random: u64) {
    let mut task = std::pin::pin!(task);
    let awake = Arc::new(Awake { woken: AtomicBool::new(true), thread: std::thread::current() });
    let waker = Waker::from(awake);
    let mut context = Context::from_waker(&waker);
    while seeded::with(&mut random, || task.as_mut().poll(&mut context)).is_pending() {
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// Describes events for a person.
pub(super) fn trace(events: &[Event]) -> String {
    let line = |event: &Event| {
        let says = short(&event.says);
        match event.choice {
            Choice::Tick => "    time: half a lease passes\n".to_owned(),
            Choice::Freeze(process) => {
                format!("    time: half a lease passes, and the clocks of {process} stand still\n")
            }
            Choice::Jump(true) => "    time: the store's clock steps a lease forward\n".to_owned(),
            Choice::Jump(false) => "    time: the store's clock steps a lease back\n".to_owned(),
            Choice::Kill(process) => format!("    {process}: stops for good\n"),
            Choice::GiveUp(process, _) => format!("    {process}: gives up: {says}\n"),
            Choice::Land(_) => format!("    late: {says}\n"),
            Choice::Step(process, 0) => format!("    {process}: {says}\n"),
            Choice::Step(process, nth) => format!("    {process}: {says} (of those under way number {nth})\n"),
        }
    };
    events.iter().map(line).collect()
}

/// Returns a key whose long numbers are cut to their ends.
pub(super) fn short(key: &str) -> String {
    const ENDS: usize = 4;
    let mut text = String::new();
    let mut rest = key;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_hexdigit() && c != '-').unwrap_or(rest.len());
        if number > 3 * ENDS {
            text.extend([&rest[..ENDS], "~", &rest[number - ENDS..number]]);
        } else {
            text += &rest[..number];
        }
        rest = &rest[number..];
        let next = rest.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(rest.len());
        text += &rest[..next];
        rest = &rest[next..];
    }
    text
}
