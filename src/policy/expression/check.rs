//! Checks that an expression means something: every name exists, and every operator and function gets values of its types.
//!
//! The walk also prepares the tree for evaluation: a variable becomes one name instead of a chain of fields, and
//! `list.contains(x)` becomes `x in list`. Patterns are compiled.

use std::ops::Range;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, Expr, ListExpr, LiteralValue, operators},
};

use super::{context::Context, tokens::clip, types::Type};
use crate::diagnostics::{listed, nearest};

/// Names that no variable of `exists` and its like may have.
const ROOTS: [&str; 5] = ["identity", "request", "image", "last_pushed", "last_pulled"];

/// The walk over one expression.
pub(super) struct Checker<'a> {
    pub(super) context: Context<'a>,
    /// The variables of loops, with their types.
    locals: Vec<(String, Type)>,
    /// Loops over the tags of a repository, taken out of the expression, and the time that orders the tags.
    pub(super) shared: Vec<(IdedExpr, &'static str)>,
    /// True inside of the condition of `exists` or its like.
    looping: bool,
    /// The number of variables of an image that were seen.
    images: usize,
    /// The number of `map` that were seen.
    maps: usize,
}

impl<'a> Checker<'a> {
    pub(super) fn new(context: Context<'a>) -> Self {
        Self { context, locals: Vec::new(), shared: Vec::new(), looping: false, images: 0, maps: 0 }
    }

    /// Checks an expression and all in it. Returns the type of its value.
    pub(super) fn check(&mut self, expression: &mut IdedExpr) -> Type {
        let id = expression.id;
        match &mut expression.expr {
            Expr::Literal(literal) => self.literal(id, literal),
            Expr::Ident(_) | Expr::Select(_) => self.name(expression),
            Expr::List(list) => self.list(id, list),
            Expr::Comprehension(_) => self.comprehension(expression),
            Expr::Call(call) => {
                let target = call.target.as_deref_mut().map(|target| self.check(target));
                let kinds: Vec<Type> = call.args.iter_mut().map(|argument| self.check(argument)).collect();
                if is_operator(call) {
                    self.context.operator(id, call, &kinds)
                } else {
                    self.context.function(expression, target, &kinds)
                }
            }
            Expr::Map(_) | Expr::Struct(_) => self.context.fault(
                self.context.place(id),
                "policies know no maps",
                "write a list, `[...]`, or several conditions",
            ),
            Expr::Unspecified => {
                self.context.fault(self.context.place(id), "something is missing here", "complete the expression")
            }
        }
    }

    fn literal(&mut self, id: u64, literal: &LiteralValue) -> Type {
        match literal {
            LiteralValue::Boolean(_) => Type::Bool,
            LiteralValue::Int(_) => Type::Int,
            LiteralValue::String(_) => Type::Text,
            LiteralValue::Null => self.context.fault(
                self.context.place(id),
                "nothing is null in a policy",
                "what is missing is an empty text or list: compare with `\"\"`, or write `size(...) == 0`",
            ),
            _ => self.context.fault(
                self.context.place(id),
                "policies know no such value",
                "use texts, whole numbers, true and false",
            ),
        }
    }

    fn name(&mut self, expression: &mut IdedExpr) -> Type {
        let id = expression.id;
        if let Expr::Select(select) = &mut expression.expr {
            if select.test {
                let says = "`has` is never needed: every variable is there, and empty where nothing is known";
                return self.context.fault(
                    self.context.place_of("has", id),
                    says,
                    "compare with `\"\"`, or write `size(...) > 0`",
                );
            }
            if path_of(&select.operand).is_none_or(|path| self.is_local(root_of(&path))) {
                let kind = self.check(&mut select.operand);
                let says = format!("{kind} has no field `{}`", clip(&select.field));
                let at = self.context.place_of(&select.field, id);
                return if kind == Type::Any { kind } else { self.context.fault(at, says, "compare it as it is") };
            }
        }
        let Some(path) = path_of(expression) else { return Type::Any };
        if let Some((_, kind)) = self.locals.iter().rev().find(|(name, _)| *name == path) {
            return kind.clone();
        }
        if let Some((kind, name)) = self.context.scope.variable(&path) {
            let known = self.context.scope.variables().into_iter().find(|known| *known == path);
            self.context.uses.extend(known.filter(|known| !self.context.uses.contains(known)));
            self.images += usize::from(path.starts_with("image."));
            self.context.fallible |= kind == Type::Time;
            expression.expr = Expr::Ident(name);
            return kind;
        }
        self.unknown(id, &path)
    }

    fn is_local(&self, name: &str) -> bool {
        self.locals.iter().any(|(local, _)| local == name)
    }

    /// Says that a name is not known, and what it may be meant as.
    fn unknown(&mut self, id: u64, path: &str) -> Type {
        // The longest known beginning, and the first unknown part.
        let mut group = String::new();
        let mut parts = path.split('.').peekable();
        let mut wrong = "";
        while let Some(part) = parts.next() {
            wrong = part;
            let longer = if group.is_empty() { part.to_owned() } else { format!("{group}.{part}") };
            if !self.context.scope.is_group(&longer) {
                break;
            }
            group = longer;
            if parts.peek().is_none() {
                let members = self.context.scope.members(&group);
                let says = format!("`{group}` is not a value but several");
                let help = format!("name one of them: {}", listed(members, '`'));
                return self.context.fault(self.context.place_of(wrong, id), says, help);
            }
        }
        let at = self.context.place_of(wrong, id);
        let longer = if group.is_empty() { wrong.to_owned() } else { format!("{group}.{wrong}") };
        if self.context.scope.variable(&longer).is_some() {
            let says = format!("`{}` has no fields", clip(&longer));
            let at = parts.next().map_or(at, |field| self.context.place_of(field, id));
            return self.context.fault(at, says, "leave out what follows it");
        }
        let members = self.context.scope.members(&group);
        let says = match group.as_str() {
            "" => format!("there is no `{}`", clip(wrong)),
            group => format!("`{group}` has no `{}`", clip(wrong)),
        };
        let elsewhere = || {
            let all = self.context.scope.variables().into_iter();
            all.filter(|known| known.rsplit('.').next() == Some(wrong)).min_by_key(|known| known.len())
        };
        let help = match nearest(wrong, members.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => match elsewhere() {
                Some(path) => format!("did you mean `{path}`?"),
                None if group.is_empty() => format!("there is {}; texts are in quotes", listed(members, '`')),
                None => format!("there is {}", listed(members, '`')),
            },
        };
        self.context.fault(at, says, help)
    }

    fn list(&mut self, id: u64, list: &mut ListExpr) -> Type {
        let mut kind = Type::Any;
        for element in &mut list.elements {
            let this = self.check(element);
            if matches!(this, Type::Tags(_)) {
                let at = self.context.place(element.id);
                self.context.fault(at, "a list of tags is no entry of another list", "ask one after the other");
            } else if let Some(both) = kind.unify(&this) {
                kind = both;
            } else {
                let says = format!("a list of {kind} and {this}: its entries must be of one kind");
                let at = self.context.place(if element.id == 0 { id } else { element.id });
                self.context.fault(at, says, "make two lists");
            }
        }
        Type::list(kind)
    }

    fn comprehension(&mut self, expression: &mut IdedExpr) -> Type {
        let at = self.context.place(expression.id);
        let Expr::Comprehension(comprehension) = &mut expression.expr else { return Type::Any };
        if self.looping {
            let says =
                "a loop inside of a loop: `all`, `exists`, `exists_one`, `filter` and `map` cannot hold one another";
            return self.context.fault(
                at,
                says,
                "split the rule, or filter one list first: `a.filter(...).exists(...)`",
            );
        }
        let (maps, images) = (self.maps, self.images);
        let (over, tags) = match self.check(&mut comprehension.iter_range) {
            Type::List(of) => (*of, None),
            Type::Tags(by) => (Type::Text, Some(by)),
            Type::Any => (Type::Any, None),
            other => {
                return self.context.fault(
                    at,
                    format!("this goes over lists, and stands behind {other}"),
                    "name a list before the dot",
                );
            }
        };
        if is_map(comprehension) {
            // Each could make its list many times as large.
            if self.maps > maps {
                let says = "a `map` of what another `map` made";
                return self.context.fault(at, says, "write one `map` that does both");
            }
            if tags.is_some() {
                let says = "a `map` of all tags of the repository";
                return self.context.fault(at, says, "pick tags with `filter`, or ask with `exists` or `all`");
            }
            self.maps += 1;
        }
        let variable = comprehension.iter_var.clone();
        if ROOTS.contains(&variable.as_str()) || self.is_local(&variable) {
            let says = format!("`{variable}` has a meaning already");
            return self.context.fault(at, says, "take another name, such as `x`");
        }
        let result = self.rounds(comprehension, variable, over);
        match tags {
            Some(by) => self.share(at, expression, by, result, images),
            None => result,
        }
    }

    /// Checks the parts of a loop. Returns the type of its result.
    fn rounds(&mut self, comprehension: &mut ComprehensionExpr, variable: String, over: Type) -> Type {
        let start = self.check(&mut comprehension.accu_init);
        self.looping = true;
        self.locals.push((variable, over));
        self.locals.push((comprehension.accu_var.clone(), start.clone()));
        self.check(&mut comprehension.loop_cond);
        let step = self.check(&mut comprehension.loop_step);
        if let (Some(local), Some(both)) = (self.locals.last_mut(), start.unify(&step)) {
            local.1 = both;
        }
        let result = self.check(&mut comprehension.result);
        self.locals.truncate(self.locals.len() - 2);
        self.looping = false;
        result
    }

    /// Takes a loop over all tags of a repository out of the expression, to be evaluated once for all images.
    fn share(
        &mut self,
        at: Range<usize>,
        expression: &mut IdedExpr,
        by: &'static str,
        result: Type,
        images: usize,
    ) -> Type {
        if self.images > images {
            let says = "a loop over all tags of the repository cannot ask about the image: it would go over all of them \
                        again for each";
            let help = "leave `image` out of the loop, as in \
                        `top(image.tag, last_pushed.filter(x, x.startsWith(\"main-\")), 5)`";
            return self.context.fault(at, says, help);
        }
        let kind = if matches!(result, Type::List(_)) { Type::Tags(by) } else { result };
        let name = format!("$s{}", self.shared.len());
        let id = expression.id;
        self.shared.push((std::mem::replace(expression, IdedExpr { id, expr: Expr::Ident(name) }), by));
        kind
    }
}

/// Returns true if a call is written as an operator.
fn is_operator(call: &CallExpr) -> bool {
    call.target.is_none() && call.func_name.contains(['_', '@']) && !call.func_name.starts_with(char::is_alphabetic)
}

/// Returns true if a loop is a `map`: it adds something else than its entries to a list.
fn is_map(comprehension: &ComprehensionExpr) -> bool {
    let added = |expression: &IdedExpr| match &expression.expr {
        Expr::Call(call) if call.func_name == operators::ADD => match call.args.last().map(|list| &list.expr) {
            Some(Expr::List(list)) => !matches!(
                list.elements.first().map(|element| &element.expr),
                Some(Expr::Ident(name)) if *name == comprehension.iter_var
            ),
            _ => false,
        },
        _ => false,
    };
    match &comprehension.loop_step.expr {
        Expr::Call(call) if call.func_name == operators::CONDITIONAL => call.args.get(1).is_some_and(added),
        _ => added(&comprehension.loop_step),
    }
}

/// Returns the dotted name that an expression is, if it is one.
fn path_of(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => path_of(&select.operand).map(|path| format!("{path}.{}", select.field)),
        _ => None,
    }
}

fn root_of(path: &str) -> &str {
    path.split('.').next().unwrap_or_default()
}
