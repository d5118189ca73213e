//! Parses an expression, and explains errors of syntax.

use cel::{IdedExpr, common::ast::SourceInfo, parser::Parser};

use super::tokens::{Fault, Kind, Token, clip};

/// Parses an expression, with the place of each of its parts.
pub(super) fn parse(text: &str, tokens: &[Token<'_>]) -> Result<(IdedExpr, SourceInfo), Vec<Fault>> {
    // The parser knows the standard macros, no optional syntax and no names in backticks.
    Parser::default().parse_with_source_info(text).map_err(|errors| {
        // An error behind the first one is mostly a consequence of it.
        let Some(error) = errors.errors.first() else {
            return vec![Fault::new(0..1, "the expression cannot be parsed", "write it in another way")];
        };
        let line = usize::try_from(error.pos.0).unwrap_or(1).max(1);
        let column = usize::try_from(error.pos.1).unwrap_or(1).max(1);
        let before: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
        let this = text.split_inclusive('\n').nth(line - 1).unwrap_or_default();
        let at = before + this.char_indices().nth(column - 1).map_or(this.len(), |(at, _)| at);
        vec![syntax(&error.msg, at, text, tokens)]
    })
}

/// Explains an error of the parser, whose own words speak of its tokens.
fn syntax(message: &str, at: usize, text: &str, tokens: &[Token<'_>]) -> Fault {
    if message.contains("must be a simple name") {
        return Fault::new(at..at + 1, "a loop begins with a name for the entry", "write list.exists(x, x == \"...\")");
    }
    if message.contains("argument to has()") {
        return Fault::new(
            at..at + 1,
            "`has` is never needed: every variable is there, and empty where nothing is known",
            "compare with `\"\"`",
        );
    }
    let Some(index) = tokens.iter().position(|token| token.span().end > at) else {
        let end = text.trim_end().len();
        return Fault::new(end..end + 1, "the expression ends too early", "complete it");
    };
    let token = &tokens[index];
    let shown = clip(token.text);
    let help = match (token.text, index.checked_sub(1).and_then(|before| tokens.get(before))) {
        ("and" | "AND", _) => "write `&&` for and",
        ("or" | "OR", _) => "write `||` for or",
        (_, Some(before)) if matches!(before.text, "not" | "NOT") => "write `!` for not",
        _ if message.contains("reserved") => "take another name",
        (_, Some(before)) if before.kind != Kind::Sign && token.kind != Kind::Sign => {
            "put an operator between the two, such as `==`, `in` or `&&`"
        }
        _ => "see whether an operator, a quote or a bracket is missing before it",
    };
    Fault::new(token.span(), format!("`{shown}` cannot stand here"), help)
}
