//! Exceptions of the cooldown.

use std::{
    io,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use simple_registry::{
    action::Action,
    config::Config,
    diagnostics::Source,
    identity::{Identity, User},
    policy::{Arrival, Now, Policy},
};

const CONFIG: &str = r#"
[repository.hub]
cooldown_exceptions = ['identity.groups.contains("release")', 'request.reference == "v1.2.3"',
    'image.first_seen_at < now() - hours(1) && request.upstream == "up.example"', 'identity.groups[1] == "x"']
[repository."hub/strict"]
cooldown_exceptions = []
[repository."hub/strict/child"]
immutable_tags = true
"#;

fn built(text: &str) -> Result<Policy, String> {
    let config = Config::from_sources(&[Source::new("config.toml", text)]).map_err(|problems| problems.to_string())?;
    Policy::build(&config, &[]).map_err(|problems| problems.to_string())
}

/// Returns whether a pull is exempt at 2026-06-10T00:00:00Z.
fn is_exempt(policy: &Policy, groups: &[&str], path: &str, first_seen_at: Option<&str>) -> bool {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    let user = User { id: "ana".into(), username: "ana".into(), groups };
    let identity = Identity { client_ip: [127, 0, 0, 1].into(), user: Some(Arc::new(user)), certificate: None };
    let action = Action::parse("GET", path, None).unwrap();
    let now = Now::at("2026-06-10T00:00:00Z".parse().unwrap());
    let arrival = Arrival { listener: "main", upstream: "up.example", now: &now };
    let first_seen_at: Option<Timestamp> = first_seen_at.map(|time| time.parse().unwrap());
    policy.is_exempt_from_cooldown(&identity, &action, arrival, first_seen_at)
}

#[test]
fn one_true_condition_exempts_a_pull() {
    let policy = built(CONFIG).unwrap();
    let young = Some("2026-06-09T23:30:00Z");
    let latest = "/v2/hub/app/manifests/latest";
    for (groups, path, first_seen_at, expected) in [
        (&["staff"][..], latest, young, false),
        (&["release"], latest, young, true),
        (&["release"], latest, None, true),
        (&["staff"], "/v2/hub/app/manifests/v1.2.3", young, true),
        (&["staff"], latest, Some("2026-06-09T22:59:59Z"), true),
        // an age that cannot be known is no exception
        (&["staff"], latest, None, false),
        (&["staff", "x"], latest, None, true),
        // the table with the longest prefix that states the key counts, also below a table that does not
        (&["release"], "/v2/hub/strict/manifests/latest", young, false),
        (&["release"], "/v2/hub/strict/child/app/manifests/latest", young, false),
        (&["release"], "/v2/other/manifests/latest", young, false),
    ] {
        assert_eq!(is_exempt(&policy, groups, path, first_seen_at), expected, "{groups:?} {path} {first_seen_at:?}");
    }
}

#[test]
fn a_wrong_condition_is_refused_at_its_place() {
    let wrong = built("[repository.hub]\ncooldown_exceptions = ['identity.usrname == \"ana\"']\n").unwrap_err();
    assert!(wrong.contains("config.toml:2:34") && wrong.contains("did you mean `username`?"), "{wrong}");
    let wrong = built("[repository.hub]\ncooldown_exceptions = ['now() > timestamp(\"soon\")']\n").unwrap_err();
    assert!(wrong.contains("config.toml:2:") && wrong.contains("`soon` is no time"), "{wrong}");
    let wrong = built("[repository.hub]\ncooldown_exceptions = ['false']\n").unwrap_err();
    assert!(wrong.contains("cooldown_exceptions[0] is never true"), "{wrong}");
    let wrong = built("[repository.hub]\ncooldown_exceptions = 'true'\n").unwrap_err();
    assert!(wrong.contains("a list of up to 1000 rules"), "{wrong}");
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_condition_that_fails_is_logged_once() {
    let policy = built(CONFIG).unwrap();
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..3 {
            assert!(!is_exempt(&policy, &["staff"], "/v2/hub/app/manifests/latest", Some("2026-06-09T23:30:00Z")));
        }
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("an exception of the cooldown failed").count(), 1, "{text}");
    assert!(text.contains("cooldown_exceptions[3]") && text.contains("a list has no such entry"), "{text}");
}
