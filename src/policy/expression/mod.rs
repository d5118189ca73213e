//! Conditions: the expressions of rules, in CEL.
//!
//! | file | what happens |
//! | --- | --- |
//! | `tokens` | its words are read and its size is bounded, before the parser sees it |
//! | here | it is parsed, on a stack of its own |
//! | `check`, `operator`, `function`, `words`, `types` | names and kinds of values are checked |
//! | `evaluate`, `images`, `tags` | it is evaluated over a request, or over the images of a repository |
//!
//! A condition is CEL (cel-spec, "Language Definition") without what policies have no use for: no maps, bytes,
//! floating-point numbers, null, optional values and conversions; loops do not hold loops; patterns are written out.

mod check;
mod evaluate;
mod function;
mod images;
mod operator;
mod tags;
mod tokens;
mod types;
mod words;

use std::thread;

use cel::{IdedExpr, common::ast::SourceInfo, parser::Parser};

pub(super) use evaluate::Values;
pub(super) use images::{Asked, Tagged, Values as ImageValues};
pub(super) use tokens::Fault;
pub(super) use types::Scope;
use types::Type;

pub use operator::MAX_JOINS;
pub use tokens::{MAX_DEPTH, MAX_LENGTH, MAX_WORDS};

/// The stack that expressions are parsed on, in bytes. What the limits let through takes a small part of it, also where
/// nothing is optimised.
const STACK: usize = 32 << 20;

/// A checked expression that yields a boolean.
#[derive(Debug)]
pub(super) struct Condition {
    expression: IdedExpr,
    patterns: Vec<evaluate::Pattern>,
    /// Loops over the tags of a repository, which are the same for each image of it, and the time that orders the tags.
    shared: Vec<(IdedExpr, &'static str)>,
    uses: Vec<&'static str>,
    fallible: bool,
    words: String,
}

impl Condition {
    /// Whether it holds; the error says shortly why that cannot be known.
    pub(super) fn holds(&self, values: &Values<'_>) -> Result<bool, &'static str> {
        evaluate::holds(&self.expression, &self.patterns, values)
    }

    /// Whether [`Condition::holds`] can fail.
    pub(super) const fn is_fallible(&self) -> bool {
        self.fallible
    }

    /// The paths of the variables in it.
    pub(super) fn uses(&self) -> &[&'static str] {
        &self.uses
    }

    /// Its words, the same for expressions that differ in spaces, comments and quotes only.
    pub(super) fn words(&self) -> &str {
        &self.words
    }

    /// Returns the value of the expression, if it is nothing but `true` or `false`.
    pub(super) fn literal(&self) -> Option<bool> {
        self.words.parse().ok()
    }
}

/// Reads and checks expressions, in their order. Takes a few milliseconds at most for each, whatever it is.
pub(super) fn compile(texts: &[&str], scope: Scope) -> Vec<Result<Condition, Vec<Fault>>> {
    let read: Vec<_> = texts.iter().map(|text| tokens::read(text)).collect();
    if read.iter().all(Result::is_err) {
        // most of all: no expression at all, and no thread for none
        return read
            .into_iter()
            .map(|read| read.map(|_| unreachable!("all are errors")).map_err(|fault| vec![fault]))
            .collect();
    }
    // one that makes the parser panic is to be refused alone
    let one = |text: &str, tokens: &[tokens::Token<'_>]| {
        let parsed = thread::scope(|threads| {
            let builder = thread::Builder::new().name("policy".to_owned()).stack_size(STACK);
            let thread = builder.spawn_scoped(threads, || condition(text, tokens, scope));
            thread.map(thread::ScopedJoinHandle::join)
        });
        match parsed {
            Ok(Ok(parsed)) => parsed,
            Ok(Err(_)) => Err(vec![Fault::new(0..1, "the expression cannot be parsed", "write it in another way")]),
            Err(error) => {
                let says = format!("no thread could be started to parse the expression: {error}");
                Err(vec![Fault::new(0..1, says, "raise the limit of threads, or stop other programs")])
            }
        }
    };
    texts
        .iter()
        .zip(read)
        .map(|(text, read)| read.map_err(|fault| vec![fault]).and_then(|tokens| one(text, &tokens)))
        .collect()
}

fn condition(text: &str, tokens: &[tokens::Token<'_>], scope: Scope) -> Result<Condition, Vec<Fault>> {
    let (mut expression, places) = parse(text, tokens)?;
    let mut checker = check::Checker::new(scope, tokens, &places);
    let kind = checker.check(&mut expression);
    if checker.faults.is_empty() && kind != Type::Bool {
        let help = match kind {
            Type::Text => "compare it with something: `... == \"...\"`",
            Type::List(_) | Type::Tags(_) => "ask for an entry, `list.contains(\"...\")`, or for its size",
            _ if scope == Scope::Retention => "write a condition, such as `image.tag == \"latest\"`",
            _ => "write a condition, such as `request.access == \"pull\"`",
        };
        checker.fault(0..text.len(), format!("a rule is true or false, and this is {kind}"), help);
    }
    let check::Checker { mut faults, patterns, shared, uses, fallible, .. } = checker;
    if !faults.is_empty() {
        faults.sort_by_key(|fault| fault.at.start);
        faults.dedup();
        return Err(faults);
    }
    let words = tokens.iter().map(normal).collect::<Vec<_>>().join(" ");
    Ok(Condition { expression, patterns, shared, uses, fallible, words })
}

/// A word in one of the ways it can be written.
fn normal(token: &tokens::Token<'_>) -> String {
    let text = token.text;
    let single = token.kind == tokens::Kind::Text && text.starts_with('\'') && !text.starts_with("'''");
    if single && !text.contains(['\\', '"']) { text.replace('\'', "\"") } else { text.to_owned() }
}

fn parse(text: &str, tokens: &[tokens::Token<'_>]) -> Result<(IdedExpr, SourceInfo), Vec<Fault>> {
    // standard macros, no optional syntax, no names in backticks
    Parser::default().parse_with_source_info(text).map_err(|errors| {
        // what follows the first error is mostly a consequence of it
        let Some(error) = errors.errors.first() else {
            return vec![Fault::new(0..1, "the expression cannot be parsed", "write it in another way")];
        };
        let line = usize::try_from(error.pos.0).unwrap_or(1).max(1);
        let column = usize::try_from(error.pos.1).unwrap_or(1).max(1);
        let before: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
        let this = text.split_inclusive('\n').nth(line - 1).unwrap_or_default();
        let at = before + this.char_indices().nth(column - 1).map_or(this.len(), |(at, _)| at);
        vec![syntax(&error.msg, at, text, tokens)]
    })
}

/// What to say about an error of the parser, whose own words speak of its tokens.
fn syntax(message: &str, at: usize, text: &str, tokens: &[tokens::Token<'_>]) -> Fault {
    if message.contains("must be a simple name") {
        return Fault::new(at..at + 1, "a loop begins with a name for the entry", "write list.exists(x, x == \"...\")");
    }
    if message.contains("argument to has()") {
        return Fault::new(
            at..at + 1,
            "`has` is never needed: every variable is there, and empty where nothing is known",
            "compare with `\"\"`",
        );
    }
    let Some(index) = tokens.iter().position(|token| token.span().end > at) else {
        let end = text.trim_end().len();
        return Fault::new(end..end + 1, "the expression ends too early", "complete it");
    };
    let token = &tokens[index];
    let shown = tokens::clip(token.text);
    let help = match (token.text, index.checked_sub(1).and_then(|before| tokens.get(before))) {
        ("and" | "AND", _) => "write `&&` for and",
        ("or" | "OR", _) => "write `||` for or",
        (_, Some(before)) if matches!(before.text, "not" | "NOT") => "write `!` for not",
        _ if message.contains("reserved") => "take another name",
        (_, Some(before)) if before.kind != tokens::Kind::Sign && token.kind != tokens::Kind::Sign => {
            "put an operator between the two, such as `==`, `in` or `&&`"
        }
        _ => "see whether an operator, a quote or a bracket is missing before it",
    };
    Fault::new(token.span(), format!("`{shown}` cannot stand here"), help)
}

/// What policies of a kind can say: the paths of variables, and the names of functions.
pub(super) fn vocabulary(scope: Scope) -> (Vec<&'static str>, Vec<&'static str>) {
    (scope.variables(), scope.functions().map(|function| function.name).collect())
}

#[cfg(test)]
mod tests;
