//! The state of checking one expression: its words, and the findings.

use std::ops::Range;

use cel::common::ast::SourceInfo;

use super::{
    evaluate::Pattern,
    tokens::{Fault, Kind, Token},
    types::{Scope, Type},
};

/// The words of one expression, and the findings about it.
pub(super) struct Context<'a> {
    pub(super) scope: Scope,
    tokens: &'a [Token<'a>],
    places: &'a SourceInfo,
    pub(super) faults: Vec<Fault>,
    pub(super) patterns: Vec<Pattern>,
    /// The paths of the variables that the expression uses.
    pub(super) uses: Vec<&'static str>,
    /// True if evaluation can fail.
    pub(super) fallible: bool,
    /// The number of texts that are joined.
    pub(super) joins: usize,
}

impl<'a> Context<'a> {
    pub(super) fn new(scope: Scope, tokens: &'a [Token<'a>], places: &'a SourceInfo) -> Self {
        let (faults, patterns, uses) = (Vec::new(), Vec::new(), Vec::new());
        Self { scope, tokens, places, faults, patterns, uses, fallible: false, joins: 0 }
    }

    /// Returns the place of the word at which an expression was written, in bytes.
    pub(super) fn place(&self, id: u64) -> Range<usize> {
        let (start, stop) = self.places.offset_for(id).unwrap_or((0, 0));
        let (start, stop) = (start as usize, stop as usize);
        // The parser puts a call at its bracket.
        let called = self.tokens.windows(2).find(|pair| pair[1].at == start && pair[1].text == "(");
        match called {
            Some([name, _]) if name.kind == Kind::Name => name.span(),
            _ => start..stop + 1,
        }
    }

    /// Returns the place of a name near an expression.
    pub(super) fn place_of(&self, name: &str, id: u64) -> Range<usize> {
        let near = self.place(id);
        let named = self.tokens.iter().filter(|token| token.kind == Kind::Name && token.text == name);
        named.min_by_key(|token| token.at.abs_diff(near.start)).map_or(near, Token::span)
    }

    /// Adds a fault. Returns the type that fits everything, so that a fault has no further faults.
    pub(super) fn fault(&mut self, at: Range<usize>, says: impl Into<String>, help: impl Into<String>) -> Type {
        self.faults.push(Fault::new(at, says, help));
        Type::Any
    }
}
