//! Scrub, from outside.

mod explain;
mod repositories;
mod retention_table;
mod shelf;
