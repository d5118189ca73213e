//! Input means one thing: heads of requests, websites, files that are no files, and texts on a terminal.

mod browsers;
mod conditions;
mod files;
mod framing;
mod private;
mod ready;
mod terminal;
