//! What functions work on.

use std::ops::Range;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, operators},
};

use super::{check::Checker, evaluate, images, tokens::clip, types::Type, words};
use crate::diagnostics::{listed, nearest};

impl Checker<'_> {
    pub(super) fn call(&mut self, expression: &mut IdedExpr) -> Type {
        let at = self.place(expression.id);
        let id = expression.id;
        let Expr::Call(call) = &mut expression.expr else { return Type::Any };
        let operator = call.target.is_none()
            && call.func_name.contains(['_', '@'])
            && !call.func_name.starts_with(char::is_alphabetic);
        if operator && call.func_name == operators::IN {
            return self.contained(at, call, None);
        }
        if operator {
            return self.operator(at, call);
        }
        let name = call.func_name.clone();
        let at = self.place_of(&name, id);
        if !self.scope.functions().any(|function| function.name == name) {
            return self.unknown_function(at, &name);
        }
        let on_target = call.target.is_some();
        match (name.as_str(), on_target, call.args.len()) {
            ("contains", true, 1) => self.contains(at, call),
            ("startsWith" | "endsWith", true, 1) => {
                self.expect_target(&at, call, &name);
                self.expect_argument(&at, call, &name, &Type::Text);
                Type::Bool
            }
            ("matches", true, 1) => self.matches(at, call),
            ("size", true, 0) | ("size", false, 1) => {
                let of = call.target.as_deref_mut().or(call.args.first_mut()).map(|of| self.check(of));
                match of {
                    Some(Type::Text | Type::List(_) | Type::Tags(_) | Type::Map | Type::Any) | None => Type::Int,
                    Some(other) => self.fault(
                        at,
                        format!("`size` is of a text or a list, not of {other}"),
                        "name a text or a list",
                    ),
                }
            }
            ("now", false, 0) => {
                expression.expr = Expr::Ident(images::NOW.to_owned());
                Type::Time
            }
            ("days", false, 1) => self.span(&at, call, &name, images::DAY),
            ("hours", false, 1) => self.span(&at, call, &name, images::HOUR),
            ("minutes", false, 1) => self.span(&at, call, &name, images::MINUTE),
            ("top", false, 3) => self.top(at, call),
            _ => {
                let usage =
                    self.scope.functions().find(|function| function.name == name).map_or("", |function| function.usage);
                self.fault(at, format!("`{name}` is not used like this"), format!("write {usage}"))
            }
        }
    }

    fn unknown_function(&mut self, at: Range<usize>, name: &str) -> Type {
        let known: Vec<&str> = self.scope.functions().map(|function| function.name).collect();
        let says = match name {
            "now" | "days" | "hours" | "minutes" | "top" => {
                format!("`{name}` is a function of retention policies alone")
            }
            _ => format!("there is no function `{}`", clip(name)),
        };
        let help = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there is {}", listed(known, '`')),
        };
        self.fault(at, says, help)
    }

    fn expect_target(&mut self, at: &Range<usize>, call: &mut CallExpr, name: &str) {
        let kind = call.target.as_deref_mut().map_or(Type::Any, |target| self.check(target));
        if !kind.is(&Type::Text) {
            let help = match kind {
                Type::List(_) => format!("ask each entry: `list.exists(x, x.{name}(...))`"),
                _ => "name a text before the dot".to_owned(),
            };
            self.fault(at.clone(), format!("`{name}` stands behind a text, and this is {kind}"), help);
        }
    }

    fn expect_argument(&mut self, at: &Range<usize>, call: &mut CallExpr, name: &str, wanted: &Type) {
        let kind = call.args.first_mut().map_or(Type::Any, |argument| self.check(argument));
        if !kind.is(wanted) {
            self.fault(at.clone(), format!("`{name}` wants {wanted}, and gets {kind}"), format!("give it {wanted}"));
        }
    }

    /// `text.contains(part)`, or `list.contains(entry)`, which is `entry in list`.
    fn contains(&mut self, at: Range<usize>, call: &mut CallExpr) -> Type {
        let Some(target) = &mut call.target else { return Type::Any };
        match self.check(target) {
            Type::Text | Type::Any => {
                self.expect_argument(&at, call, "contains", &Type::Text);
                Type::Bool
            }
            many @ (Type::List(_) | Type::Tags(_) | Type::Map) => {
                let list = call.target.take().map(|list| *list).unwrap_or_default();
                operators::IN.clone_into(&mut call.func_name);
                call.args.push(list);
                self.contained(at, call, Some(many))
            }
            other => self.fault(
                at,
                format!("`contains` stands behind a text or a list, and this is {other}"),
                "name a text or a list before the dot",
            ),
        }
    }

    /// `entry in list`; `many` is what the list is, where it has been checked already.
    fn contained(&mut self, at: Range<usize>, call: &mut CallExpr, many: Option<Type>) -> Type {
        let [entry, list] = &mut call.args[..] else { return Type::Any };
        let one = self.check(entry);
        let many = many.unwrap_or_else(|| self.check(list));
        match &many {
            Type::List(of) if !of.is(&one) => {
                let help = if matches!(one, Type::List(_)) {
                    "ask for one entry: `one.exists(x, x in other)`"
                } else {
                    "compare what is of one kind"
                };
                return self.fault(at, format!("{one} is never in {many}"), help);
            }
            Type::Map if !one.is(&Type::Text) => {
                return self.fault(at, format!("{one} is never in {many}"), "ask for a key, which is a text");
            }
            Type::Tags(_) if !one.is(&Type::Text) => {
                return self.fault(at, format!("{one} is never in {many}"), "ask for a tag, which is a text");
            }
            Type::Tags(by) => {
                let by = *by;
                if words::variable(entry) == Some("image.tag") {
                    // where an image stands by a time that is not known is not known either
                    let all = LiteralValue::Int(i64::MAX.into());
                    call.args.push(IdedExpr { id: 0, expr: Expr::Literal(all) });
                    self.top_of(call, Some(by));
                }
                return Type::Bool;
            }
            Type::List(_) | Type::Map | Type::Any => {}
            other => {
                return self.fault(
                    at,
                    format!("`in` looks in lists, and this is {other}"),
                    "write `text.contains(\"part\")` for texts",
                );
            }
        }
        words::check(self, entry, list);
        Type::Bool
    }

    /// `text.matches(pattern)` with the pattern compiled, once.
    fn matches(&mut self, at: Range<usize>, call: &mut CallExpr) -> Type {
        self.expect_target(&at, call, "matches");
        let [pattern] = &mut call.args[..] else { return Type::Any };
        let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
            return self.fault(
                at,
                "the pattern of `matches` must be written out",
                "write text.matches(r'^pattern$'), or use startsWith and `==`",
            );
        };
        match evaluate::pattern(text.inner()) {
            Ok(compiled) => {
                let name = format!("$p{}", self.patterns.len());
                self.patterns.push(compiled);
                let place = pattern.id;
                let target = call.target.take().map(|target| *target).unwrap_or_default();
                evaluate::MATCHES.clone_into(&mut call.func_name);
                call.args = vec![target, IdedExpr { id: place, expr: Expr::Ident(name) }];
                Type::Bool
            }
            Err(why) => {
                let at = self.place(pattern.id);
                self.fault(at, format!("the pattern {why}"), "see docs.rs/regex, \"Syntax\", for what a pattern may be")
            }
        }
    }

    /// `days(count)`: that many times so many microseconds.
    fn span(&mut self, at: &Range<usize>, call: &mut CallExpr, name: &str, microseconds: i64) -> Type {
        self.expect_argument(at, call, name, &Type::Int);
        self.fallible = true; // out of range
        operators::MULTIPLY.clone_into(&mut call.func_name);
        call.args.push(IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(microseconds.into())) });
        Type::Span
    }

    /// `top(value, list, count)`
    fn top(&mut self, at: Range<usize>, call: &mut CallExpr) -> Type {
        let kinds: Vec<Type> = call.args.iter_mut().map(|argument| self.check(argument)).collect();
        let of_texts = |kind: &Type| matches!(kind, Type::Tags(_)) || kind.is(&Type::list(Type::Text));
        let fits =
            matches!(&kinds[..], [one, list, count] if one.is(&Type::Text) && of_texts(list) && count.is(&Type::Int));
        if !fits {
            return self.fault(
                at,
                "`top` wants a text, a list of texts and a number",
                "write top(image.tag, last_pushed, 10)",
            );
        }
        let by = match kinds[1] {
            Type::Tags(by) if words::variable(&call.args[0]) == Some("image.tag") => Some(by),
            _ => None,
        };
        self.top_of(call, by);
        Type::Bool
    }

    /// Makes a call with a text, a list and a number into that of the function which knows them, and the time that has to
    /// be known.
    fn top_of(&mut self, call: &mut CallExpr, by: Option<&'static str>) {
        let known = match by.and_then(|by| self.scope.variable(by)) {
            Some((_, name)) => {
                self.fallible = true;
                Expr::Ident(name)
            }
            None => Expr::Literal(LiteralValue::Int(0.into())),
        };
        evaluate::TOP.clone_into(&mut call.func_name);
        call.args.push(IdedExpr { id: 0, expr: known });
    }
}
