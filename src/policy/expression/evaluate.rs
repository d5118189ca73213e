//! Evaluation of a checked expression over the values of a request.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use cel::{
    Context, Env, ExecutionError, IdedExpr, Value,
    common::{
        types::{CelBool, CelInt, CelList, CelString, DYN_TYPE, INT_TYPE, LIST_TYPE, STRING_TYPE, Type},
        value::{CowVal, StaticVal, Val},
    },
    context::VariableResolver,
};
use jiff::Timestamp;
use regex::{Regex, RegexBuilder};

use super::tags::{Tags, among_first};
use crate::{
    diagnostics::pattern_fault,
    policy::{
        input::{Input, LISTS, TEXTS},
        times::FirstSeen,
    },
};

/// The function that `matches` becomes once its pattern is compiled.
pub(super) const MATCHES: &str = "$matches";

/// The function that `top` becomes: of a text, a list, a number, and a value that must be known.
pub(super) const TOP: &str = "$top";

/// The function that `timestamp` of a text becomes that is not written out.
pub(super) const TIMESTAMP: &str = "$timestamp";

/// The name of the time at which the rules are asked.
pub(super) const NOW: &str = "$now";

/// Most memory that a compiled pattern may take, in bytes: what a pattern that repeats repetitions runs into.
const PATTERN_SIZE: usize = 256 * 1024;

/// A compiled pattern, as a value that only `$matches` can use.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Arc<Regex>);

static PATTERN_TYPE: Type = Type::new_unspecified_type("pattern");

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &PATTERN_TYPE
    }

    fn cel_type() -> &'static Type {
        &PATTERN_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

/// Compiles a pattern; the error says what the pattern does wrong.
pub(super) fn pattern(text: &str) -> Result<Pattern, String> {
    let mut builder = RegexBuilder::new(text);
    let built = builder.size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE).nest_limit(20).build();
    built.map(|regex| Pattern(Arc::new(regex))).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "repeats too much: it would take too much memory".to_owned(),
        error => format!("is not valid: {}", pattern_fault(&error)),
    })
}

#[allow(clippy::needless_pass_by_value, reason = "the interpreter gives its arguments away")]
fn matches<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let found = match arguments.as_slice() {
        [text, pattern] => text
            .downcast_ref::<CelString>()
            .zip(pattern.downcast_ref::<Pattern>())
            .map(|(text, pattern)| pattern.0.is_match(text.inner())),
        _ => None,
    };
    found.map(|found| CowVal::owned(CelBool::from(found))).ok_or(ExecutionError::MissingArgumentOrTarget)
}

#[allow(clippy::needless_pass_by_value, reason = "the interpreter gives its arguments away")]
fn top<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [tag, list, count, _] = arguments.as_slice() else { return Err(ExecutionError::MissingArgumentOrTarget) };
    let tag = tag.downcast_ref::<CelString>().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    let count = *count.downcast_ref::<CelInt>().ok_or(ExecutionError::MissingArgumentOrTarget)?.inner();
    let found = if let Some(tags) = list.downcast_ref::<Tags>() {
        tags.place(tag).is_some_and(|place| i64::try_from(place).is_ok_and(|place| place < count))
    } else {
        let list = list.downcast_ref::<CelList>().ok_or(ExecutionError::MissingArgumentOrTarget)?;
        among_first(tag, list, count)
    };
    Ok(CowVal::owned(CelBool::from(found)))
}

#[allow(clippy::needless_pass_by_value, reason = "the interpreter gives its arguments away")]
fn timestamp<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [text] = arguments.as_slice() else { return Err(ExecutionError::MissingArgumentOrTarget) };
    let text = text.downcast_ref::<CelString>().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    let time = time(text.inner()).ok_or_else(|| ExecutionError::function_error(TIMESTAMP, "no time"))?;
    Ok(CowVal::owned(CelInt::from(time)))
}

/// Returns the time that a text says, as RFC 3339 writes it, in microseconds.
pub(super) fn time(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

/// The environment of all expressions. Building it takes long; a context over it does not.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::default().with_optional_support(false).with_stdlib();
    let declared = environment.add_overload(MATCHES, MATCHES, vec![STRING_TYPE, PATTERN_TYPE.to_owned()], matches);
    let kinds = vec![STRING_TYPE, LIST_TYPE, INT_TYPE, DYN_TYPE];
    let declared = declared.and_then(|()| environment.add_overload(TOP, TOP, kinds, top));
    let declared = declared.and_then(|()| environment.add_overload(TIMESTAMP, TIMESTAMP, vec![STRING_TYPE], timestamp));
    declared.expect("no other function has a name that begins with a dollar sign");
    Arc::new(environment)
});

/// The reason why it is not known whether a condition about a request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Undecided {
    /// It failed; the text says shortly why.
    Fails(&'static str),
    /// It waits for the time at which the image was first seen.
    Awaits,
}

/// The values of all variables, as evaluation wants them; lists and the time of the request only once one is asked for.
pub(in crate::policy) struct Values<'a> {
    input: Input<'a>,
    texts: [CelString<'a>; TEXTS.len()],
    lists: [OnceLock<CelList<'a>>; LISTS.len()],
    now: OnceLock<CelInt>,
    first_seen: Option<CelInt>,
}

impl<'a> Values<'a> {
    pub(in crate::policy) fn new(input: &Input<'a>) -> Self {
        let first_seen = match input.times.first_seen {
            FirstSeen::At(time) => Some(CelInt::from(time.as_microsecond())),
            _ => None,
        };
        let (texts, lists) = (input.texts.map(CelString::from), Default::default());
        Self { input: *input, texts, lists, now: OnceLock::new(), first_seen }
    }

    /// Returns the values as they were given.
    pub(in crate::policy) const fn input(&self) -> &Input<'a> {
        &self.input
    }

    fn list<'b>(&'b self, index: usize) -> Option<&'b CelList<'a>> {
        let list = self.lists.get(index)?;
        let texts = self.input.lists[index];
        Some(list.get_or_init(|| {
            let boxed = |text: &'a String| Box::new(CelString::from(text.as_str())) as Box<dyn Val + 'a>;
            CelList::from(texts.iter().map(boxed).collect::<Vec<_>>())
        }))
    }
}

/// The variables of one expression.
struct Variables<'r, 'a> {
    values: &'r Values<'a>,
    patterns: &'r [Pattern],
    /// Stands for the time at which an image was first seen.
    assumed: Option<CelInt>,
    /// True once the expression asked for a time that is not known.
    lacks_time: AtomicBool,
}

impl VariableResolver for Variables<'_, '_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        if variable == NOW {
            let now = || CelInt::from(self.values.input.times.now.get().as_microsecond());
            return Some(CowVal::Borrowed(self.values.now.get_or_init(now)));
        }
        let (kind, index) = variable.split_at_checked(2)?;
        let index: usize = index.parse().ok()?;
        match kind {
            "$t" => self.values.texts.get(index).map(|text| CowVal::Borrowed(text)),
            "$l" => self.values.list(index).map(|list| CowVal::Borrowed(list)),
            "$p" => self.patterns.get(index).map(|pattern| CowVal::Borrowed(pattern)),
            FIRST_SEEN => {
                let time = self.values.first_seen.as_ref().or(self.assumed.as_ref());
                self.lacks_time.store(time.is_none(), Ordering::Relaxed);
                time.map(|time| CowVal::Borrowed(time))
            }
            _ => None,
        }
    }
}

/// The kind of the name by which evaluation knows the time at which an image was first seen.
pub(super) const FIRST_SEEN: &str = "$f";

impl VariableSource for Variables<'_, '_> {
    fn missing(&self, variable: &str) -> Option<&'static str> {
        variable.starts_with(FIRST_SEEN).then_some("when this registry first saw the image is not known")
    }
}

/// The values of variables.
pub(super) trait VariableSource: VariableResolver {
    /// Returns the reason if a variable has no value.
    fn missing(&self, variable: &str) -> Option<&'static str>;
}

/// Returns whether a checked expression holds. One that needs the time at which an image was first seen is false for a
/// request about no image of an upstream, unless it fails for another reason.
pub(super) fn holds(expression: &IdedExpr, patterns: &[Pattern], values: &Values<'_>) -> Result<bool, Undecided> {
    let variables = Variables { values, patterns, assumed: None, lacks_time: AtomicBool::new(false) };
    let held = value_of(expression, &variables, boolean);
    held.or_else(|why| match values.input.times.first_seen {
        FirstSeen::NoImage if variables.lacks_time.load(Ordering::Relaxed) => {
            // a comparison with the time is false for one of the two
            let assumed = [Timestamp::MIN, Timestamp::MAX].map(|time| {
                let assumed = Some(CelInt::from(time.as_microsecond()));
                let variables = Variables { values, patterns, assumed, lacks_time: AtomicBool::new(false) };
                value_of(expression, &variables, boolean)
            });
            match assumed {
                [Ok(false), _] | [_, Ok(false)] | [Ok(true), Ok(true)] => Ok(false),
                [Err(why), _] | [_, Err(why)] => Err(Undecided::Fails(why)),
            }
        }
        FirstSeen::Awaited if variables.lacks_time.load(Ordering::Relaxed) => Err(Undecided::Awaits),
        _ => Err(Undecided::Fails(why)),
    })
}

/// Returns the value of a condition.
pub(super) fn boolean(value: &dyn Val) -> Option<bool> {
    value.downcast_ref::<CelBool>().map(|value| *value.inner())
}

/// The reason if evaluation fails in a way that no rule should bring about.
const BROKEN: &str = "it cannot be evaluated";

/// Evaluates an expression. Returns what `take` makes of its value. A panic is a failure of this expression alone, and takes
/// neither a connection nor a scrub along.
pub(super) fn value_of<T>(
    expression: &IdedExpr,
    variables: &impl VariableSource,
    take: impl FnOnce(&dyn Val) -> Option<T>,
) -> Result<T, &'static str> {
    let evaluate = || {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.set_variable_resolver(variables);
        let value = Value::resolve_val(expression, &context).map_err(|error| reason(&error, variables))?;
        take(value.as_ref()).ok_or("it yields a value of another kind")
    };
    catch_unwind(AssertUnwindSafe(evaluate)).unwrap_or(Err(BROKEN))
}

fn reason(error: &ExecutionError, variables: &impl VariableSource) -> &'static str {
    match error {
        ExecutionError::IndexOutOfBounds(_) => "a list has no such entry",
        ExecutionError::Overflow(..) => "a number is out of range",
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "a division by zero",
        ExecutionError::FunctionError { function, .. } if function == TIMESTAMP => "a text is no time",
        ExecutionError::UndeclaredReference(name) => variables.missing(name).unwrap_or(BROKEN),
        _ => BROKEN,
    }
}
