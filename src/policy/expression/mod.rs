//! Conditions: the expressions of rules, in CEL.
//!
//! | file | content |
//! | --- | --- |
//! | `tokens` | reads the words of an expression, and bounds its size before the parser sees it |
//! | `syntax` | parses it |
//! | `check`, `context` | walk over the tree, and collect what is found |
//! | `operator`, `function`, `words`, `types` | check names and types of values |
//! | `condition` | does all of this, on a stack of its own |
//! | `evaluate`, `images`, `tags` | evaluate a condition over a request, or over the images of a repository |
//!
//! A condition is CEL (cel-spec, "Language Definition") without the parts that policies do not need: no maps, bytes,
//! floating-point numbers, null, optional values and conversions; loops do not hold loops; patterns are written out.

mod check;
mod condition;
mod context;
mod evaluate;
mod function;
mod images;
mod operator;
mod syntax;
mod tags;
mod tokens;
mod types;
mod words;

pub(super) use condition::{Condition, compile};
pub(super) use evaluate::{Undecided, Values};
pub(super) use images::{ImageQuery, RepositoryTags, Values as ImageValues};
pub(super) use types::{NOW, Scope};

pub use operator::MAX_JOINS;
pub use tokens::{MAX_DEPTH, MAX_LENGTH, MAX_WORDS};
pub use types::{Vocabulary, vocabularies};
