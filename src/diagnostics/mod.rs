//! Reads TOML files, and draws every problem in them: file, line, column, the line itself with a caret, the rule and the
//! next step.
//!
//! | file | content |
//! | --- | --- |
//! | `source`, `read` | a file as it was read |
//! | `problem` | problems, and how they are drawn |
//! | `document` | a file as a tree with the place of each value; errors of syntax; merging |
//! | `table` | a table read key by key, so that every key that is not read is unknown |
//! | `rule` | the values that a key may have: sizes, durations, words ... |
//! | `keys` | the keys that a kind of file has |
//! | `text` | text of a file, with the place of each of its bytes |
//! | `mask` | text that must not be shown |
//! | `words` | suggestions for misspelt words, and lists of words |

mod document;
mod keys;
mod mask;
mod problem;
mod read;
pub(crate) mod rule;
mod source;
mod table;
mod text;
mod words;

pub(crate) use self::{
    document::{Entries, Node, Value, find, merge, parse},
    keys::{Keys, LIST},
    read::{open_plain, read, read_plain, toml_files},
    table::{Part, Reading, Table},
    words::{joined, listed, nearest, pattern_fault},
};
pub use self::{
    keys::KeyFacts,
    problem::{MOST_SHOWN, Place, Problem, Problems},
    source::Source,
    text::Text,
};
