//! The words of an expression, read before the parser sees any of it.
//!
//! The parser descends once for each level of an expression, on a stack that ends. So length, depth and number of words
//! are bounded here, where nothing descends. Words that policies do not have are refused here too.

use std::ops::Range;

/// Longest expression in bytes.
pub const MAX_LENGTH: usize = 4096;
/// Most words (names, numbers, texts, signs) of one expression.
pub const MAX_WORDS: usize = 1000;
/// Deepest nesting: brackets within brackets, and operators that hang on one another, as in `1 + 1 + 1`. Evaluation descends
/// as deep, and must fit on the stack of a worker also if nothing is optimised.
pub const MAX_DEPTH: usize = 32;

/// A fault of an expression, with its place in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Fault {
    pub(in crate::policy) at: Range<usize>,
    pub(in crate::policy) says: String,
    pub(in crate::policy) help: String,
}

impl Fault {
    pub(super) fn new(at: Range<usize>, says: impl Into<String>, help: impl Into<String>) -> Self {
        Self { at, says: says.into(), help: help.into() }
    }
}

/// A word, and where it is, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) at: usize,
}

/// The kinds of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Number,
    Text,
    Sign,
}

impl Token<'_> {
    pub(super) fn span(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }
}

/// Reads the words of an expression, which is within all limits if this succeeds.
pub(super) fn read(text: &str) -> Result<Vec<Token<'_>>, Fault> {
    if text.len() > MAX_LENGTH {
        let says = format!("the expression is {} bytes long, and at most {MAX_LENGTH} are read", text.len());
        return Err(Fault::new(0..1, says, "split it into several rules"));
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if let Some(blank) = blank(rest) {
            at += blank;
            continue;
        }
        let (kind, length) = word(rest, at)?;
        tokens.push(Token { kind, text: &rest[..length], at });
        at += length;
        if tokens.len() > MAX_WORDS {
            let says = format!("the expression has more than {MAX_WORDS} words");
            return Err(Fault::new(at - length..at, says, "split it into several rules"));
        }
    }
    if tokens.is_empty() {
        return Err(Fault::new(
            0..1,
            "the expression is empty",
            "write a condition, such as `request.access == \"pull\"`",
        ));
    }
    nesting(&tokens)?;
    Ok(tokens)
}

/// Returns the length of the spaces and comments at the beginning of `rest`.
fn blank(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    let length = rest.len() - rest.trim_start_matches(['\t', ' ', '\r', '\n', '\u{c}']).len();
    (length > 0).then_some(length)
}

/// Returns the kind and length of the word that `rest` begins with.
fn word(rest: &str, at: usize) -> Result<(Kind, usize), Fault> {
    let first = rest.chars().next().unwrap_or_default();
    if let Some(text) = quoted(rest, at)? {
        return Ok((Kind::Text, text));
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        return Ok((Kind::Name, length));
    }
    if first.is_ascii_digit() {
        return number(rest, at).map(|length| (Kind::Number, length));
    }
    sign(rest, first, at).map(|length| (Kind::Sign, length))
}

fn number(rest: &str, at: usize) -> Result<usize, Fault> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let number = &rest[..length];
    if number.bytes().all(|byte| byte.is_ascii_digit()) && length <= 18 {
        return Ok(length);
    }
    let says = format!("`{}` is no number of a policy", clip(number));
    Err(Fault::new(at..at + length, says, "numbers are whole, in at most 18 decimal digits, such as `10`"))
}

fn sign(rest: &str, first: char, at: usize) -> Result<usize, Fault> {
    const TWO: [&str; 6] = ["&&", "||", "==", "!=", "<=", ">="];
    if TWO.iter().any(|sign| rest.starts_with(sign)) {
        return Ok(2);
    }
    let here = at..at + first.len_utf8();
    let (says, help) = match first {
        '<' | '>' | '!' | '+' | '-' | '*' | '/' | '%' | '?' | ':' | '.' | ',' | '(' | ')' | '[' | ']' => return Ok(1),
        '=' => ("`=` alone compares nothing".to_owned(), "write `==`"),
        '&' => ("`&` is no operator".to_owned(), "write `&&` for and"),
        '|' => ("`|` is no operator".to_owned(), "write `||` for or"),
        '{' | '}' => (format!("`{first}`: policies know no maps"), "write a list, `[...]`, or several conditions"),
        c if c.is_control() => ("a control character stands here".to_owned(), "remove it"),
        c => (format!("`{c}` means nothing outside of a text"), "put texts in quotes"),
    };
    Err(Fault::new(here, says, help))
}

/// Returns the length of the text in quotes that `rest` begins with, if it does.
fn quoted(rest: &str, at: usize) -> Result<Option<usize>, Fault> {
    let raw = usize::from(rest.starts_with(['r', 'R']));
    let Some(quote) = rest[raw..].chars().next().filter(|quote| matches!(quote, '"' | '\'')) else {
        let mut ahead = rest.chars();
        let bytes = matches!(ahead.next(), Some('b' | 'B'));
        let then = ahead.as_str().trim_start_matches(['r', 'R']);
        return if bytes && then.starts_with(['"', '\'']) {
            Err(Fault::new(at..at + 1, "policies know no bytes", "leave the `b` out: a text in quotes"))
        } else {
            Ok(None)
        };
    };
    let triple = rest[raw..].starts_with(if quote == '"' { "\"\"\"" } else { "'''" });
    let end = if triple { quote.to_string().repeat(3) } else { quote.to_string() };
    let open = raw + end.len();
    let mut inside = open;
    while let Some(c) = rest[inside..].chars().next() {
        if rest[inside..].starts_with(&end) {
            return Ok(Some(inside + end.len()));
        }
        if c == '\\' && raw == 0 {
            inside += escape(&rest[inside..], at + inside)?;
        } else if matches!(c, '\n' | '\r') && !triple {
            break;
        } else {
            inside += c.len_utf8();
        }
    }
    Err(Fault::new(at..at + open, "this text is not closed", format!("end it with {end}")))
}

/// Returns the length of the escape that `rest` begins with (CEL, "String and Bytes Values").
fn escape(rest: &str, at: usize) -> Result<usize, Fault> {
    let hex = |digits: usize| {
        let digits = rest.get(2..2 + digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32)
    };
    let length = match rest.as_bytes().get(1) {
        Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`') => Some(2),
        Some(b'u') => hex(4).map(|_| 6),
        Some(b'U') => hex(8).map(|_| 10),
        _ => None,
    };
    length.ok_or_else(|| {
        let shown: String = rest.chars().take(2).collect();
        let says = format!("`{}` is no escape", shown.escape_debug().to_string().replace("\\\\", "\\"));
        Fault::new(
            at..at + 1,
            says,
            "write a pattern as r'...', where a backslash is a backslash, or `\\\\` for one backslash",
        )
    })
}

/// The open parts of one level of brackets.
#[derive(Clone, Copy)]
struct Level {
    /// The bracket, and where.
    bracket: char,
    at: usize,
    /// Operators that hang on one another since the last comma, `&&` or `||`.
    chain: usize,
    /// `?`, each of which holds all that follows.
    choices: usize,
    /// `&&` and `||`, whose terms are put in a balanced tree.
    logic: usize,
}

impl Level {
    const fn new(bracket: char, at: usize) -> Self {
        Self { bracket, at, chain: 0, choices: 0, logic: 0 }
    }

    /// Returns the largest depth of the expression below this level.
    fn depth(&self) -> usize {
        1 + self.chain + 2 * self.choices + (self.logic + 1).next_power_of_two().trailing_zeros() as usize
    }
}

/// Checks that brackets match, and that brackets and chains of operators keep the limit of depth.
fn nesting(tokens: &[Token<'_>]) -> Result<(), Fault> {
    let mut closed: Vec<Level> = Vec::new();
    let mut current = Level::new(' ', 0);
    // The depth of all levels in `closed`.
    let mut above = 0;
    for token in tokens {
        match (token.kind, token.text) {
            (Kind::Sign, open @ ("(" | "[")) => {
                current.chain += 1;
                above += current.depth();
                closed.push(current);
                current = Level::new(if open == "(" { '(' } else { '[' }, token.at);
            }
            (Kind::Sign, close @ (")" | "]")) => {
                let matches = matches!((current.bracket, close), ('(', ")") | ('[', "]"));
                let (Some(outer), true) = (closed.pop(), matches) else {
                    return Err(misplaced(token, current.bracket));
                };
                above -= outer.depth();
                current = outer;
            }
            (Kind::Sign, ",") => (current.chain, current.choices, current.logic) = (0, 0, 0),
            (Kind::Sign, "&&" | "||") => (current.chain, current.logic) = (0, current.logic + 1),
            (Kind::Sign, "?") => current.choices += 1,
            (Kind::Sign, ":") => {}
            (Kind::Sign, _) | (Kind::Name, "in") => current.chain += 1,
            _ => {}
        }
        if above + current.depth() > MAX_DEPTH {
            let says = "the expression is nested too deeply, or chains too many operators";
            let help = "split it into several rules, or write a list and `in`";
            return Err(Fault::new(token.span(), says, help));
        }
    }
    if closed.is_empty() {
        return Ok(());
    }
    let (open, close) = if current.bracket == '(' { ('(', ')') } else { ('[', ']') };
    let here = current.at..current.at + 1;
    Err(Fault::new(here, format!("this `{open}` is not closed"), format!("close it with `{close}`")))
}

fn misplaced(token: &Token<'_>, open: char) -> Fault {
    let (says, help) = match open {
        ' ' => (format!("this `{}` closes nothing", token.text), "remove it, or open the bracket before it"),
        open => {
            (format!("this `{}` does not close the `{open}` before it", token.text), "close the inner bracket first")
        }
    };
    Fault::new(token.span(), says, help)
}

/// Shortens a word for an error.
pub(super) fn clip(text: &str) -> String {
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}
