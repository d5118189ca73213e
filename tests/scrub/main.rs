//! Scrub, from outside.

mod repositories;
mod retention_table;
mod shelf;
