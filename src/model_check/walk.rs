//! The orders that are played: random ones, one that was printed, or one by a plan.

use std::collections::VecDeque;

use super::{
    bucket::{GiveUps, Op, hash_of},
    event::Choice,
    play::{Case, Chooser, Played, Stage, play, short, trace},
};
use crate::action::seeded;

/// Follows a schedule, and then lets one process after the other run to its end.
struct Follow {
    schedule: Vec<Choice>,
    at: usize,
}

impl Chooser for Follow {
    fn choose(&mut self, stage: &Stage<'_>) -> Option<Choice> {
        while let Some(choice) = self.schedule.get(self.at).copied() {
            self.at += 1;
            if stage.may(choice) {
                return Some(choice);
            }
        }
        (0..stage.case.scripts.len()).find(|process| stage.lives(*process)).map(|process| Choice::Step(process, 0))
    }
}

/// Follows a plan of these steps, and then runs the rest one process after the other:
///
/// - `1 until put pin.` lets process 1 go on until it asks for a `put` of a key with `pin.` in it.
/// - `1 ends` lets process 1 go on until it has no more to do.
/// - `time` lets half a lease pass; `freeze 1` does too, while the clocks of process 1 stand still.
/// - `jump` and `jump back` step the store's clock.
/// - `1 gives up` lets process 1 give up the write or delete that it asks for.
/// - `late lands` carries out the first operation that was given up.
struct Planned<'a> {
    legs: VecDeque<&'a str>,
}

impl Chooser for Planned<'_> {
    fn choose(&mut self, stage: &Stage<'_>) -> Option<Choice> {
        while let Some(leg) = self.legs.front() {
            let words: Vec<&str> = leg.split_whitespace().collect();
            let go_on = match words[..] {
                ["time"] => {
                    self.legs.pop_front();
                    return Some(Choice::Tick);
                }
                ["freeze", process] => {
                    self.legs.pop_front();
                    return Some(Choice::Freeze(process.parse().expect("a process")));
                }
                ["jump", ref back @ ..] => {
                    let forward = back.is_empty();
                    self.legs.pop_front();
                    return Some(Choice::Jump(forward));
                }
                [process, "gives", "up"] => {
                    self.legs.pop_front();
                    return Some(Choice::GiveUp(process.parse().expect("a process"), 0));
                }
                ["late", "lands"] => {
                    self.legs.pop_front();
                    return Some(Choice::Land(0));
                }
                [process, "ends"] => Some(process),
                [process, "until", word, part] => {
                    let asks = stage.bucket.waiting(process.parse().expect("a process")).first().map(Op::says);
                    let there = asks.is_some_and(|asks| asks.starts_with(word) && asks.contains(part));
                    (!there).then_some(process)
                }
                _ => panic!("{leg:?} is no part of a plan"),
            };
            let process = go_on.map(|process| process.parse().expect("a process"));
            if let Some(process) = process.filter(|process| stage.lives(*process)) {
                return Some(Choice::Step(process, 0));
            }
            self.legs.pop_front();
        }
        (0..stage.case.scripts.len()).find(|process| stage.lives(*process)).map(|process| Choice::Step(process, 0))
    }
}

/// Plays a case by a plan whose parts are between semicolons.
pub(super) fn by_plan(case: &Case, plan: &str) -> Option<String> {
    let played = play(case, &mut Planned { legs: plan.split(';').map(str::trim).collect() });
    let again = || written(played.events.iter().map(|event| event.choice));
    played.broken.as_ref().map(|what| failure(case, what, &played, &format!("SCHEDULE='{}'", again())))
}

/// A run in a random order. The number of changes of process, and the time until time passes, are random as well.
struct Random {
    state: u64,
    current: usize,
    stay: u64,
    rare: u64,
    /// The state for operations that are given up. It is separate, so that it does not change the rest of the order.
    late: u64,
    /// One operation in so many lands that was given up and may.
    lands: u64,
}

impl Random {
    fn new(seed: u64) -> Self {
        let mut random =
            Self { state: hash_of(&seed), current: 0, stay: 0, rare: 0, late: hash_of(&(seed, "late")), lands: 8 };
        // half of the orders keep late operations for long
        random.lands = [8, 8, 60, 400][usize::try_from(random.late % 4).unwrap_or(0)];
        random.stay = [0_u64, 2, 5, 12, 40][random.below(5)];
        random.rare = [15_u64, 40, 120][random.below(3)];
        random
    }

    fn below(&mut self, limit: usize) -> usize {
        let drawn = seeded::with(&mut self.state, seeded::draw).unwrap_or_default();
        usize::try_from(drawn % limit.max(1) as u64).unwrap_or(0)
    }

    /// Draws a way in which time passes: the regular one, or an odd one.
    fn time(&mut self, stage: &Stage<'_>) -> Choice {
        if !stage.case.freezes && !stage.case.jumps {
            return Choice::Tick;
        }
        let process = self.below(stage.case.scripts.len());
        let odd = [Choice::Tick, Choice::Freeze(process), Choice::Jump(true), Choice::Jump(false)][self.below(4)];
        if stage.may(odd) { odd } else { Choice::Tick }
    }

    /// Chooses an operation of `process` that is given up now, or one that lands.
    fn late(&mut self, stage: &Stage<'_>, process: usize) -> Option<Choice> {
        if stage.case.giveups == GiveUps::NONE {
            return None;
        }
        let drawn = seeded::with(&mut self.late, seeded::draw).unwrap_or_default();
        let landed = (0..stage.bucket.late()).map(Choice::Land).find(|land| stage.may(*land));
        if let Some(landed) = landed.filter(|_| drawn.is_multiple_of(self.lands)) {
            return Some(landed);
        }
        let given_up = Choice::GiveUp(process, 0);
        (drawn % 10 == 1 && stage.may(given_up)).then_some(given_up)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(usize::try_from(n).unwrap_or(1)) == 0
    }
}

impl Chooser for Random {
    fn choose(&mut self, stage: &Stage<'_>) -> Option<Choice> {
        if stage.may(Choice::Tick) && self.one_in(self.rare) {
            return Some(self.time(stage));
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
        if let Some(late) = self.late(stage, self.current) {
            return Some(late);
        }
        let nth = self.below(stage.bucket.waits(self.current));
        Some(Choice::Step(self.current, nth))
    }
}

/// A run in which each process goes on undisturbed except at a few moments. Then others go on, and perhaps time passes.
struct Moments {
    random: Random,
    /// The number of steps that are left until the next moment.
    until: usize,
    left: usize,
    /// The number of half leases that are still to pass.
    passing: usize,
}

impl Moments {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (until, left) = (random.below(45), 1 + random.below(4));
        Self { random, until, left, passing: 0 }
    }
}

impl Chooser for Moments {
    fn choose(&mut self, stage: &Stage<'_>) -> Option<Choice> {
        if self.passing > 0 && stage.may(Choice::Tick) {
            self.passing -= 1;
            return Some(self.random.time(stage));
        }
        let living: Vec<usize> = (0..stage.case.scripts.len()).filter(|process| stage.lives(*process)).collect();
        let current = self.random.current;
        if self.until == 0 && self.left > 0 {
            self.left -= 1;
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
        let current = self.random.current;
        self.random.late(stage, current).or(Some(Choice::Step(current, 0)))
    }
}

/// Plays one random order. The seed also decides how many keys a listing sees at one moment.
pub(super) fn random_order(case: &Case, seed: u64) -> Option<String> {
    let mut random = Random::new(seed ^ 0x5eed);
    let mut case = case.clone();
    case.seed = seed;
    case.ordered = random.below(2) == 0;
    case.page = if case.ordered { 1000 } else { [1000, 1, 2, 3][random.below(4)] };
    let played =
        if seed.is_multiple_of(2) { play(&case, &mut Moments::new(seed)) } else { play(&case, &mut Random::new(seed)) };
    played.broken.as_ref().map(|what| failure(&case, what, &played, &format!("SEED={seed}")))
}

/// Plays the order that a failure was printed with.
pub(super) fn replayed(case: &Case, schedule: &str) -> Option<String> {
    let schedule: Vec<Choice> = schedule.split_whitespace().map(read).collect();
    let played = play(case, &mut Follow { schedule, at: 0 });
    let again = || written(played.events.iter().map(|event| event.choice));
    played.broken.as_ref().map(|what| failure(case, what, &played, &format!("SCHEDULE='{}'", again())))
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

pub(super) fn written(choices: impl IntoIterator<Item = Choice>) -> String {
    let one = |choice: Choice| match choice {
        Choice::Tick => "t".to_owned(),
        Choice::Freeze(process) => format!("f{process}"),
        Choice::Jump(forward) => if forward { "j+" } else { "j-" }.to_owned(),
        Choice::Kill(process) => format!("k{process}"),
        Choice::GiveUp(process, nth) => format!("g{process}.{nth}"),
        Choice::Land(nth) => format!("l{nth}"),
        Choice::Step(process, 0) => process.to_string(),
        Choice::Step(process, nth) => format!("{process}.{nth}"),
    };
    choices.into_iter().map(one).collect::<Vec<_>>().join(" ")
}

fn read(word: &str) -> Choice {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{word:?} is no word of a schedule"));
    match word.split_at(1) {
        ("t", "") => Choice::Tick,
        ("f", process) => Choice::Freeze(number(process)),
        ("j", way) => Choice::Jump(way == "+"),
        ("k", process) => Choice::Kill(number(process)),
        ("l", nth) => Choice::Land(number(nth)),
        ("g", rest) => {
            let (process, nth) = rest.split_once('.').unwrap_or((rest, "0"));
            Choice::GiveUp(number(process), number(nth))
        }
        _ => match word.split_once('.') {
            Some((process, nth)) => Choice::Step(number(process), number(nth)),
            None => Choice::Step(number(word), 0),
        },
    }
}
