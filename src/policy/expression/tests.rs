use super::*;
use crate::{
    identity::Facts,
    policy::{
        expression::MAX_DEPTH,
        input::{Input, Request},
        times::{FirstSeen, Now, Times},
    },
};

/// Returns the faults of an access condition: the text under the caret, the fault and the help.
fn said(text: &str) -> Vec<(String, String, String)> {
    match compile(&[text], Scope::Access).remove(0) {
        Ok(_) => Vec::new(),
        Err(faults) => {
            let shown =
                |at: &std::ops::Range<usize>| text.get(at.start..at.end.min(text.len())).unwrap_or("?").to_owned();
            faults.into_iter().map(|fault| (shown(&fault.at), fault.says, fault.help)).collect()
        }
    }
}

fn holds(text: &str) -> Result<bool, &'static str> {
    let condition = compile(&[text], Scope::Access).remove(0).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
    let facts: Facts = serde_json::from_str(
        r#"{"id": "a1", "username": "ana", "groups": ["staff", "dev"], "client_ip": "10.0.0.1",
            "certificate": {"organizations": ["ci", "tools"], "serial": "0f"}}"#,
    )
    .unwrap();
    let request = Request {
        action: "put-manifest".into(),
        access: "push".into(),
        namespace: "prod/app".into(),
        reference: "v1".into(),
        tags: vec!["v1".into(), "latest".into()],
        ..Request::default()
    };
    let now = Now::at("2026-12-24T12:00:00Z".parse().unwrap());
    let times = Times { now: &now, first_seen: FirstSeen::NoImage };
    condition.holds(&Values::new(&Input::written(&facts, &request, times))).map_err(|undecided| match undecided {
        Undecided::Fails(why) => why,
        Undecided::Awaits => "awaits",
    })
}

#[test]
fn conditions_mean_what_cel_says() {
    for (text, expected) in [
        ("true", true),
        ("identity.username == 'ana'", true),
        ("identity.username != \"ana\"", false),
        ("identity.certificate.organizations.contains('ci')", true),
        ("identity.certificate.organizations.contains('c')", false),
        ("'ci' in identity.certificate.organizations", true),
        ("identity.certificate.common_names.contains('ci')", false),
        ("request.namespace.contains('d/a')", true),
        ("request.namespace.startsWith('prod/') && request.access == 'push'", true),
        ("request.namespace.startsWith(identity.username + '/')", false),
        ("request.tags.exists(t, t.matches(r'^v\\d+$'))", true),
        ("request.tags.all(t, t.matches('^v[0-9]+$'))", false),
        ("request.tags.exists_one(t, t == 'v1')", true),
        ("request.tags.filter(t, t != 'v1') == ['latest']", true),
        ("request.tags.map(t, t + '!')[1] == 'latest!'", true),
        ("size(identity.groups) == 2 && identity.groups.size() == 1 + 1", true),
        ("identity.groups[0] == 'staff'", true),
        ("request.digest == '' && request.from == \"\"", true),
        ("request.access == 'pull' ? false : identity.id == 'a1'", true),
        ("!(request.access in ['pull', 'list'])", true),
        ("identity.certificate.uris.exists(u, u.startsWith('spiffe://'))", false),
        ("identity.client_ip.startsWith('10.') // the office\n", true),
        ("size(identity.username) < 4 || identity.groups[7] == 'x'", true),
        ("identity.groups[7] == 'x' || identity.username == 'ana'", true),
    ] {
        assert_eq!(holds(text), Ok(expected), "{text}");
    }
}

#[test]
fn a_failed_evaluation_gives_a_short_reason() {
    assert_eq!(holds("identity.groups[7] == 'x'"), Err("a list has no such entry"));
    assert_eq!(holds("size(identity.groups) / (size(request.tags) - 2) == 1"), Err("a division by zero"));
    assert_eq!(holds("size(identity.groups) * 999999999999999999 * 999 > 1"), Err("a number is out of range"));
}

#[test]
fn a_wrong_expression_is_named_with_the_next_step() {
    let mut wrong = Vec::new();
    // The condition, the text under the caret, a part of the fault, and a part of the help.
    for (text, shown, says, help) in [
        ("identity.usrname == 'a'", "usrname", "`identity` has no `usrname`", "did you mean `username`?"),
        ("identty.username == 'a'", "identty", "there is no `identty`", "did you mean `identity`?"),
        ("username == 'a'", "username", "there is no `username`", "did you mean `identity.username`?"),
        (
            "identity.certificate.organisations.contains('a')",
            "organisations",
            "has no `organisations`",
            "did you mean `organizations`?",
        ),
        ("identity.certificate == 'a'", "certificate", "is not a value but several", "`common_names`"),
        ("identity == 'a'", "identity", "is not a value but several", "`username`"),
        ("identity.username.first == 'a'", "first", "has no fields", "leave out"),
        ("identity.groups.filter(g, g.name == '') == []", "name", "a text has no field `name`", "as it is"),
        ("request.namespace.startWith('a')", "startWith", "no function `startWith`", "did you mean `startsWith`?"),
        ("contains(identity.groups, 'a')", "contains", "not used like this", "list.contains"),
        ("top(request.reference, request.tags, 1)", "top", "retention policies alone", "there is"),
        ("now() == 1", "==", "a time never equals a number", "of one kind"),
        ("image.tag == 'v1'", "tag", "`image` has no `tag`", "there is `first_seen_at`"),
        ("image.first_seen_at", "?", "this is a time", "write a condition"),
        ("identity.groups == 'a'", "==", "never equals", "list.contains"),
        ("identity.username", "identity.username", "this is a text", "compare it"),
        ("identity.groups", "identity.groups", "this is a list of texts", "contains"),
        ("1 + 1", "1 + 1", "this is a number", "condition"),
        ("request.action == 'push'", "'push'", "no action \"push\"", "request.access == \"push\""),
        ("request.action == 'put-manifst'", "'put-manifst'", "no action", "did you mean \"put-manifest\"?"),
        ("request.access in ['pull', 'puhs']", "'puhs'", "no access \"puhs\"", "did you mean \"push\"?"),
        ("['pull', 'writ'].contains(request.access)", "'writ'", "no access", "there is"),
        ("request.namespace == 'prod/*'", "'prod/*'", "no repository is called", "startsWith"),
        ("identity.username == null", "null", "nothing is null", "\"\""),
        ("has(identity.username)", "has", "never needed", "\"\""),
        ("identity.username = 'a'", "=", "compares nothing", "=="),
        ("true and false", "and", "cannot stand here", "&&"),
        ("not true", "true", "cannot stand here", "`!`"),
        ("(true", "(", "not closed", ")"),
        ("true)", ")", "closes nothing", "remove"),
        ("[true)", ")", "does not close", "first"),
        ("identity.username == 'a", "'", "not closed", "'"),
        ("identity.username ==", "?", "ends too early", "complete"),
        ("identity.username.matches('a(')", "'a('", "is not valid", "regex"),
        ("identity.username.matches('\\d')", "\\", "no escape", "r'"),
        ("identity.username.matches(request.from)", "matches", "written out", "r'"),
        ("identity.username.matches('(a{1000}){1000}')", "'(a{1000}){1000}'", "repeats too much", ""),
        ("identity.groups.exists(g, g)", "exists", "condition, and this is a text", "compare"),
        ("identity.groups.exists(g, request.tags.exists(t, t == g))", "exists", "a loop inside of a loop", "split"),
        ("identity.groups.exists(identity, true)", "exists", "has a meaning already", "x"),
        ("identity.username.exists(x, x == '')", "exists", "goes over lists", "list"),
        ("identity.groups.exists(1, true)", "?", "begins with a name", "x"),
        ("identity.groups.exists('a')", "exists", "not used like this", "list.exists"),
        ("(identity.groups + request.tags).size() == 1", "+", "lists cannot be joined", "contains"),
        ("request.tags.map(t, t + t).map(t, t + t).size() == 1", "map", "another `map`", "one `map`"),
        ("identity.client_ip == '10.0.0.0/8'", "'10.0.0.0/8'", "no client has the address", "startsWith"),
        ("identity.client_ip == '0:0:0:0:0:0:0:1'", "'0:0:0:0:0:0:0:1'", "never written so", "\"::1\""),
        ("{'a': 1}.size() == 1", "{", "no maps", "list"),
        ("1.5 > 1", "1.5", "no number", "whole"),
        ("b'a' == b'a'", "b", "no bytes", "text"),
        ("é", "é", "means nothing", "quotes"),
        ("", "?", "is empty", "condition"),
        ("  // nothing\n", " ", "is empty", "condition"),
    ] {
        let all = said(text);
        let Some((found, what, next)) = all.first() else {
            wrong.push(format!("{text} is accepted"));
            continue;
        };
        if !what.contains(says) || !next.contains(help) {
            wrong.push(format!("{text}: {what} / {next}"));
        }
        if shown != "?" && found != shown {
            wrong.push(format!("{text}: the caret is under {found}, and not under {shown}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn everything_wrong_is_said_at_once() {
    let all = said("identity.usrname == 'a' && request.acess == 'pull'");
    assert_eq!(all.len(), 2, "{all:?}");
}

#[test]
fn a_large_expression_is_refused_before_it_is_parsed() {
    let many = |part: &str, times: usize| part.repeat(times);
    let deep = format!("{}true{}", many("(", 30), many(")", 30));
    for text in [
        format!("1{} > 0", many("+1", 2000)),
        many("(", 10_000),
        many("(", 2000) + &many(")", 2000),
        deep,
        many("!", 3000) + "true",
        format!("-{}1 > 0", many("-", 100)),
        many("true ? true : ", 200) + "true",
        many("true ? ", 100) + "true" + &many(" : true", 100),
        format!("identity{} == 'a'", many(".a", 200)),
        format!("identity.groups{} == 'a'", many("[0]", 200)),
        many("identity.groups.all(x, ", 20) + "true" + &many(")", 20),
        format!("[{}", many("[", 100)),
        format!("'{}' == ''", many("a", 5000)),
        many("true || ", 600) + "true",
        format!("identity.id{} == ''", many(" + identity.id", 17)),
    ] {
        let started = std::time::Instant::now();
        let all = said(&text);
        assert!(!all.is_empty(), "{} is accepted", &text[..40]);
        assert!(
            started.elapsed() < std::time::Duration::from_millis(500),
            "{} took {:?}",
            &text[..40],
            started.elapsed()
        );
    }
}

#[test]
fn an_expression_at_the_limits_is_parsed_and_evaluated() {
    let chain = vec!["identity.groups.contains('x')"; 100].join(" || ");
    assert_eq!(holds(&chain), Ok(false));
    let sum = format!("1{} > 0", "+1".repeat(MAX_DEPTH - 4));
    assert_eq!(holds(&sum), Ok(true));
    let list: Vec<String> = (0..400).map(|n| format!("'{n}'")).collect();
    assert_eq!(holds(&format!("identity.username in [{}]", list.join(","))), Ok(false));
    let mut nested = "true".to_owned();
    while compile(&[&format!("({nested})")], Scope::Access)[0].is_ok() {
        nested = format!("({nested})");
    }
    assert!(nested.len() > 20, "{nested}");
    assert_eq!(holds(&nested), Ok(true));
}

#[test]
fn the_deepest_conditions_are_evaluated_on_a_small_stack() {
    // half of what a worker of the server has, and not optimised
    let evaluate = || {
        for (open, close) in [
            ("!(", ")"),
            ("true ? (", ") : false"),
            ("request.tags.size() == 2 && (", ")"),
            ("(", " || false) == true"),
        ] {
            let mut text = "true".to_owned();
            loop {
                let deeper = format!("{open}{text}{close}");
                if compile(&[&deeper], Scope::Access)[0].is_err() {
                    break;
                }
                text = deeper;
            }
            assert!(text.len() > 30, "{text}");
            assert!(holds(&text).is_ok(), "{text}");
        }
        let mut sums = (1..MAX_DEPTH).map(|n| format!("1{} != 0", "-1".repeat(n)));
        let longest = sums.rfind(|text| compile(&[text], Scope::Access)[0].is_ok());
        assert!(holds(&longest.unwrap()).is_ok());
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(evaluate).unwrap().join().unwrap();
}

#[test]
fn spaces_comments_and_quotes_make_no_difference() {
    let words = |text: &str| compile(&[text], Scope::Access).remove(0).unwrap().words().to_owned();
    assert_eq!(words("identity.username=='a'"), words("identity.username == \"a\" // me"));
    assert_ne!(words("identity.username == 'a'"), words("identity.username == 'b'"));
}

#[test]
fn retention_knows_images_alone() {
    let check = |text: &str| compile(&[text], Scope::Retention).remove(0).map(|_| ());
    for text in [
        "image.pushed_at > now() - days(30)",
        "now() - image.last_pulled_at < hours(2) + minutes(5)",
        "top(image.tag, last_pushed, 10)",
        "'keep' in image.annotations && image.annotations['keep'] == 'yes'",
        "image.size < 1000 && image.tag.matches('^v')",
    ] {
        assert_eq!(check(text), Ok(()), "{text}");
    }
    for text in [
        "identity.username == 'a'",
        "image.pushed_at > days(3)",
        "top(image.tag, image.tag, 3)",
        "days('3') == days(3)",
    ] {
        assert!(check(text).is_err(), "{text}");
    }
}
