//! What is known of an expression without a request: for rules that can never be true, or always are.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, operators},
};

use super::{Condition, words};
use crate::action::{ACTIONS, Row};

/// What is known of the requests that a rule is asked about.
#[derive(Clone, Copy)]
pub(in crate::policy) enum Covers<'a> {
    /// Requests of all kinds.
    Everything,
    /// Requests about repositories below these prefixes.
    Below(&'a [String]),
}

/// A value that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Known>),
}

/// Whether an expression is the same for every request.
pub(super) fn constant(condition: &Condition, covers: Covers<'_>) -> Option<bool> {
    let asked = ACTIONS.iter().filter(|row| row.is_about_repository() || matches!(covers, Covers::Everything));
    let mut all = None;
    for row in asked {
        let Some(Known::Bool(this)) = (Folding { row, covers }).fold(&condition.expression) else { return None };
        if all.is_some_and(|all| all != this) {
            return None;
        }
        all = Some(this);
    }
    all
}

struct Folding<'a> {
    row: &'a Row,
    covers: Covers<'a>,
}

impl Folding<'_> {
    fn fold(&self, expression: &IdedExpr) -> Option<Known> {
        match &expression.expr {
            Expr::Literal(LiteralValue::Boolean(value)) => Some(Known::Bool(*value.inner())),
            Expr::Literal(LiteralValue::Int(value)) => Some(Known::Int(*value.inner())),
            Expr::Literal(LiteralValue::String(value)) => Some(Known::Text(value.inner().to_owned())),
            Expr::List(list) => {
                list.elements.iter().map(|element| self.fold(element)).collect::<Option<_>>().map(Known::List)
            }
            Expr::Call(call) => self.call(call),
            _ => match words::variable(expression)? {
                "request.action" => Some(Known::Text(self.row.word.to_owned())),
                "request.access" => Some(Known::Text(self.row.access.as_str().to_owned())),
                "request.namespace" if !self.row.is_about_repository() => Some(Known::Text(String::new())),
                _ => None,
            },
        }
    }

    fn bool(&self, expression: &IdedExpr) -> Option<bool> {
        match self.fold(expression)? {
            Known::Bool(value) => Some(value),
            _ => None,
        }
    }

    fn call(&self, call: &CallExpr) -> Option<Known> {
        let known = |value| Some(Known::Bool(value));
        match (call.func_name.as_str(), &call.args[..], &call.target) {
            (operators::LOGICAL_AND, [left, right], _) => match (self.bool(left), self.bool(right)) {
                (Some(false), _) | (_, Some(false)) => known(false),
                (Some(true), Some(true)) => known(true),
                _ => None,
            },
            (operators::LOGICAL_OR, [left, right], _) => match (self.bool(left), self.bool(right)) {
                (Some(true), _) | (_, Some(true)) => known(true),
                (Some(false), Some(false)) => known(false),
                _ => None,
            },
            (operators::LOGICAL_NOT, [one], _) => known(!self.bool(one)?),
            (operators::CONDITIONAL, [condition, yes, no], _) => {
                self.fold(if self.bool(condition)? { yes } else { no })
            }
            (operators::EQUALS, [left, right], _) => known(self.equal(left, right)?),
            (operators::NOT_EQUALS, [left, right], _) => known(!self.equal(left, right)?),
            (operators::IN, [one, many], _) => self.contained(one, many).map(Known::Bool),
            ("startsWith", [begin], Some(target)) => {
                let Known::Text(begin) = self.fold(begin)? else { return None };
                match self.fold(target) {
                    Some(Known::Text(text)) => known(text.starts_with(&begin)),
                    _ if is_name(target) && !self.may_begin_with(&begin) => known(false),
                    _ => None,
                }
            }
            ("endsWith", [end], Some(target)) => match (self.fold(target)?, self.fold(end)?) {
                (Known::Text(text), Known::Text(end)) => known(text.ends_with(&end)),
                _ => None,
            },
            ("contains", [part], Some(target)) => match (self.fold(target)?, self.fold(part)?) {
                (Known::Text(text), Known::Text(part)) => known(text.contains(&part)),
                _ => None,
            },
            (name, [left, right], _) => match (self.fold(left)?, self.fold(right)?) {
                (Known::Int(one), Known::Int(two)) => ordered(name, &one, &two),
                (Known::Text(one), Known::Text(two)) => ordered(name, &one, &two),
                _ => None,
            },
            _ => None,
        }
    }

    fn equal(&self, left: &IdedExpr, right: &IdedExpr) -> Option<bool> {
        match (self.fold(left), self.fold(right)) {
            (Some(one), Some(two)) => Some(one == two),
            (None, Some(Known::Text(name))) if is_name(left) && !self.may_be(&name) => Some(false),
            (Some(Known::Text(name)), None) if is_name(right) && !self.may_be(&name) => Some(false),
            _ => None,
        }
    }

    fn contained(&self, one: &IdedExpr, many: &IdedExpr) -> Option<bool> {
        let Known::List(many) = self.fold(many)? else { return None };
        match self.fold(one) {
            Some(one) => Some(many.contains(&one)),
            None if many.is_empty() => Some(false),
            None if is_name(one) => {
                let none = many.iter().all(|name| matches!(name, Known::Text(name) if !self.may_be(name)));
                none.then_some(false)
            }
            None => None,
        }
    }

    /// Whether the repository can be this one.
    fn may_be(&self, name: &str) -> bool {
        match self.covers {
            Covers::Everything => true,
            Covers::Below(prefixes) => prefixes.iter().any(|prefix| covers(prefix, name)),
        }
    }

    /// Whether the repository's name can begin so.
    fn may_begin_with(&self, begin: &str) -> bool {
        match self.covers {
            Covers::Everything => true,
            Covers::Below(prefixes) => prefixes
                .iter()
                .any(|prefix| covers(prefix, begin) || prefix.starts_with(begin) || format!("{prefix}/") == begin),
        }
    }
}

fn is_name(expression: &IdedExpr) -> bool {
    words::variable(expression) == Some("request.namespace")
}

fn ordered<T: Ord>(operator: &str, one: &T, two: &T) -> Option<Known> {
    let value = match operator {
        operators::LESS => one < two,
        operators::LESS_EQUALS => one <= two,
        operators::GREATER => one > two,
        operators::GREATER_EQUALS => one >= two,
        _ => return None,
    };
    Some(Known::Bool(value))
}

/// Whether a prefix of repository names covers a name: that very name, or one below it; `*` covers all.
pub(in crate::policy) fn covers(prefix: &str, name: &str) -> bool {
    prefix == "*" || name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
