//! Checks servers and scrubs over one store, in all orders of their operations.
//!
//! The real [`Registry`](crate::registry::Registry) and the real [`run`](crate::scrub::run) use a map that lets one operation
//! through at a time. A walk over all orders that differ, or a seed, chooses the next process. After each step, the
//! tests compare the store with the invariants.
//!
//! | file | content |
//! | --- | --- |
//! | `bucket`, `service` | the store, and the gate before it |
//! | `actor` | the operations of processes |
//! | `answers` | the answers to clients, and their promises |
//! | `cases` | the cases: a store at the beginning, and the scripts that work on it |
//! | `event` | events, and the pairs whose order matters |
//! | `play` | one run |
//! | `walk` | the choice of runs: by a seed, a schedule or a plan |
//! | `process` | a process as a function of its answers |
//! | `states` | the walk over all orders |
//! | `walks` | the depth of the walk of each case, and the case that finds each mutation of the protocol |
//! | `broken` | the invariants after each step |
//!
//! The tests walk small cases whole: every order of their operations, as far as orders differ (see `states`). They walk
//! larger cases up to a limit. Beyond that, all cases are played in seeded orders, where time passes, processes die,
//! and listings see a few keys at a time.
//!
//! | variable | effect |
//! | --- | --- |
//! | `INTERLEAVINGS=n` | n times as many random orders; from 2 on, all walks that end within minutes |
//! | `CASE=name` | only that case |
//! | `TICKS=n` | walks it with this many half leases, as far as it goes with `INTERLEAVINGS` times 200,000 states |
//! | `SEED=n`, `SCHEDULE='...'` | plays an order again that was printed |
//! | `PLAN='...'` | plays an order by a plan (`walk::by_plan`) and prints it |
//! | `WAY=name` | breaks the protocol that way: a variant of [`Mutation`] |

use std::sync::Mutex;

mod actor;
mod answers;
mod broken;
mod bucket;
mod cases;
mod event;
mod play;
mod process;
mod service;
mod states;
mod walk;
mod walks;

use self::{
    bucket::GiveUps,
    cases::cases,
    play::Case,
    states::all_orders,
    walk::{by_plan, random_order, replayed},
    walks::{How, WAYS},
};
use crate::storage::mutation::{self, Mutation};

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns the factor for the number of orders, 1 by default.
fn times() -> usize {
    variable("INTERLEAVINGS").map_or(1, |times| times.parse().expect("INTERLEAVINGS is a number"))
}

/// Returns the mutation that `WAY` names.
fn chosen_way() -> Option<Mutation> {
    let name = variable("WAY")?;
    let mut known = WAYS.iter().map(|(way, ..)| *way).chain(cases::ways::ways());
    Some(known.find(|way| format!("{way:?}") == name).unwrap_or_else(|| panic!("there is no mutation {name}")))
}

fn chosen() -> Vec<Case> {
    let wanted = variable("CASE");
    cases().into_iter().filter(|case| wanted.as_ref().is_none_or(|wanted| case.name == wanted)).collect()
}

/// One walk.
#[derive(Clone, Copy)]
struct Job {
    case: usize,
    ordered: bool,
    ticks: usize,
    /// True if clocks may stand still and the store's clock may step.
    odd: bool,
    /// True if a process may give up a delete.
    late_delete: bool,
    /// The number of states that is too many. A walk that must end has no limit.
    most: Option<usize>,
}

/// Returns the walks of this run, each case on both kinds of store.
fn jobs() -> Vec<Job> {
    let long = times() > 1;
    let ticks = variable("TICKS").map(|ticks| ticks.parse().expect("TICKS is a number"));
    let mut jobs = Vec::new();
    // cases with a check at their end are long: the tests play them in random orders, and walk them only when asked for
    for (case, name) in cases()
        .iter()
        .enumerate()
        .filter(|(_, case)| case.after.is_none() || variable("CASE").is_some())
        .map(|(at, case)| (at, case.name))
    {
        if variable("CASE").is_some_and(|wanted| wanted != name) {
            continue;
        }
        let (always, longer) = walks::WHOLE.iter().find(|(whole, ..)| *whole == name).map_or((0, 0), |it| (it.1, it.2));
        let whole = if long { longer } else { always };
        for ordered in [true, false] {
            let job = |ticks, most| Job { case, ordered, ticks, odd: false, late_delete: false, most };
            let odd = walks::ODD.iter().find(|(odd, ..)| *odd == name).map_or(0, |it| if long { it.2 } else { it.1 });
            let late =
                walks::LATE_DELETES.iter().find(|it| it.0 == name).map_or(0, |it| if long { it.2 } else { it.1 });
            if ticks.is_none() {
                jobs.extend((1..=odd).map(|ticks| Job { odd: true, ..job(ticks, None) }));
                jobs.extend((0..late).map(|ticks| Job { late_delete: true, ..job(ticks, None) }));
            }
            if let Some(ticks) = ticks {
                jobs.push(job(ticks, Some(200_000 * times())));
            } else if whole == 0 {
                // the beginning of a case that is too large
                jobs.push(job(0, Some(10_000 * times())));
            } else {
                jobs.extend((0..whole).map(|ticks| job(ticks, None)));
            }
        }
    }
    jobs
}

/// The limit for walks that are to end, which none of them reaches.
const TOO_MANY: usize = 30_000_000;

/// Walks jobs one after the other on this thread until none is left. Returns the failures.
fn work_off(jobs: &Mutex<Vec<Job>>) -> Vec<String> {
    let cases = cases();
    let next = || jobs.lock().expect("nobody panics taking a job").pop();
    let mut failures = Vec::new();
    while let Some(Job { case, ordered, ticks, odd, late_delete, most }) = next() {
        let any_of_many = ticks == 0;
        let mut case = Case { ordered, ticks, freezes: odd, jumps: odd, any_of_many, ..cases[case].clone() };
        case.giveups.deletes = case.giveups.deletes.max(usize::from(late_delete));
        let began = std::time::Instant::now();
        let walked = all_orders(&case, most.unwrap_or(TOO_MANY));
        let word = if walked.finished { "all" } else { "the first" };
        let store = if ordered { "bucket" } else { "directory" };
        let odd = if late_delete {
            "late"
        } else if odd {
            "odd"
        } else {
            ""
        };
        let (name, took) = (case.name, began.elapsed().as_secs_f32());
        println!(
            "{name:60}{store:10}{ticks:>3}{odd:>5} {word:>9}{:>9} states{:>7} steps{took:8.1} s",
            walked.states, walked.steps
        );
        if most.is_none() && !walked.finished && walked.failure.is_none() {
            failures.push(format!("{name}: {} states were walked, and there are more", walked.states));
        }
        failures.extend(walked.failure);
    }
    failures
}

#[test]
fn no_order_breaks_a_small_case() {
    if let Some(schedule) = variable("SCHEDULE") {
        let way = chosen_way();
        let odd = |case: &Case, ordered| Case { ordered, freezes: true, jumps: true, ..case.clone() };
        for case in chosen().iter().flat_map(|case| [true, false].map(|ordered| odd(case, ordered))) {
            let played = mutation::with(way, || replayed(&case, &schedule));
            println!("{}", played.unwrap_or_else(|| format!("{}: nothing is broken", case.name)));
        }
        return;
    }
    println!("{:60}{:10}{:>5} half leases", "case", "store", "time");
    let mut jobs = jobs();
    let large = cases().iter().position(|case| case.name == walks::LARGEST).expect("it is a case");
    // the longest first: workers take from the end
    jobs.sort_by_key(|job| (job.case == large, job.ticks, job.most.is_none()));
    let jobs = Mutex::new(jobs);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(|| work_off(&jobs))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a walk does not panic")).collect()
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn no_random_order_breaks_a_case() {
    let mut failures = Vec::new();
    let seeds = match variable("SEED") {
        Some(seed) => vec![seed.parse().expect("SEED is a number")],
        None => (0..100 * times() as u64).collect(),
    };
    for case in chosen() {
        let share = if case.after.is_some() { seeds.len().div_ceil(3) } else { seeds.len() };
        // in every other pair of orders the clocks of any process may stand still, and in some the store's clock may
        // step
        let order = |seed: &u64| {
            let pair = seed / 2;
            let case = Case { freezes: pair.is_multiple_of(2), jumps: pair % 4 > 1, ..lively(&case) };
            random_order(&case, *seed)
        };
        failures.extend(seeds[..share].iter().find_map(order));
        let share = if case.giveups == GiveUps::NONE { share.div_ceil(2) } else { seeds.len() };
        failures.extend(seeds[..share].iter().find_map(|seed| random_order(&giving_up(&case), *seed)));
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn each_way_to_break_the_protocol_is_found() {
    let wanted = chosen_way();
    let mut missed = Vec::new();
    for (way, shows, how) in WAYS.iter().filter(|(way, ..)| wanted.as_ref().is_none_or(|wanted| wanted == way)) {
        let began = std::time::Instant::now();
        let case = cases().into_iter().find(|case| case.name == *shows);
        let case = case.unwrap_or_else(|| panic!("there is no case {shows:?}"));
        let lively = lively(&case);
        let tried = |seeds: u64| match how {
            How::Seed(seed) => std::iter::once(*seed).chain(0..seeds).find_map(|seed| random_order(&lively, seed)),
            How::Plan(plan) => by_plan(&case, plan),
            How::InDirectory(plan) => by_plan(&Case { ordered: false, ..case.clone() }, plan),
            // the other tests walk the case without the mutation
            How::Walk(_) if seeds == 0 => None,
            How::Walk(ticks) => all_orders(&Case { ticks: *ticks, ..case.clone() }, TOO_MANY).failure,
        };
        match mutation::with(Some(*way), || tried(500 * times() as u64)) {
            Some(failure) => println!("{way:?}, {:?}: {failure}", began.elapsed()),
            None => missed.push(*way),
        }
        assert!(tried(0).is_none(), "{shows} is broken though the protocol is not");
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

#[test]
#[ignore = "plays what PLAN says"]
fn a_plan_is_played() {
    let way = chosen_way();
    let plan = variable("PLAN").expect("PLAN says what happens");
    for case in chosen() {
        println!("{}", mutation::with(way, || by_plan(&case, &plan)).unwrap_or_else(|| "nothing is broken".to_owned()));
    }
}

/// Returns the same case where time passes and any process may stop for good.
fn lively(case: &Case) -> Case {
    Case { mortal: case.scripts.len(), ticks: case.ticks.max(2), giveups: GiveUps::NONE, ..case.clone() }
}

/// Returns the same case where up to two writes and two deletes are given up and land later.
fn giving_up(case: &Case) -> Case {
    Case { giveups: GiveUps { writes: 2, deletes: 2 }, ..lively(case) }
}
