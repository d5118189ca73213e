//! A condition: an expression that was parsed, on a stack of its own, and checked.

use std::thread;

use cel::IdedExpr;

use super::{
    check::Checker,
    context::Context,
    evaluate::{self, Undecided, Values},
    syntax::parse,
    tokens::{self, Fault},
    types::{Scope, Type},
};

/// The stack that expressions are parsed on, in bytes. An expression within the limits takes a small part of it, also if
/// nothing is optimised.
const STACK: usize = 32 << 20;

/// A checked expression that yields a boolean.
#[derive(Debug)]
pub(in crate::policy) struct Condition {
    pub(super) expression: IdedExpr,
    pub(super) patterns: Vec<evaluate::Pattern>,
    /// Loops over the tags of a repository, which are the same for each image of it, and the time that orders the tags.
    pub(super) shared: Vec<(IdedExpr, &'static str)>,
    uses: Vec<&'static str>,
    fallible: bool,
    words: String,
}

impl Condition {
    /// Returns whether the condition holds, if that can be known.
    pub(in crate::policy) fn holds(&self, values: &Values<'_>) -> Result<bool, Undecided> {
        evaluate::holds(&self.expression, &self.patterns, values)
    }

    /// Returns true if [`Condition::holds`] can fail.
    pub(in crate::policy) const fn is_fallible(&self) -> bool {
        self.fallible
    }

    /// Returns the paths of its variables.
    pub(in crate::policy) fn uses(&self) -> &[&'static str] {
        &self.uses
    }

    /// Returns its words, which are the same for expressions that differ in spaces, comments and quotes only.
    pub(in crate::policy) fn words(&self) -> &str {
        &self.words
    }

    /// Returns the value of the expression, if it is nothing but `true` or `false`.
    pub(in crate::policy) fn literal(&self) -> Option<bool> {
        self.words.parse().ok()
    }
}

/// Reads and checks expressions, in their order. Takes a few milliseconds at most for each.
pub(in crate::policy) fn compile(texts: &[&str], scope: Scope) -> Vec<Result<Condition, Vec<Fault>>> {
    let read: Vec<_> = texts.iter().map(|text| tokens::read(text)).collect();
    if read.iter().all(Result::is_err) {
        // Most often there is no expression at all, and no thread for none.
        return read
            .into_iter()
            .map(|read| read.map(|_| unreachable!("all are errors")).map_err(|fault| vec![fault]))
            .collect();
    }
    // An expression that makes the parser panic is refused alone.
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
    let mut checker = Checker::new(Context::new(scope, tokens, &places));
    let kind = checker.check(&mut expression);
    if checker.context.faults.is_empty() && kind != Type::Bool {
        let help = match kind {
            Type::Text => "compare it with something: `... == \"...\"`",
            Type::List(_) | Type::Tags(_) => "ask for an entry, `list.contains(\"...\")`, or for its size",
            _ if scope == Scope::Retention => "write a condition, such as `image.tag == \"latest\"`",
            _ => "write a condition, such as `request.access == \"pull\"`",
        };
        checker.context.fault(0..text.len(), format!("a rule is true or false, and this is {kind}"), help);
    }
    let Checker { context, shared, .. } = checker;
    let Context { mut faults, patterns, uses, fallible, .. } = context;
    if !faults.is_empty() {
        faults.sort_by_key(|fault| fault.at.start);
        faults.dedup();
        return Err(faults);
    }
    let words = tokens.iter().map(normal).collect::<Vec<_>>().join(" ");
    Ok(Condition { expression, patterns, shared, uses, fallible, words })
}

/// Returns a word in one of the ways in which it can be written.
fn normal(token: &tokens::Token<'_>) -> String {
    let text = token.text;
    let single = token.kind == tokens::Kind::Text && text.starts_with('\'') && !text.starts_with("'''");
    if single && !text.contains(['\\', '"']) { text.replace('\'', "\"") } else { text.to_owned() }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
