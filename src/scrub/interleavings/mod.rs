//! Servers and scrubs over one store, in all orders of their operations.
//!
//! The real [`Registry`](crate::registry::Registry) and the real [`run`](super::run) go over a map that lets one operation
//! through at a time. Who is let through next is decided by a walk over all orders that differ, or by a seed; after each step
//! the store is held against what must be true of it.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `bucket`, `service` | the store, and the gate before it |
//! | `actor` | what processes do |
//! | `cases` | a store at the beginning, and who does what to it |
//! | `event` | what happened, and which order of it matters |
//! | `play` | one run |
//! | `walk` | which runs |
//! | `broken` | what must be true after each step |
//!
//! `INTERLEAVINGS=n` plays n times as many orders as a plain test run; `CASE=name` only that case; `SEED=n` or `SCHEDULE='...'`
//! one run again that was printed.

mod actor;
mod broken;
mod bucket;
mod cases;
mod event;
mod play;
mod service;
mod walk;

use self::{
    cases::cases,
    play::Case,
    walk::{all_orders, random_order, replayed},
};
use crate::storage::mutation;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// How many times as many orders as usual.
fn times() -> usize {
    variable("INTERLEAVINGS").map_or(1, |times| times.parse().expect("INTERLEAVINGS is a number"))
}

fn chosen() -> Vec<Case> {
    let wanted = variable("CASE");
    cases().into_iter().filter(|case| wanted.as_ref().is_none_or(|wanted| case.name == wanted)).collect()
}

#[test]
fn no_order_breaks_a_small_case() {
    let mut failures = Vec::new();
    for mut case in chosen() {
        if let Some(schedule) = variable("SCHEDULE") {
            println!("{}", replayed(&case, &schedule).unwrap_or_else(|| format!("{}: nothing is broken", case.name)));
            continue;
        }
        for ordered in [true, false] {
            case.ordered = ordered;
            let began = std::time::Instant::now();
            let walked = all_orders(&case, 200 * times());
            let word = if walked.failure.is_some() {
                "BROKEN"
            } else if walked.finished {
                "all"
            } else {
                "the first"
            };
            println!(
                "{}, {}: {word} {} orders, {:?}",
                case.name,
                if ordered { "bucket" } else { "directory" },
                walked.runs,
                began.elapsed()
            );
            failures.extend(walked.failure);
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn no_random_order_breaks_a_case() {
    let mut failures = Vec::new();
    let seeds = match variable("SEED") {
        Some(seed) => vec![seed.parse().expect("SEED is a number")],
        None => (0..200 * times() as u64).collect(),
    };
    for mut case in chosen() {
        case.mortal = case.scripts.len();
        case.ticks = case.ticks.max(2);
        failures.extend(seeds.iter().find_map(|seed| random_order(&case, *seed)));
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// The ways to break the protocol that the model has, and where the code has a place for each.
const WAYS: &[&str] = &[
    "no marks",
    "marks before facts",
    "bytes not looked at",
    "look before reference",
    "shared pins",
    "no new version",
    "slow push does not look again",
    "session not looked for",
    "slow commit does not look",
    "failed commit takes back",
    "children not renewed",
    "mark goes before the bytes",
    "shared marks",
    "no second look by scrub",
    "clock after look",
    "no lease",
    "gone freed at once",
    "survivor not looked at",
];

#[test]
fn each_way_to_break_the_protocol_is_found() {
    let wanted = variable("WAY");
    let mut missed = Vec::new();
    for way in WAYS.iter().filter(|way| wanted.as_ref().is_none_or(|wanted| wanted == *way)) {
        let began = std::time::Instant::now();
        let found = mutation::with(Some(way), || {
            chosen().into_iter().find_map(|case| {
                let random = |case: &Case| {
                    let mut case = case.clone();
                    case.mortal = case.scripts.len();
                    case.ticks = case.ticks.max(2);
                    (0..100 * times() as u64).find_map(|seed| random_order(&case, seed))
                };
                all_orders(&case, 100 * times()).failure.or_else(|| random(&case))
            })
        });
        match found {
            Some(failure) => println!("{way}, {:?}: {failure}", began.elapsed()),
            None => missed.push(*way),
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
