//! Checks the arguments of functions.

use std::ops::Range;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, operators},
};

use super::{
    context::Context,
    evaluate, images,
    tokens::clip,
    types::{NOW, Scope, Type},
    words,
};
use crate::diagnostics::{listed, nearest};

impl Context<'_> {
    /// Checks the call of a function, whose target and arguments have these types.
    pub(super) fn function(&mut self, expression: &mut IdedExpr, target: Option<Type>, kinds: &[Type]) -> Type {
        let id = expression.id;
        let Expr::Call(call) = &mut expression.expr else { return Type::Any };
        let name = call.func_name.clone();
        let at = self.place_of(&name, id);
        let Some(known) = self.scope.functions().find(|function| function.name == name) else {
            return self.unknown_function(at, &name);
        };
        match (name.as_str(), target, kinds) {
            ("contains", Some(target), [part]) => self.contains(at, call, &target, part),
            ("startsWith" | "endsWith", Some(target), [part]) => {
                self.expect_target(&at, &target, &name);
                self.expect_argument(&at, part, &name, &Type::Text);
                Type::Bool
            }
            ("matches", Some(target), [_]) => self.matches(at, call, &target),
            ("size", Some(of), []) => self.size(at, &of),
            ("size", None, [of]) => self.size(at, of),
            ("now", None, []) => {
                expression.expr = Expr::Ident(evaluate::NOW.to_owned());
                if self.scope == Scope::Access && !self.uses.contains(&NOW) {
                    self.uses.push(NOW);
                }
                Type::Time
            }
            ("timestamp", None, [of]) => {
                let (time, kind) = self.timestamp(&at, call, of);
                if let Some(time) = time {
                    expression.expr = Expr::Literal(LiteralValue::Int(time.into()));
                }
                kind
            }
            ("days", None, [count]) => self.span(&at, call, count, images::DAY),
            ("hours", None, [count]) => self.span(&at, call, count, images::HOUR),
            ("minutes", None, [count]) => self.span(&at, call, count, images::MINUTE),
            ("top", None, [_, _, _]) => self.top(at, call, kinds),
            _ => self.fault(at, format!("`{name}` is not used like this"), format!("write {}", known.usage)),
        }
    }

    fn size(&mut self, at: Range<usize>, of: &Type) -> Type {
        match of {
            Type::Text | Type::List(_) | Type::Tags(_) | Type::Map | Type::Any => Type::Int,
            other => self.fault(at, format!("`size` is of a text or a list, not of {other}"), "name a text or a list"),
        }
    }

    fn unknown_function(&mut self, at: Range<usize>, name: &str) -> Type {
        let known: Vec<&str> = self.scope.functions().map(|function| function.name).collect();
        let says = match name {
            "top" => format!("`{name}` is a function of retention policies alone"),
            _ => format!("there is no function `{}`", clip(name)),
        };
        let help = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there is {}", listed(known, '`')),
        };
        self.fault(at, says, help)
    }

    fn expect_target(&mut self, at: &Range<usize>, kind: &Type, name: &str) {
        if !kind.is(&Type::Text) {
            let help = match kind {
                Type::List(_) => format!("ask each entry: `list.exists(x, x.{name}(...))`"),
                _ => "name a text before the dot".to_owned(),
            };
            self.fault(at.clone(), format!("`{name}` stands behind a text, and this is {kind}"), help);
        }
    }

    fn expect_argument(&mut self, at: &Range<usize>, kind: &Type, name: &str, wanted: &Type) {
        if !kind.is(wanted) {
            self.fault(at.clone(), format!("`{name}` wants {wanted}, and gets {kind}"), format!("give it {wanted}"));
        }
    }

    /// Checks `text.contains(part)`. Turns `list.contains(entry)` into `entry in list`.
    fn contains(&mut self, at: Range<usize>, call: &mut CallExpr, target: &Type, part: &Type) -> Type {
        match target {
            Type::Text | Type::Any => {
                self.expect_argument(&at, part, "contains", &Type::Text);
                Type::Bool
            }
            Type::List(_) | Type::Tags(_) | Type::Map => {
                let list = call.target.take().map(|list| *list).unwrap_or_default();
                operators::IN.clone_into(&mut call.func_name);
                call.args.push(list);
                self.contained(at, call, part, target)
            }
            other => self.fault(
                at,
                format!("`contains` stands behind a text or a list, and this is {other}"),
                "name a text or a list before the dot",
            ),
        }
    }

    /// Checks `entry in list`, whose operands have these types.
    pub(super) fn contained(&mut self, at: Range<usize>, call: &mut CallExpr, one: &Type, many: &Type) -> Type {
        let [entry, list] = &call.args[..] else { return Type::Any };
        match many {
            Type::List(of) if !of.is(one) => {
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
                    // If a time is not known, the place of the image by that time is not known either.
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

    /// Checks `text.matches(pattern)`, and compiles the pattern, once.
    fn matches(&mut self, at: Range<usize>, call: &mut CallExpr, target: &Type) -> Type {
        self.expect_target(&at, target, "matches");
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

    /// Checks `timestamp(text)`. Returns the time of a text that is written out, and the type.
    fn timestamp(&mut self, at: &Range<usize>, call: &mut CallExpr, of: &Type) -> (Option<i64>, Type) {
        let [text] = &call.args[..] else { return (None, Type::Any) };
        if let Expr::Literal(LiteralValue::String(written)) = &text.expr {
            let time = evaluate::time(written.inner());
            if time.is_none() {
                let says = format!("`{}` is no time", clip(written.inner()));
                self.fault(
                    self.place(text.id),
                    says,
                    "write a date, a time and its offset from UTC: timestamp('2026-12-24T00:00:00Z')",
                );
            }
            return (time, Type::Time);
        }
        self.expect_argument(at, of, "timestamp", &Type::Text);
        self.fallible = true; // no time
        evaluate::TIMESTAMP.clone_into(&mut call.func_name);
        (None, Type::Time)
    }

    /// Turns `days(count)` and its like into so many times that many microseconds.
    fn span(&mut self, at: &Range<usize>, call: &mut CallExpr, count: &Type, microseconds: i64) -> Type {
        self.expect_argument(at, count, &call.func_name, &Type::Int);
        self.fallible = true; // out of range
        operators::MULTIPLY.clone_into(&mut call.func_name);
        call.args.push(IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(microseconds.into())) });
        Type::Span
    }

    /// Checks `top(value, list, count)`.
    fn top(&mut self, at: Range<usize>, call: &mut CallExpr, kinds: &[Type]) -> Type {
        let of_texts = |kind: &Type| matches!(kind, Type::Tags(_)) || kind.is(&Type::list(Type::Text));
        let fits = matches!(kinds, [one, list, count] if one.is(&Type::Text) && of_texts(list) && count.is(&Type::Int));
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

    /// Turns a call with a text, a list and a number into a call of the function that knows tags, with the time that must be
    /// known.
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
