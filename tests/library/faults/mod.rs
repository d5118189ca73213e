//! A directory that fails, is full, stalls, or loses its answers, at every single storage operation of a push, a delete and a pull:
//! what was hit says so, nothing wrong becomes visible, and the same again succeeds.
//!
//! `tests/it/faults.rs` does this on S3, through HTTP. Here it is done in process, by a layer between the store and the directory.

mod anew;
mod clock;
mod cut_off;
mod delete;
mod full;
mod layer;
mod pull;
mod push;
mod retag;
mod world;
