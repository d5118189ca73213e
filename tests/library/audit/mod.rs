//! The record of decisions: its lines, its files, and what happens when they cannot be written.

mod failing;
mod lines;
mod rotation;
mod support;
