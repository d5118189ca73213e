//! Which orders are played: all that differ, one race turned round after the other, or random ones.

use std::collections::{HashSet, VecDeque};

use super::{
    bucket::hash_of,
    event::{Choice, Event},
    play::{Case, Chooser, Played, Stage, play, short, trace},
};
use crate::action::seeded;

/// What came of a walk.
pub(super) struct Walked {
    pub(super) runs: usize,
    /// Whether there was nothing left to play.
    pub(super) finished: bool,
    pub(super) failure: Option<String>,
}

/// The beginning of a run, and in which order processes then run to their ends.
struct Plan {
    prefix: Vec<Choice>,
    order: Vec<usize>,
}

struct Follow<'a> {
    plan: &'a Plan,
    at: usize,
    seen: &'a mut HashSet<u64>,
}

impl Chooser for Follow<'_> {
    fn choose(&mut self, stage: &Stage<'_>) -> Option<Choice> {
        while let Some(choice) = self.plan.prefix.get(self.at).copied() {
            self.at += 1;
            if stage.may(choice) {
                return Some(choice);
            }
        }
        if self.at == self.plan.prefix.len() {
            self.at += 1;
            let now = (stage.bucket.state(), stage.ticks_left(), &self.plan.order);
            let alive: Vec<bool> = self.plan.order.iter().map(|process| stage.lives(*process)).collect();
            if !self.seen.insert(hash_of(&(now, alive))) {
                return None;
            }
        }
        self.plan.order.iter().find(|process| stage.lives(**process)).map(|process| Choice::Step(*process, 0))
    }
}

/// Plays all orders of a case that differ, the simplest first, at most `most` of them.
///
/// Two happenings that do not touch the same thing are not played in both orders: each run is looked through for pairs that
/// do, next to each other in the order of cause and effect, and each pair is turned round in a run of its own.
pub(super) fn all_orders(case: &Case, most: usize) -> Walked {
    let mut seen = HashSet::new();
    let mut plans: VecDeque<Plan> =
        orders(case.scripts.len()).into_iter().map(|order| Plan { prefix: Vec::new(), order }).collect();
    let mut runs = 0;
    while let Some(plan) = plans.pop_front() {
        if runs == most {
            return Walked { runs, finished: false, failure: None };
        }
        let played = play(case, &mut Follow { plan: &plan, at: 0, seen: &mut seen });
        if played.known {
            continue;
        }
        runs += 1;
        if let Some(what) = &played.broken {
            let failure = Some(failure(case, what, &played, &format!("SCHEDULE='{}'", written(&played.events))));
            return Walked { runs, finished: false, failure };
        }
        let next = turned_round(case, &played.events);
        plans.extend(next.into_iter().map(|prefix| Plan { prefix, order: plan.order.clone() }));
    }
    Walked { runs, finished: true, failure: None }
}

/// All orders of so many processes.
fn orders(processes: usize) -> Vec<Vec<usize>> {
    let mut found = vec![Vec::new()];
    for _ in 0..processes {
        let longer = |order: &Vec<usize>| {
            let order = order.clone();
            (0..processes)
                .filter(|next| !order.contains(next))
                .map(|next| [&order[..], &[next]].concat())
                .collect::<Vec<_>>()
        };
        found = found.iter().flat_map(longer).collect::<Vec<_>>();
    }
    found
}

/// The beginnings of runs that differ from this one in the order of two happenings.
fn turned_round(case: &Case, events: &[Event]) -> Vec<Vec<Choice>> {
    let processes = case.scripts.len();
    let mut found = Vec::new();
    // how much of each process has an effect on each event, that event itself among it
    let mut clocks: Vec<Vec<usize>> = Vec::new();
    let prefix = |until: usize| events[..until].iter().map(|event| event.choice).collect::<Vec<_>>();
    let ticks = events.iter().filter(|event| event.choice == Choice::Tick).count();
    let killed = events.iter().any(|event| matches!(event.choice, Choice::Kill(_)));
    for (at, event) in events.iter().enumerate() {
        let who = event.who(processes);
        let own = events[..at].iter().rposition(|earlier| earlier.who(processes) == who);
        let mut clock = own.map_or_else(|| vec![0; 2 * processes + 1], |own| clocks[own].clone());
        for (before, earlier) in events[..at].iter().enumerate().rev() {
            let other = earlier.who(processes);
            if clock[other] > before || other == who || !event.conflicts(earlier) {
                continue;
            }
            if let (Choice::Step(..), Choice::Step(..)) = (event.choice, earlier.choice) {
                let mut turned = prefix(before);
                let unmoved = (before + 1..at).filter(|between| clocks[*between][other] <= before);
                turned.extend(unmoved.map(|between| events[between].choice));
                turned.push(event.choice);
                found.push(turned);
            }
            for (mine, theirs) in clock.iter_mut().zip(&clocks[before]) {
                *mine = (*mine).max(*theirs);
            }
        }
        clock[who] = at + 1;
        clocks.push(clock);
        if ticks < case.ticks && matters_in_time(event) {
            found.push([prefix(at), vec![Choice::Tick]].concat());
        }
        if let Choice::Step(process, _) = event.choice
            && process < case.mortal
            && !killed
            && event.touched.iter().any(|touch| touch.writes().is_some())
        {
            found.push([prefix(at), vec![Choice::Kill(process)]].concat());
        }
    }
    found
}

fn matters_in_time(event: &Event) -> bool {
    let tick = Event { choice: Choice::Tick, says: String::new(), touched: Vec::new(), begins: false };
    matches!(event.choice, Choice::Step(..)) && event.conflicts(&tick)
}

/// A run in a random order. How often processes change, and how soon time passes, is random as well.
struct Random {
    state: u64,
    current: usize,
    stay: u64,
    rare: u64,
}

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self { state: hash_of(&seed), current: 0, stay: 0, rare: 0 };
        random.stay = [0_u64, 2, 5, 12, 40][random.below(5)];
        random.rare = [15_u64, 40, 120][random.below(3)];
        random
    }

    fn below(&mut self, limit: usize) -> usize {
        let drawn = seeded::with(&mut self.state, seeded::draw).unwrap_or_default();
        usize::try_from(drawn % limit.max(1) as u64).unwrap_or(0)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(usize::try_from(n).unwrap_or(1)) == 0
    }
}

impl Chooser for Random {
    fn choose(&mut self, stage: &Stage<'_>) -> Option<Choice> {
        if stage.may(Choice::Tick) && self.one_in(self.rare) {
            return Some(Choice::Tick);
        }
        if stage.case.mortal > 0 && self.one_in(4 * self.rare) {
            let killed = Choice::Kill(self.below(stage.case.mortal));
            if stage.may(killed) {
                return Some(killed);
            }
        }
        let living: Vec<usize> = (0..stage.case.scripts.len()).filter(|process| stage.lives(*process)).collect();
        if !living.contains(&self.current) || self.one_in(self.stay + 1) {
            self.current = living[self.below(living.len())];
        }
        let nth = self.below(stage.bucket.waits(self.current));
        Some(Choice::Step(self.current, nth))
    }
}

/// A run in which each process goes on undisturbed but for a few moments: then others go on, and perhaps time has passed.
struct Planned {
    random: Random,
    /// How many steps are left until something happens.
    until: usize,
    moments: usize,
    /// Of half a lease, still to pass.
    passing: usize,
}

impl Planned {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (until, moments) = (random.below(45), 1 + random.below(4));
        Self { random, until, moments, passing: 0 }
    }
}

impl Chooser for Planned {
    fn choose(&mut self, stage: &Stage<'_>) -> Option<Choice> {
        if self.passing > 0 && stage.may(Choice::Tick) {
            self.passing -= 1;
            return Some(Choice::Tick);
        }
        let living: Vec<usize> = (0..stage.case.scripts.len()).filter(|process| stage.lives(*process)).collect();
        let current = self.random.current;
        if self.until == 0 && self.moments > 0 {
            self.moments -= 1;
            self.until = 1 + self.random.below(45);
            self.passing = [0, 0, 1, 2][self.random.below(4)];
            let others: Vec<usize> = living.iter().copied().filter(|process| *process != current).collect();
            if !others.is_empty() {
                self.random.current = others[self.random.below(others.len())];
            }
            let killed = Choice::Kill(current);
            if self.random.below(8) == 0 && stage.may(killed) {
                return Some(killed);
            }
            return self.choose(stage);
        }
        self.until = self.until.saturating_sub(1);
        if !living.contains(&current) {
            self.random.current = living[self.random.below(living.len())];
        }
        Some(Choice::Step(self.random.current, 0))
    }
}

/// One random run; the seed decides as well what one listing sees at one moment.
pub(super) fn random_order(case: &Case, seed: u64) -> Option<String> {
    let mut random = Random::new(seed ^ 0x5eed);
    let mut case = case.clone();
    case.seed = seed;
    case.ordered = random.below(2) == 0;
    case.page = if case.ordered { 1000 } else { [1000, 1, 2, 3][random.below(4)] };
    let played =
        if seed.is_multiple_of(2) { play(&case, &mut Planned::new(seed)) } else { play(&case, &mut Random::new(seed)) };
    played.broken.as_ref().map(|what| failure(&case, what, &played, &format!("SEED={seed}")))
}

/// Plays the order that a failure was printed with.
pub(super) fn replayed(case: &Case, schedule: &str) -> Option<String> {
    let prefix = schedule.split_whitespace().map(read).collect();
    let plan = Plan { prefix, order: (0..case.scripts.len()).collect() };
    let played = play(case, &mut Follow { plan: &plan, at: 0, seen: &mut HashSet::new() });
    played.broken.as_ref().map(|what| failure(case, what, &played, "this order"))
}

fn failure(case: &Case, what: &str, played: &Played, again: &str) -> String {
    let log = played.log.iter().map(|line| format!("    {}", short(line))).collect::<Vec<_>>().join("\n");
    format!(
        "{}: {}\n  what happened:\n{}  what was answered:\n{log}  again: CASE='{}' {again}\n",
        case.name,
        short(what),
        trace(&played.events),
        case.name
    )
}

fn written(events: &[Event]) -> String {
    let one = |event: &Event| match event.choice {
        Choice::Tick => "t".to_owned(),
        Choice::Kill(process) => format!("k{process}"),
        Choice::Step(process, 0) => process.to_string(),
        Choice::Step(process, nth) => format!("{process}.{nth}"),
    };
    events.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn read(word: &str) -> Choice {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{word:?} is no word of a schedule"));
    match word.split_at(1) {
        ("t", "") => Choice::Tick,
        ("k", process) => Choice::Kill(number(process)),
        _ => match word.split_once('.') {
            Some((process, nth)) => Choice::Step(number(process), number(nth)),
            None => Choice::Step(number(word), 0),
        },
    }
}
