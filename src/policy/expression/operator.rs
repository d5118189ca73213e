//! What operators work on.

use std::ops::Range;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, operators},
};

use super::{check::Checker, types::Type, words};

/// How often one expression may join texts: what it makes of them stays small.
pub const MAX_JOINS: usize = 16;

impl Checker<'_> {
    pub(super) fn operator(&mut self, at: Range<usize>, call: &mut CallExpr) -> Type {
        let name = call.func_name.clone();
        match (name.as_str(), &mut call.args[..]) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [left, right]) => {
                // the accumulated result of `all` and `exists`, which nobody wrote
                let loops = matches!(&left.expr, Expr::Ident(name) if name.starts_with('@'));
                let says = match name.as_str() {
                    _ if loops => "the last part of a loop is a condition",
                    operators::LOGICAL_AND => "`&&` joins conditions",
                    _ => "`||` joins conditions",
                };
                self.condition(&at, left, says);
                self.condition(&at, right, says);
                Type::Bool
            }
            (operators::LOGICAL_NOT, [one]) => {
                self.condition(&at, one, "`!` turns a condition around");
                Type::Bool
            }
            (operators::NOT_STRICTLY_FALSE, [one]) => self.check(one),
            (operators::CONDITIONAL, [condition, yes, no]) => {
                self.condition(&at, condition, "what decides is a condition");
                let (yes, no) = (self.check(yes), self.check(no));
                yes.unify(&no).unwrap_or_else(|| {
                    let says = format!("`?` and `:` lead to {yes} and to {no}");
                    self.fault(at, says, "both must be of one kind")
                })
            }
            (operators::EQUALS | operators::NOT_EQUALS, [left, right]) => self.equality(at, left, right),
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                [left, right],
            ) => {
                let (one, two) = (self.check(left), self.check(right));
                match one.unify(&two) {
                    Some(Type::Int | Type::Text | Type::Time | Type::Span | Type::Any) => Type::Bool,
                    Some(both) => {
                        self.fault(at, format!("there is no order of {both}"), "compare numbers, texts or times")
                    }
                    None => self.fault(at, format!("this compares {one} with {two}"), "compare what is of one kind"),
                }
            }
            (operators::INDEX, [of, index]) => self.index(at, of, index),
            (operators::NEGATE, [one]) => match self.check(one) {
                kind @ (Type::Int | Type::Span | Type::Any) => {
                    self.fallible = true;
                    kind
                }
                other => self.fault(at, format!("`-` is of numbers, not of {other}"), "write `!` for not"),
            },
            (_, [left, right]) => self.arithmetic(at, &name, left, right),
            _ => self.fault(at, "policies know no such operator", "see the reference of policies"),
        }
    }

    fn condition(&mut self, at: &Range<usize>, operand: &mut IdedExpr, says: &str) {
        let kind = self.check(operand);
        if !kind.is(&Type::Bool) {
            self.fault(
                at.clone(),
                format!("{says}, and this is {kind}"),
                "compare it with something: `... == \"...\"`",
            );
        }
    }

    fn equality(&mut self, at: Range<usize>, left: &mut IdedExpr, right: &mut IdedExpr) -> Type {
        let (one, two) = (self.check(left), self.check(right));
        if matches!((&one, &two), (Type::Tags(_) | Type::Map, _) | (_, Type::Tags(_) | Type::Map)) {
            let says = format!("this compares {one} with {two}");
            return self.fault(at, says, "ask for an entry: `list.contains(\"...\")`, `image.annotations[\"...\"]`");
        }
        if !one.is(&two) {
            let help = match (&one, &two) {
                (Type::List(_), Type::Text) | (Type::Text, Type::List(_)) => "write `list.contains(\"entry\")`",
                _ => "compare what is of one kind",
            };
            return self.fault(at, format!("{one} never equals {two}"), help);
        }
        words::check(self, left, right);
        words::check(self, right, left);
        Type::Bool
    }

    fn index(&mut self, at: Range<usize>, of: &mut IdedExpr, index: &mut IdedExpr) -> Type {
        let (many, which) = (self.check(of), self.check(index));
        // an annotation that is not there is empty
        self.fallible |= many != Type::Map;
        match many {
            Type::List(of) if which.is(&Type::Int) => *of,
            Type::Tags(_) if which.is(&Type::Int) => Type::Text,
            Type::Map if which.is(&Type::Text) => Type::Text,
            Type::Any => Type::Any,
            Type::List(_) | Type::Tags(_) => {
                self.fault(at, format!("a list is asked by number, not by {which}"), "write `list[0]`")
            }
            other => self.fault(at, format!("{other} has no entries"), "leave the brackets out"),
        }
    }

    fn arithmetic(&mut self, at: Range<usize>, name: &str, left: &mut IdedExpr, right: &mut IdedExpr) -> Type {
        // `filter` and `map` add to a list that nobody wrote
        let accumulates = matches!(&left.expr, Expr::Ident(name) if name.starts_with('@'));
        let (one, two) = (self.check(left), self.check(right));
        let sign = name.trim_matches('_');
        let both = one.unify(&two);
        match (sign, both, &one, &two) {
            (_, _, Type::Any, _) | (_, _, _, Type::Any) if one != two => Type::Any,
            (_, Some(Type::Any), ..) => Type::Any,
            ("+", Some(kind @ Type::List(_)), ..) if accumulates => kind,
            ("+", Some(Type::List(_)), ..) => {
                self.fault(at, "lists cannot be joined", "ask one after the other: `a.contains(x) || b.contains(x)`")
            }
            ("+", Some(Type::Text), ..) => {
                self.joins += 1;
                if self.joins > MAX_JOINS {
                    let says = format!("the expression joins texts more than {MAX_JOINS} times");
                    self.fault(at, says, "write texts in one piece");
                }
                Type::Text
            }
            ("+" | "-" | "*" | "/" | "%", Some(Type::Int), ..) => {
                self.fallible = true; // out of range, divided by zero
                Type::Int
            }
            ("+" | "-", Some(Type::Span), ..) | ("-", Some(Type::Time), ..) => {
                self.fallible = true;
                Type::Span
            }
            ("+" | "-", None, Type::Time, Type::Span) | ("+", None, Type::Span, Type::Time) => {
                self.fallible = true;
                Type::Time
            }
            _ => self.fault(
                at,
                format!("`{sign}` does not work on {one} and {two}"),
                "use numbers, or join texts with `+`",
            ),
        }
    }
}
