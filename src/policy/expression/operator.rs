//! Checks the operands of operators.

use std::ops::Range;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, operators},
};

use super::{context::Context, types::Type, words};

/// The number of joins of texts in one expression. So a text that it makes stays small.
pub const MAX_JOINS: usize = 16;

impl Context<'_> {
    /// Checks the call of an operator whose operands have these types.
    pub(super) fn operator(&mut self, id: u64, call: &mut CallExpr, kinds: &[Type]) -> Type {
        let at = self.place(id);
        let name = call.func_name.clone();
        match (name.as_str(), &call.args[..], kinds) {
            (operators::IN, [_, _], [entry, many]) => {
                let (entry, many) = (entry.clone(), many.clone());
                self.contained(at, call, &entry, &many)
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [first, _], [left, right]) => {
                // The accumulated result of `all` and `exists`, which nobody wrote, is in a loop.
                let loops = matches!(&first.expr, Expr::Ident(name) if name.starts_with('@'));
                let says = match name.as_str() {
                    _ if loops => "the last part of a loop is a condition",
                    operators::LOGICAL_AND => "`&&` joins conditions",
                    _ => "`||` joins conditions",
                };
                self.condition(&at, left, says);
                self.condition(&at, right, says);
                Type::Bool
            }
            (operators::LOGICAL_NOT, _, [one]) => {
                self.condition(&at, one, "`!` turns a condition around");
                Type::Bool
            }
            (operators::NOT_STRICTLY_FALSE, _, [one]) => one.clone(),
            (operators::CONDITIONAL, _, [condition, yes, no]) => {
                self.condition(&at, condition, "what decides is a condition");
                yes.unify(no).unwrap_or_else(|| {
                    let says = format!("`?` and `:` lead to {yes} and to {no}");
                    self.fault(at, says, "both must be of one kind")
                })
            }
            (operators::EQUALS | operators::NOT_EQUALS, [left, right], [one, two]) => {
                self.equality(at, (left, one), (right, two))
            }
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                _,
                [one, two],
            ) => match one.unify(two) {
                Some(Type::Int | Type::Text | Type::Time | Type::Span | Type::Any) => Type::Bool,
                Some(both) => self.fault(at, format!("there is no order of {both}"), "compare numbers, texts or times"),
                None => self.fault(at, format!("this compares {one} with {two}"), "compare what is of one kind"),
            },
            (operators::INDEX, _, [of, index]) => self.index(at, of, index),
            (operators::NEGATE, _, [one]) => match one {
                Type::Int | Type::Span | Type::Any => {
                    self.fallible = true;
                    one.clone()
                }
                other => self.fault(at, format!("`-` is of numbers, not of {other}"), "write `!` for not"),
            },
            (_, [left, _], [one, two]) => {
                // `filter` and `map` add to a list that nobody wrote.
                let accumulates = matches!(&left.expr, Expr::Ident(name) if name.starts_with('@'));
                self.arithmetic(at, &name, accumulates, one, two)
            }
            _ => self.fault(at, "policies know no such operator", "see the reference of policies"),
        }
    }

    fn condition(&mut self, at: &Range<usize>, kind: &Type, says: &str) {
        if !kind.is(&Type::Bool) {
            self.fault(
                at.clone(),
                format!("{says}, and this is {kind}"),
                "compare it with something: `... == \"...\"`",
            );
        }
    }

    fn equality(
        &mut self,
        at: Range<usize>,
        (left, one): (&IdedExpr, &Type),
        (right, two): (&IdedExpr, &Type),
    ) -> Type {
        if matches!((one, two), (Type::Tags(_) | Type::Map, _) | (_, Type::Tags(_) | Type::Map)) {
            let says = format!("this compares {one} with {two}");
            return self.fault(at, says, "ask for an entry: `list.contains(\"...\")`, `image.annotations[\"...\"]`");
        }
        if !one.is(two) {
            let help = match (one, two) {
                (Type::List(_), Type::Text) | (Type::Text, Type::List(_)) => "write `list.contains(\"entry\")`",
                _ => "compare what is of one kind",
            };
            return self.fault(at, format!("{one} never equals {two}"), help);
        }
        words::check(self, left, right);
        words::check(self, right, left);
        Type::Bool
    }

    fn index(&mut self, at: Range<usize>, many: &Type, which: &Type) -> Type {
        // An annotation that is not there is empty.
        self.fallible |= *many != Type::Map;
        match many {
            Type::List(of) if which.is(&Type::Int) => (**of).clone(),
            Type::Tags(_) if which.is(&Type::Int) => Type::Text,
            Type::Map if which.is(&Type::Text) => Type::Text,
            Type::Any => Type::Any,
            Type::List(_) | Type::Tags(_) => {
                self.fault(at, format!("a list is asked by number, not by {which}"), "write `list[0]`")
            }
            other => self.fault(at, format!("{other} has no entries"), "leave the brackets out"),
        }
    }

    fn arithmetic(&mut self, at: Range<usize>, name: &str, accumulates: bool, one: &Type, two: &Type) -> Type {
        let sign = name.trim_matches('_');
        let both = one.unify(two);
        match (sign, both, one, two) {
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
