//! Scrub, from outside: what it frees and what it keeps, the command, and stores that were damaged.

mod anew;
mod backup;
mod busy;
mod bytes;
mod cached;
mod claims;
mod command;
mod damage;
mod explain;
mod first_seen;
mod kept;
mod leftovers;
mod links;
mod prefix;
mod progress;
mod recovery;
mod reported;
mod repositories;
mod restored;
mod retention_ahead;
mod retention_table;
mod shelf;
mod strangers;
mod world;
