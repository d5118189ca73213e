//! Scrub, from outside: the command, and a store that was damaged.

mod command;
mod damage;
mod world;
