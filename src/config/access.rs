//! The tables that say who may do what: policies, identities, tokens, and the record of decisions.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::{
    model::{AccessPolicy, Audit, AuditFile, Identity, ImmutableTags, OnAuditError, Refresh, Repository, Token},
    password,
    paths::{path, written},
    upstream,
};
use crate::diagnostics::{Node, Part, Reading, Table, Text, joined as join, pattern_fault, rule};

/// Bytes of a rule.
const LONGEST_RULE: usize = 4096;
/// Rules of one table.
const MOST_RULES: usize = 1000;
/// Groups of one identity.
const MOST_GROUPS: usize = 1000;
/// Characters of a username, a group or an id.
const LONGEST_NAME: usize = 255;

pub(super) fn access_policy(parent: &mut Table<'_>) -> AccessPolicy {
    let mut table = parent.table("access_policy");
    let default_allow = table.optional("default_allow", "true", &rule::flag());
    let rules = expressions(&mut table);
    table.finish();
    AccessPolicy { default_allow, rules }
}

/// Returns what `read` makes of a key of this table, if the table states the key.
fn stated<'a, T>(table: &mut Table<'a>, key: &str, read: impl FnOnce(&mut Table<'a>) -> T) -> Option<T> {
    let is_stated = table.entry(key).is_some();
    // The key is read in either case, so that it is known.
    let value = read(table);
    is_stated.then_some(value)
}

fn retention_rules(parent: &mut Table<'_>) -> Vec<Text> {
    let mut table = parent.table("retention_policy");
    let rules = expressions(&mut table);
    table.finish();
    rules
}

/// Reads the key `rules` of a table.
fn expressions(table: &mut Table<'_>) -> Vec<Text> {
    table.key("rules", "[]", &rules());
    table.texts("rules")
}

/// Accepts regular expressions of up to 1,000 bytes.
fn tag_patterns() -> rule::Rule<Vec<String>> {
    let pattern = rule::checked_text("a regular expression", |text| {
        let refused = |says: String| (says, "see docs.rs/regex, \"Syntax\", for what a pattern may be".to_owned());
        if text.len() > 1000 {
            return Err(refused(format!("is a pattern of {} bytes, and may have 1000", text.len())));
        }
        match super::immutable::pattern(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(refused(format!("is no pattern: {}", pattern_fault(&error)))),
        }
    });
    rule::list("a list of up to 100 regular expressions such as [\"^v[0-9]\"]", 100, pattern)
}

/// Accepts `true`, `false`, or regular expressions.
fn immutable_tags() -> rule::Rule<ImmutableTags> {
    let of_flag = |all| if all { ImmutableTags::All } else { ImmutableTags::None };
    rule::flag_or(of_flag, tag_patterns().map(ImmutableTags::Matching))
}

/// Reads `refresh` of one namespace.
fn refresh(parent: &mut Table<'_>) -> Refresh {
    let mut table = parent.table("refresh");
    let platform = rule::text("a platform such as \"linux/amd64\" or \"linux/arm/v7\"", |text| {
        let is_part =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let fits = (2..=3).contains(&text.split('/').count()) && text.split('/').all(is_part);
        fits.then(|| text.to_owned())
    });
    let platforms = rule::list("a list of up to 100 platforms such as [\"linux/amd64\"]", 100, platform);
    let refresh = Refresh {
        tags: table.key("tags", "[]", &tag_patterns()),
        interval: table.key("interval", "\"1h\"", &rule::time("1m", "30d")),
        platforms: table.key("platforms", "[]", &platforms),
    };
    table.finish();
    refresh
}

fn rules() -> rule::Rule<Vec<String>> {
    let one = rule::checked_text("a rule in CEL", |text| {
        if text.len() <= LONGEST_RULE {
            return Ok(text.to_owned());
        }
        let says = format!("is a rule of {} bytes, and may have {LONGEST_RULE}", text.len());
        Err((says, "make several rules of it".to_owned()))
    });
    rule::list("a list of up to 1000 rules in CEL of up to 4 KiB each", MOST_RULES, one)
}

pub(super) fn repositories(reading: &Reading<'_>, root: &mut Table<'_>) -> BTreeMap<String, Repository> {
    let all = root.table("repository");
    let mut repositories = BTreeMap::new();
    for (name, mut table) in all.tables() {
        if let (Some(node), Err(rule)) = (table.node(), repository_name(name)) {
            let says = format!("`{}` is not a namespace: {rule}", join(["repository", name.as_str()]));
            let help = "write `[repository.\"team/app\"]`, or `[repository.\"*\"]` for every repository that no other table covers";
            reading.refuse(node, Part::Key, says, help.to_owned());
        }
        let repository = Repository {
            access_policy: stated(&mut table, "access_policy", access_policy),
            retention_rules: stated(&mut table, "retention_policy", retention_rules),
            immutable_tags: stated(&mut table, "immutable_tags", |table| {
                table.key("immutable_tags", "false", &immutable_tags())
            }),
            allow_delete: stated(&mut table, "allow_delete", |table| table.key("allow_delete", "false", &rule::flag())),
            upstream: stated(&mut table, "upstream", upstream::upstreams),
            serves: table.key("serves", "[]", &upstream::registries()),
            manifest_ttl: stated(&mut table, "manifest_ttl", |table| {
                table.key("manifest_ttl", "\"0s\"", &rule::time("0s", "3650d"))
            }),
            cooldown: stated(&mut table, "cooldown", |table| table.key("cooldown", "\"0s\"", &rule::time("0s", "90d"))),
            stale_if_error: stated(&mut table, "stale_if_error", |table| {
                table.key("stale_if_error", "true", &rule::flag())
            }),
            cooldown_exceptions: stated(&mut table, "cooldown_exceptions", |table| {
                table.key("cooldown_exceptions", "[]", &rules());
                table.texts("cooldown_exceptions")
            }),
            refresh: stated(&mut table, "refresh", refresh),
        };
        table.finish();
        repositories.insert(name.clone(), repository);
    }
    repositories
}

pub(super) fn identities(reading: &Reading<'_>, root: &mut Table<'_>) -> BTreeMap<String, Identity> {
    let all = root.table("identity");
    let mut identities = BTreeMap::new();
    // By username: the place of its key in the files, and the id.
    let mut taken: BTreeMap<String, (&Node, &String)> = BTreeMap::new();
    for (id, mut table) in all.tables() {
        if let (Some(node), true) = (table.node(), id.is_empty() || plain(id).is_none()) {
            let says = format!("`{}` has no valid id", join(["identity", id.as_str()]));
            let help = format!("an id has 1 to {LONGEST_NAME} characters, and no control characters");
            reading.refuse(node, Part::Key, says, help);
        }
        let identity = identity(&mut table);
        if let Some(node) = table.entry("username") {
            match taken.get(&identity.username) {
                _ if identity.username.is_empty() => {}
                None => {
                    taken.insert(identity.username.clone(), (node, id));
                }
                Some((other, other_id)) if other.place() > node.place() => {
                    refuse_twin(reading, &identity.username, (other, other_id), (node, id));
                }
                Some(other) => refuse_twin(reading, &identity.username, (node, id), *other),
            }
        }
        table.finish();
        identities.insert(id.clone(), identity);
    }
    identities
}

fn identity(table: &mut Table<'_>) -> Identity {
    let says =
        "a name of 1 to 255 characters, without a colon or control characters, and not anonymous, restore or scrub";
    // Records use these names for actors that are no users.
    let taken = ["anonymous", "restore", "scrub"];
    let username = rule::text(says, move |text| {
        plain(text).filter(|text| !text.is_empty() && !text.contains(':') && !taken.contains(&text.as_str()))
    });
    let hash = rule::checked_text("a hash of a password: an argon2 PHC string, or bcrypt", |text| {
        let next = "make one with `simple-registry hash-password`, and write it between quotes";
        password::check_password_hash(text).map_err(|says| (says.to_owned(), next.to_owned()))?;
        Ok(SecretString::from(text))
    })
    .matching(r"^\$(argon2|2[aby]\$)");
    let group = rule::text("a name of 1 to 255 characters, without control characters", |text| {
        plain(text).filter(|text| !text.is_empty())
    });
    let groups = rule::list("a list of up to 1000 names of 1 to 255 characters each", MOST_GROUPS, group);
    Identity {
        username: table.required("username", "\"ana\"", &username),
        password: table.required("password", "\"<hash>\"", &hash),
        groups: table.key("groups", "[]", &groups),
    }
}

/// Reports two identities with one username, at the later one.
fn refuse_twin(reading: &Reading<'_>, username: &str, later: (&Node, &String), earlier: (&Node, &String)) {
    if !reading.whole {
        return;
    }
    let key = |id: &str| join(["identity", id, "username"]);
    let (this, other, place) = (key(later.1), key(earlier.1), reading.whereabouts(earlier.0));
    let says = format!("`{this}` is {username:?}, as is `{other}` ({place}): no two identities have one username");
    reading.refuse(later.0, Part::Value, says, "give one of the two another username".to_owned());
}

/// Returns a name that fits in one line.
fn plain(text: &str) -> Option<String> {
    let fits = text.chars().count() <= LONGEST_NAME && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
}

pub(super) fn token(root: &mut Table<'_>) -> Token {
    let mut table = root.table("token");
    let example = "https://registry.example.com/token";
    let token = Token {
        realm: table.optional("realm", "\"https://registry.example.com/token\"", &rule::url(example)),
        signing_key: written(table.key("signing_key", "\"token.key\"", &rule::text("the path of a file", path))),
        ttl: table.key("ttl", "\"5m\"", &rule::time("60s", "1d")),
    };
    table.finish();
    token
}

pub(super) fn audit(root: &mut Table<'_>) -> Audit {
    const ON_ERROR: &[(&str, OnAuditError)] = &[("deny", OnAuditError::Deny), ("continue", OnAuditError::Continue)];
    let mut table = root.table("audit");
    let file = rule::text("\"off\", \"stdout\", or the path of a file", |text| match text {
        "off" => Some(AuditFile::Off),
        "stdout" => Some(AuditFile::Stdout),
        text => path(text).map(written).map(AuditFile::File),
    });
    let audit = Audit {
        file: table.key("file", "\"off\"", &file),
        max_size: table.key("max_size", "\"100MiB\"", &rule::size("64KiB", "1TiB")),
        max_age: table.key("max_age", "\"1 day\"", &rule::time("0s", "3650d")),
        keep_age: table.key("keep_age", "\"400d\"", &rule::time("0s", "36500d")),
        max_total_size: table.optional("max_total_size", "\"10GiB\"", &rule::size("1MiB", "1024TiB")),
        on_error: table.key("on_error", "\"deny\"", &rule::word(ON_ERROR)),
    };
    table.replaced("keep", "keep_age", "files are kept for a time, whatever their number");
    table.finish();
    audit
}

/// Checks the key of a `[repository."..."]` table; the error is the rule that it breaks.
///
/// Names are as in the OCI Distribution Specification, "Pulling manifests": parts of lower-case letters and digits, with
/// `.`, `_`, `__` or any number of `-` between, and slashes between the parts.
fn repository_name(name: &str) -> Result<(), &'static str> {
    if name == "*" {
        return Ok(());
    }
    if name.is_empty() || name.len() > 255 {
        return Err("it has 1 to 255 characters");
    }
    if name.split('/').any(str::is_empty) {
        return Err("no slash begins or ends it, and no two stand together");
    }
    if !name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/')) {
        return Err("it consists of lower-case letters, digits, `.`, `_`, `-` and `/`");
    }
    let is_separator = |c: char| matches!(c, '.' | '_' | '-');
    for part in name.split('/') {
        if part.starts_with(is_separator) || part.ends_with(is_separator) {
            return Err("each of its parts begins and ends with a letter or digit");
        }
        let separators = part.split(|c| !is_separator(c)).filter(|run| !run.is_empty());
        for run in separators {
            if !matches!(run, "." | "_" | "__") && run.chars().any(|c| c != '-') {
                return Err("between letters and digits stand `.`, `_`, `__` or any number of `-`");
            }
        }
    }
    Ok(())
}
