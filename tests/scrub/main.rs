//! Scrub, from outside.

mod bytes;
