//! The times that access rules see: `now()`, written times, and the age of an image of an upstream.

use std::fs;

use simple_registry::{
    config::Config,
    diagnostics::Source,
    identity::Facts,
    policy::{Decision, FirstSeen, Now, Policy, Request, run_tests},
};

use super::{
    commands::{json, run, world},
    file,
    semantics::short,
    told,
};

const FREEZE: &str = r#"now() > timestamp("2026-12-23T00:00:00Z") && now() < timestamp("2027-01-02T00:00:00Z") && request.access == "push""#;

/// Writes a policy of everything that allows by default, with deny rules.
fn denying(rules: &[&str]) -> Source {
    written("allow", "deny", rules)
}

fn written(default: &str, effect: &str, rules: &[&str]) -> Source {
    let rule = |(at, when): (usize, &&str)| {
        format!("[[rule]]\nname = \"r{at}\"\neffect = \"{effect}\"\nwhen = '''{when}'''\n")
    };
    let rules: String = rules.iter().enumerate().map(rule).collect();
    file("p.toml", &format!("repositories = [\"*\"]\ndefault = \"{default}\"\n{rules}"))
}

fn built(source: Source) -> Policy {
    Policy::build(&Config::default(), &[source]).unwrap_or_else(|errors| panic!("{errors}"))
}

fn request(action: &str, upstream: &str) -> Request {
    let (action, namespace, upstream) = (action.to_owned(), "hub/app".to_owned(), upstream.to_owned());
    let reference = if action.ends_with("manifest") { "v1".to_owned() } else { String::new() };
    Request { action, namespace, reference, upstream, ..Request::default() }.completed()
}

fn decide(policy: &Policy, request: &Request, now: &str, first_seen: Option<FirstSeen>) -> Decision {
    let now = Now::at(now.parse().unwrap());
    policy.decide(&Facts::default(), request, request.times(&now, first_seen))
}

fn seen(time: &str) -> FirstSeen {
    FirstSeen::At(time.parse().unwrap())
}

const NOW: &str = "2026-06-10T00:00:00Z";

#[test]
fn a_freeze_begins_and_ends_by_itself() {
    let policy = built(denying(&[FREEZE]));
    for (now, push) in [
        ("2026-12-23T00:00:00Z", "allow p.toml"),
        ("2026-12-23T00:00:00.000001Z", "deny p.toml r0"),
        ("2027-01-01T23:59:59+00:00", "deny p.toml r0"),
        ("2027-01-02T00:00:00Z", "allow p.toml"),
    ] {
        assert_eq!(short(&decide(&policy, &request("put-manifest", ""), now, None)), push, "{now}");
        assert_eq!(short(&decide(&policy, &request("get-manifest", ""), now, None)), "allow p.toml", "{now}");
    }
}

#[test]
fn the_clock_is_read_only_for_a_rule_that_asks() {
    let asked = |rule: &str| {
        let (policy, request, now) = (built(denying(&[rule])), request("put-manifest", ""), Now::default());
        let _ = policy.decide(&Facts::default(), &request, request.times(&now, None));
        now.asked()
    };
    assert_eq!(asked("request.access == 'pull' || request.reference == 'x'"), None);
    assert_eq!(asked("request.access == 'pull' && now() > timestamp('2000-01-01T00:00:00Z')"), None);
    let (before, read) = (jiff::Timestamp::now(), asked("now() > timestamp('2000-01-01T00:00:00Z')").unwrap());
    assert!(before <= read && read <= jiff::Timestamp::now());
}

#[test]
fn a_written_time_is_checked_and_a_text_that_is_no_time_denies() {
    let wrong = told("[[rule]]\nname = \"r\"\neffect = \"deny\"\nwhen = 'now() < timestamp(\"tomorrow\")'\n");
    assert!(wrong.contains("policies/p.toml:4:27") && wrong.contains("`tomorrow` is no time"), "{wrong}");
    let wrong = told(
        "kind = \"retention\"\nrepositories = [\"a\"]\n[[rule]]\nname = \"r\"\nwhen = 'image.pushed_at > timestamp(\"2026-12-24\")'\n",
    );
    assert!(wrong.contains("`2026-12-24` is no time"), "{wrong}");
    let wrong = told("[[rule]]\nname = \"r\"\neffect = \"deny\"\nwhen = 'timestamp(identity.groups) < now()'\n");
    assert!(wrong.contains("`timestamp` wants a text, and gets a list of texts"), "{wrong}");

    let expires = "timestamp(identity.certificate.not_after) < now() + days(7)";
    let policy = built(written("deny", "allow", &[expires]));
    let until = |not_after: &str| {
        let mut facts = Facts::default();
        not_after.clone_into(&mut facts.certificate.not_after);
        let (request, now) = (request("get-blob", ""), Now::at(NOW.parse().unwrap()));
        policy.decide(&facts, &request, request.times(&now, None))
    };
    assert_eq!(short(&until("2026-06-16T23:00:00Z")), "allow p.toml r0");
    assert_eq!(short(&until("2026-06-17T00:00:00Z")), "deny p.toml");
    let none = until("");
    assert_eq!(short(&none), "deny p.toml r0");
    assert_eq!(none.message.as_deref(), Some("the rule r0 failed, and what fails denies: a text is no time"));
}

#[test]
fn rules_know_the_first_upstream_of_a_cache() {
    let policy = built(denying(&["request.upstream == 'registry-1.docker.io' && request.access == 'list'"]));
    for (upstream, expected) in
        [("registry-1.docker.io", "deny p.toml r0"), ("ghcr.io", "allow p.toml"), ("", "allow p.toml")]
    {
        assert_eq!(short(&decide(&policy, &request("list-tags", upstream), NOW, None)), expected, "{upstream}");
    }
    for (host, help) in
        [("docker.io", "registry-1.docker.io"), ("https://ghcr.io", "the host alone"), ("ghcr.io:443", "port")]
    {
        let when = format!("[[rule]]\nname = \"r\"\neffect = \"deny\"\nwhen = 'request.upstream == \"{host}\"'\n");
        let wrong = told(&when);
        assert!(wrong.contains(&format!("no upstream has the host \"{host}\"")) && wrong.contains(help), "{wrong}");
    }
}

const YOUNG: &str = "image.first_seen_at > now() - days(3)";
const OLD: &str = "image.first_seen_at < now() - days(3)";

#[test]
fn a_rule_about_the_age_waits_for_it_and_concerns_no_other_request() {
    let pull = request("get-manifest", "up.example");
    let policy = built(denying(&[YOUNG]));
    let first = decide(&policy, &pull, NOW, None);
    assert_eq!((short(&first).as_str(), first.provisional), ("allow p.toml", true));
    for (first_seen, expected) in [
        (Some(seen("2026-06-07T00:00:00Z")), "allow p.toml"),
        (Some(seen("2026-06-07T00:00:01Z")), "deny p.toml r0"),
        (Some(FirstSeen::Unknown), "deny p.toml r0"),
    ] {
        let second = decide(&policy, &pull, NOW, first_seen);
        assert_eq!((short(&second).as_str(), second.provisional), (expected, false), "{first_seen:?}");
    }
    let other = ["list-tags", "get-blob", "get-referrers", "delete-manifest", "get-tag-history"]
        .map(|action| request(action, "up.example"));
    for request in other.iter().chain([&request("get-manifest", ""), &request("put-manifest", "")]) {
        // whatever is said of the time
        for first_seen in [None, Some(seen("2026-06-10T00:00:00Z")), Some(FirstSeen::Unknown)] {
            let decision = decide(&policy, request, NOW, first_seen);
            assert_eq!((short(&decision).as_str(), decision.provisional), ("allow p.toml", false), "{request:?}");
        }
    }
    // an allow rule about the age allows nothing else
    let policy = built(written("deny", "allow", &[OLD]));
    assert_eq!(short(&decide(&policy, &request("get-blob", "up.example"), NOW, None)), "deny p.toml");
    assert_eq!(short(&decide(&policy, &request("get-manifest", ""), NOW, None)), "deny p.toml");
}

#[test]
fn a_rule_about_the_age_that_fails_for_another_reason_denies_every_request() {
    let fails = "identity.groups[0] == 'banned'";
    for (rule, expected) in [
        (format!("{fails} || {YOUNG}"), "deny p.toml r0"),
        (format!("{OLD} || {fails}"), "deny p.toml r0"),
        // the age alone could decide, and there is none
        (format!("{fails} && {YOUNG}"), "allow p.toml"),
        (format!("{OLD} && {fails}"), "allow p.toml"),
        (format!("({fails} || {OLD}) && request.access == 'pull'"), "allow p.toml"),
    ] {
        let decision = decide(&built(denying(&[&rule])), &request("put-manifest", ""), NOW, None);
        assert_eq!(short(&decision), expected, "{rule}");
    }
}

#[test]
fn a_request_waits_only_if_the_age_can_change_the_decision() {
    let pull = request("get-manifest", "up.example");
    for (default, effect, rules, expected, provisional) in [
        // the other side decides
        (
            "allow",
            "deny",
            &["request.reference == 'v2' && image.first_seen_at > now() - days(3)"][..],
            "allow p.toml",
            false,
        ),
        (
            "allow",
            "deny",
            &["request.reference == 'v1' || image.first_seen_at > now() - days(3)"],
            "deny p.toml r0",
            false,
        ),
        (
            "allow",
            "deny",
            &["image.first_seen_at > now() - days(3) && request.reference == 'v2'"],
            "allow p.toml",
            false,
        ),
        ("allow", "deny", &["request.reference == 'v1' ? false : image.first_seen_at > now()"], "allow p.toml", false),
        ("allow", "deny", &["!(image.first_seen_at < now() - days(3))"], "allow p.toml", true),
        ("allow", "deny", &["identity.groups[9] == 'x' && image.first_seen_at > now()"], "allow p.toml", true),
        // denied whatever the age is
        ("deny", "deny", &[YOUNG], "deny p.toml", false),
        ("allow", "deny", &[YOUNG, "request.reference == 'v1'"], "deny p.toml r1", false),
        (
            "deny",
            "allow",
            &["request.reference == 'v2' && image.first_seen_at < now() - days(3)"],
            "deny p.toml",
            false,
        ),
        // only the age allows
        ("deny", "allow", &[OLD], "allow p.toml r0", true),
    ] {
        let decision = decide(&built(written(default, effect, rules)), &pull, NOW, None);
        assert_eq!((short(&decision).as_str(), decision.provisional), (expected, provisional), "{rules:?}");
    }
}

/// Rules of several shapes, in every pair: a final first decision is what the second would be.
#[test]
fn a_final_decision_holds_whatever_the_age_is() {
    let parts = ["true", "false", YOUNG, "!(image.first_seen_at > now() - days(3))", "request.reference == 'v1'"];
    let pull = request("get-manifest", "up.example");
    let (mut finals, mut open) = (0, 0);
    for one in parts {
        for other in parts {
            for (default, effect) in [("allow", "deny"), ("deny", "allow")] {
                let rules = [
                    format!("{one} && {other} && request.access == 'pull'"),
                    format!("({one} || {other}) && request.namespace == 'hub/app'"),
                ];
                let policy = built(written(default, effect, &[&rules[0], &rules[1]]));
                let first = decide(&policy, &pull, NOW, None);
                let second = ["2026-06-01T00:00:00Z", NOW].map(|time| decide(&policy, &pull, NOW, Some(seen(time))));
                assert!(second.iter().all(|decision| !decision.provisional));
                if first.provisional {
                    assert!(first.allows());
                    open += 1;
                } else {
                    assert!(second.iter().all(|decision| decision.effect == first.effect), "{rules:?}: {first:?}");
                    finals += 1;
                }
            }
        }
    }
    assert!(finals > 10 && open > 5, "{finals} {open}");
}

#[test]
fn a_policy_on_trial_waits_for_the_age_too() {
    let trial = format!(
        "repositories = [\"*\"]\nenforce = false\n[[rule]]\nname = \"young\"\neffect = \"deny\"\nwhen = '{YOUNG}'\n"
    );
    let sources = [denying(&["request.reference == 'x'"]), file("trial.toml", &trial)];
    let policy = Policy::build(&Config::default(), &sources).unwrap();
    let pull = request("get-manifest", "up.example");
    let first = decide(&policy, &pull, NOW, None);
    assert_eq!((short(&first).as_str(), first.provisional), ("allow p.toml", true));
    assert_eq!(short(&decide(&policy, &pull, NOW, Some(seen(NOW)))), "would_deny trial.toml young");
}

#[test]
fn tests_of_policies_state_the_time_the_upstream_and_the_age() {
    let tests = |test: &str| {
        let text = format!(
            "repositories = [\"hub\"]\ndefault = \"allow\"\n[[rule]]\nname = \"frozen\"\neffect = \"deny\"\nwhen = '{FREEZE}'\n[[rule]]\nname = \"young\"\neffect = \"deny\"\nwhen = '{YOUNG}'\n[[test]]\nname = \"t\"\n{test}\n"
        );
        let run = run_tests(&Config::default(), &[file("p.toml", &text)]);
        run.map(|run| run.outcomes[0].failure.as_ref().map(ToString::to_string)).map_err(|errors| errors.to_string())
    };
    let push = "request = { action = \"put-manifest\", namespace = \"hub/app\", reference = \"v1\" }";
    let pull = "request = { action = \"get-manifest\", namespace = \"hub/app\", reference = \"v1\", upstream = \"up.example\" }";
    let passing = [
        format!("now = 2026-12-24T00:00:00Z\n{push}\nexpect = {{ decision = \"deny\", rule = \"frozen\" }}"),
        // the default is 2026-01-01
        format!("{push}\nexpect = {{ decision = \"allow\" }}"),
        format!(
            "{pull}\nimage = {{ first_seen_at = 2025-12-30T00:00:00Z }}\nexpect = {{ decision = \"deny\", rule = \"young\" }}"
        ),
        format!("{pull}\nimage = {{ first_seen_at = 2025-12-29T00:00:00Z }}\nexpect = {{ decision = \"allow\" }}"),
    ];
    for test in passing {
        assert_eq!(tests(&test), Ok(None), "{test}");
    }
    let fails =
        tests(&format!("now = 2026-12-24T00:00:00Z\n{push}\nexpect = {{ decision = \"allow\" }}")).unwrap().unwrap();
    assert!(fails.contains("--now 2026-12-24T00:00:00Z"), "{fails}");
    let fails = tests(&format!("{pull}\nexpect = {{ decision = \"allow\" }}")).unwrap().unwrap();
    assert!(fails.contains("does not say the age of the image") && fails.contains("add `image = "), "{fails}");
    let wrong = tests(&format!(
        "{push}\nimage = {{ first_seen_at = 2025-12-29T00:00:00Z }}\nexpect = {{ decision = \"allow\" }}"
    ))
    .unwrap_err();
    assert!(wrong.contains("`image` belongs to a request for a manifest of a cache"), "{wrong}");
}

#[test]
fn explain_takes_the_times_and_the_upstream_of_the_configuration() {
    let dir = world();
    let config = "[repository.hub.access_policy]\ndefault_allow = true\nrules = [\"image.first_seen_at > now() - days(3)\"]\n[[repository.hub.upstream]]\nurl = \"https://docker.io/v2\"\n";
    fs::write(dir.path().join("config.toml"), config).unwrap();
    let ask = ["explain", "--action", "get-manifest", "--namespace", "hub/app", "--reference", "v1", "--now", NOW];
    let (code, out, err) = run(dir.path(), &ask);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("for now: policy decides again") && out.contains("rules[0]: open"), "{out}");
    assert!(out.contains("now() = \"2026-06-10T00:00:00Z\"") && out.contains("image.first_seen_at = null"), "{out}");
    let (_, out, _) =
        run(dir.path(), &[&ask[..], &["--first-seen-at", "2026-06-09T00:00:00Z", "--format", "json"]].concat());
    let explained = json(&out);
    assert_eq!((&explained["decision"], &explained["rule"]), (&"deny".into(), &"rules[0]".into()));
    assert_eq!(explained["rules"][0]["values"]["image.first_seen_at"], "2026-06-09T00:00:00Z");
    let (code, _, err) =
        run(dir.path(), &["explain", "--action", "get-blob", "--namespace", "hub/app", "--first-seen-at", NOW]);
    assert!(code == 2 && err.contains("--first-seen-at belongs to get-manifest of a cache"), "{err}");
}

#[test]
fn replay_decides_as_at_the_time_of_the_line() {
    let dir = world();
    let policy = format!(
        "repositories = [\"hub\"]\ndefault = \"allow\"\n[[rule]]\nname = \"frozen\"\neffect = \"deny\"\nwhen = '{FREEZE}'\n[[rule]]\nname = \"young\"\neffect = \"deny\"\nwhen = '{YOUNG}'\n"
    );
    fs::write(dir.path().join("policies/hub.toml"), policy).unwrap();
    let replay = |line: serde_json::Value| {
        fs::write(dir.path().join("decisions.jsonl"), format!("{line}\n")).unwrap();
        run(dir.path(), &["replay", "--log", "decisions.jsonl"]).1
    };
    let line = |time: &str, action: &str, decision: &str| {
        let request = request(action, "up.example");
        serde_json::json!({ "time": time, "event": "decision", "identity": {}, "request": request, "decision": decision, "upstream": "up.example" })
    };
    let same = "0 of 1 decision would change\n";
    assert_eq!(replay(line("2026-12-24T00:00:00.000Z", "put-manifest", "deny")), same);
    assert_eq!(replay(line("2026-11-24T00:00:00.000Z", "put-manifest", "allow")), same);
    let out = replay(line("2026-12-24T00:00:00.000Z", "put-manifest", "allow"));
    assert!(out.contains("put-manifest hub/app:v1 from up.example"), "{out}");
    // the request was decided before the freeze, and recorded within
    let mut late = line("2026-12-23T00:00:01.000Z", "put-manifest", "allow");
    late["decided_at"] = "2026-12-22T23:59:59.5Z".into();
    assert_eq!(replay(late), same);
    let mut pull = line("2026-06-10T00:00:00.000Z", "get-manifest", "deny");
    assert!(replay(pull.clone()).starts_with("0 of 0 decisions would change; 1 not decided again"));
    for (first_seen, decision) in
        [("\"2026-06-09T00:00:00Z\"", "deny"), ("\"2026-06-01T00:00:00Z\"", "allow"), ("null", "deny")]
    {
        pull["image"] = json(&format!(r#"{{"digest": "sha256:00", "first_seen_at": {first_seen}}}"#));
        pull["decision"] = decision.into();
        assert_eq!(replay(pull.clone()), same, "{first_seen}");
    }
}
