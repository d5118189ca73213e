//! Finds texts that a variable is compared with, and can never have.

use std::net::IpAddr;

use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue},
};

use super::{context::Context, tokens::clip, types::IMAGES};
use crate::{
    action::ACTIONS,
    diagnostics::{listed, nearest},
    oci::{Digest, Name, Tag},
    policy::input::{ACCESSES, LISTENERS, TEXTS},
};

/// Returns the path of the text variable of requests, or of the variable of images, that a checked expression is.
pub(super) fn variable(expression: &IdedExpr) -> Option<&'static str> {
    let Expr::Ident(name) = &expression.expr else { return None };
    let (kind, index) = name.split_at_checked(2)?;
    let index: usize = index.parse().ok()?;
    match kind {
        "$t" => TEXTS.get(index).copied(),
        "$i" => IMAGES.get(index).map(|(path, _)| *path),
        _ => None,
    }
}

/// Checks what `one` is compared with: the literal `other`, or those in the list `other`.
pub(super) fn check(context: &mut Context<'_>, one: &IdedExpr, other: &IdedExpr) {
    let Some(path) = variable(one) else { return };
    let literals: Vec<&IdedExpr> = match &other.expr {
        Expr::List(list) => list.elements.iter().collect(),
        _ => vec![other],
    };
    for literal in literals {
        let Expr::Literal(LiteralValue::String(text)) = &literal.expr else { continue };
        let at = context.place(literal.id);
        let text = text.inner();
        match path {
            "request.action" => {
                one_of(context, at, text, "action", &ACTIONS.iter().map(|row| row.word).collect::<Vec<_>>());
            }
            "request.access" => one_of(context, at, text, "access", &ACCESSES),
            "request.listener" => one_of(context, at, text, "listener", &LISTENERS),
            "identity.client_ip" if !text.is_empty() => match text.parse::<IpAddr>().map(|ip| ip.to_string()) {
                Ok(canonical) if canonical == text => {}
                Ok(canonical) => {
                    let says = format!("the address {} is never written so", clip(text));
                    context.fault(at, says, format!("write \"{canonical}\""));
                }
                Err(_) => {
                    let says = format!("no client has the address \"{}\"", clip(text));
                    context.fault(
                        at,
                        says,
                        "write an IP address, or `identity.client_ip.startsWith(\"10.\")` for a network",
                    );
                }
            },
            "request.namespace" | "request.from" if !text.is_empty() => {
                if let Err(why) = text.parse::<Name>() {
                    let says = format!("no repository is called \"{}\": {why}", clip(text));
                    let help = "write `request.namespace.startsWith(\"team/\")` for all below `team`";
                    context.fault(at, says, help);
                }
            }
            "request.upstream" => {
                if let Some(help) = no_host(text) {
                    context.fault(at, format!("no upstream has the host \"{}\"", clip(text)), help);
                }
            }
            "image.tag" if !text.is_empty() => {
                if let Err(why) = text.parse::<Tag>() {
                    let says = format!("no tag is called \"{}\": {why}", clip(text));
                    context.fault(at, says, "write `image.tag.matches(r'^pattern$')` for several tags");
                }
            }
            "image.digest" => {
                if let Err(why) = text.parse::<Digest>() {
                    let says = format!("no image has the digest \"{}\": {why}", clip(text));
                    context.fault(at, says, "write a whole digest, such as `sha256:` and 64 digits in lower-case hex");
                }
            }
            _ => {}
        }
    }
}

/// Returns the next step if a text is never the host of an upstream.
fn no_host(text: &str) -> Option<String> {
    if matches!(text, "docker.io" | "index.docker.io") {
        return Some("Docker Hub is \"registry-1.docker.io\"".to_owned());
    }
    let is_part = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_' | '[' | ']' | ':');
    let has_port = text.rsplit_once(':').is_some_and(|(host, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && !host.contains(':')
    });
    let is_host = text.chars().all(is_part) && !has_port;
    (!is_host).then(|| "write the host alone, in lower case, without scheme, port and path".to_owned())
}

fn one_of(context: &mut Context<'_>, at: std::ops::Range<usize>, text: &str, what: &str, words: &[&str]) {
    if words.contains(&text) {
        return;
    }
    let says = format!("there is no {what} \"{}\"", clip(text));
    let other = if what == "action" { ("access", &ACCESSES[..]) } else { ("action", &[][..]) };
    let help = match nearest(text, words.iter().copied()) {
        _ if other.1.contains(&text) => format!("\"{text}\" is an access: write `request.{} == \"{text}\"`", other.0),
        _ if what == "access" && ACTIONS.iter().any(|row| row.word == text) => {
            format!("\"{text}\" is an action: write `request.action == \"{text}\"`")
        }
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("there is {}", listed(words.iter().copied(), '"')),
    };
    context.fault(at, says, help);
}
