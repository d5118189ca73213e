//! Starts threads that use idle processor time only, and drives work in the background.

mod background;
mod share;
mod thread;

pub use self::{
    background::{Background, spawn_blocking, spawn_computing},
    thread::{only_spare_time, thread_time},
};
