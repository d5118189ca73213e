//! The variables of access rules, and the words that rules compare them with.
//!
//! To add a variable: its path in [`TEXTS`] or [`LISTS`], its value in [`Input::new`], a row in
//! `docs/reference/policy.md`. A test holds them together. Times are in `times`.

use serde::{Deserialize, Serialize};

use super::times::{FirstSeen, Now, Times};
use crate::{
    action::{ACTIONS, Access, Action},
    identity::{Certificate, Facts, Identity},
    oci::{Digest, Name, Reference},
};

/// A request as records, policy tests and `policy explain` write it: `request` in CEL. A missing value is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// `request.action`: the word of a row of [`ACTIONS`].
    pub action: String,
    /// `request.access`: one of [`ACCESSES`].
    pub access: String,
    /// `request.namespace`: the repository's name.
    pub namespace: String,
    /// `request.digest`: of the blob or manifest.
    pub digest: String,
    /// `request.reference`: the tag or digest in the path of a manifest.
    pub reference: String,
    /// `request.tags`: all tags that a push of a manifest sets. For a delete by digest: tags that mean the digest, as
    /// records, tests and `policy explain` write them. Rules do not see the tags of a delete.
    pub tags: Vec<String>,
    /// `request.from`: the repository that a blob is to be mounted from.
    pub from: String,
    /// `request.listener`: one of [`LISTENERS`].
    pub listener: String,
    /// `request.upload_owner`: who began the upload.
    pub upload_owner: String,
    /// `request.upstream`: the host of the first upstream of a repository that is a cache.
    pub upstream: String,
}

/// The values of `request.access`.
pub const ACCESSES: [&str; 5] = [
    Access::Pull.as_str(),
    Access::Push.as_str(),
    Access::Delete.as_str(),
    Access::List.as_str(),
    Access::Admin.as_str(),
];

/// The addresses of requests: that of the registry, or the own address of metrics and health.
pub const LISTENERS: [&str; 2] = ["main", "side"];

/// Variables of access rules that are texts.
pub(super) const TEXTS: [&str; 16] = [
    "identity.id",
    "identity.username",
    "identity.client_ip",
    "identity.certificate.serial",
    "identity.certificate.fingerprint",
    "identity.certificate.not_before",
    "identity.certificate.not_after",
    "request.action",
    "request.access",
    NAMESPACE,
    "request.digest",
    "request.reference",
    "request.from",
    "request.listener",
    UPLOAD_OWNER,
    UPSTREAM,
];

/// The variables that differ between repositories.
pub(super) const NAMESPACE: &str = "request.namespace";
pub(super) const UPSTREAM: &str = "request.upstream";

/// The variable that a look at the upload gives a value.
pub(super) const UPLOAD_OWNER: &str = "request.upload_owner";

/// Variables of access rules that are lists of texts.
pub(super) const LISTS: [&str; 7] = [
    "identity.groups",
    "identity.certificate.common_names",
    "identity.certificate.organizations",
    "identity.certificate.organizational_units",
    "identity.certificate.dns_names",
    "identity.certificate.uris",
    "request.tags",
];

/// Variables of access rules that are times.
pub(super) const TIMES: [&str; 1] = [FIRST_SEEN_AT];

/// The variable that only a pull of a manifest of a cache gives a value.
pub(super) const FIRST_SEEN_AT: &str = "image.first_seen_at";

impl Request {
    /// Returns the values of an action.
    #[must_use]
    pub fn of(action: &Action, listener: &'static str, upstream: &str) -> Self {
        let (row, target) = (action.row(), action.target());
        let text = |name: Option<&Name>| name.map(|name| name.as_str().to_owned()).unwrap_or_default();
        let reference = target.reference.map(ToString::to_string);
        let (named, digest) = match target.reference {
            Some(Reference::Tag(tag)) => (Some(tag), target.digest),
            Some(Reference::Digest(digest)) => (None, Some(digest)),
            None => (None, target.digest),
        };
        let tags = target.tags.map(|tags| named.into_iter().chain(tags.iter().filter(move |tag| Some(*tag) != named)));
        Self {
            action: row.word.to_owned(),
            access: row.access.as_str().to_owned(),
            namespace: text(target.name),
            digest: digest.map(ToString::to_string).unwrap_or_default(),
            reference: reference.or_else(|| target.tag.map(ToString::to_string)).unwrap_or_default(),
            tags: tags.into_iter().flatten().map(|tag| tag.as_str().to_owned()).collect(),
            from: text(target.from),
            listener: listener.to_owned(),
            upload_owner: target.upload.map(|(_, owner)| owner.to_owned()).unwrap_or_default(),
            upstream: upstream.to_owned(),
        }
    }

    /// Returns true for a pull of a manifest of a cache: of an image that came from an upstream.
    #[must_use]
    pub fn is_of_cached_image(&self) -> bool {
        self.action == "get-manifest" && !self.upstream.is_empty()
    }

    /// Returns the times of the request. Without `first_seen`, a pull of a manifest of a cache is decided as before its
    /// upstream is asked.
    #[must_use]
    pub fn times<'a>(&self, now: &'a Now, first_seen: Option<FirstSeen>) -> Times<'a> {
        let first_seen = match first_seen {
            _ if !self.is_of_cached_image() => FirstSeen::NoImage,
            Some(first_seen) => first_seen,
            None => FirstSeen::Awaited,
        };
        Times { now, first_seen }
    }

    /// Completes a request that a person wrote down: the access follows from the action, digest and tag from the reference.
    /// The listener is `main`.
    #[must_use]
    pub fn completed(mut self) -> Self {
        if self.access.is_empty() {
            let row = ACTIONS.iter().find(|row| row.word == self.action);
            row.map_or("", |row| row.access.as_str()).clone_into(&mut self.access);
        }
        if self.listener.is_empty() {
            LISTENERS[0].clone_into(&mut self.listener);
        }
        let is_digest = self.reference.parse::<Digest>().is_ok();
        if is_digest && self.digest.is_empty() {
            self.digest.clone_from(&self.reference);
        }
        let names_tag = !is_digest && self.action == "put-manifest" && !self.reference.is_empty();
        if names_tag && !self.tags.contains(&self.reference) {
            self.tags.insert(0, self.reference.clone());
        }
        self
    }
}

/// The values of all variables for one request, in the order of [`TEXTS`] and [`LISTS`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub(super) texts: [&'a str; TEXTS.len()],
    pub(super) lists: [&'a [String]; LISTS.len()],
    pub(super) times: Times<'a>,
}

static NO_CERTIFICATE: Certificate = Certificate {
    common_names: Vec::new(),
    organizations: Vec::new(),
    organizational_units: Vec::new(),
    dns_names: Vec::new(),
    uris: Vec::new(),
    serial: String::new(),
    fingerprint: String::new(),
    not_before: String::new(),
    not_after: String::new(),
    issuer_and_subject: String::new(),
};

impl<'a> Input<'a> {
    /// Returns the values of an identity; `client_ip` is its address as text.
    pub(super) fn of(identity: &'a Identity, client_ip: &'a str, request: &'a Request, times: Times<'a>) -> Self {
        let certificate = identity.certificate.as_deref().unwrap_or(&NO_CERTIFICATE);
        match &identity.user {
            Some(user) => Self::new((&user.id, &user.username, &user.groups), client_ip, certificate, request, times),
            None => Self::new(("", "", &[]), client_ip, certificate, request, times),
        }
    }

    /// Returns the values of an identity as it is written.
    pub(super) fn written(facts: &'a Facts, request: &'a Request, times: Times<'a>) -> Self {
        let user = (facts.id.as_str(), facts.username.as_str(), facts.groups.as_slice());
        Self::new(user, &facts.client_ip, &facts.certificate, request, times)
    }

    fn new(
        (id, username, groups): (&'a str, &'a str, &'a [String]),
        client_ip: &'a str,
        certificate: &'a Certificate,
        request: &'a Request,
        times: Times<'a>,
    ) -> Self {
        Self {
            texts: [
                id,
                username,
                client_ip,
                &certificate.serial,
                &certificate.fingerprint,
                &certificate.not_before,
                &certificate.not_after,
                &request.action,
                &request.access,
                &request.namespace,
                &request.digest,
                &request.reference,
                &request.from,
                &request.listener,
                &request.upload_owner,
                &request.upstream,
            ],
            lists: [
                groups,
                &certificate.common_names,
                &certificate.organizations,
                &certificate.organizational_units,
                &certificate.dns_names,
                &certificate.uris,
                &request.tags,
            ],
            times,
        }
    }

    /// Returns the repository's name.
    pub(super) fn namespace(&self) -> &'a str {
        self.texts[9]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_has_the_value_of_its_own_field() {
        // every field's value is its own path
        let fields = |prefix: &str, value: serde_json::Value| -> serde_json::Value {
            let serde_json::Value::Object(map) = value else { unreachable!("it is a struct") };
            map.into_iter()
                .map(|(key, value)| {
                    let path = format!("{prefix}.{key}");
                    let value = match value {
                        serde_json::Value::Array(_) => serde_json::json!([path]),
                        serde_json::Value::String(_) => serde_json::json!(path),
                        other => other,
                    };
                    (key, value)
                })
                .collect()
        };
        let of = |value| serde_json::to_value(value).unwrap();
        let mut identity = fields("identity", of(Facts::default()));
        identity["certificate"] = fields("identity.certificate", serde_json::to_value(Certificate::default()).unwrap());
        let facts: Facts = serde_json::from_value(identity).unwrap();
        let request: Request =
            serde_json::from_value(fields("request", serde_json::to_value(Request::default()).unwrap())).unwrap();
        let now = Now::default();
        let input = Input::written(&facts, &request, request.times(&now, None));
        assert_eq!(input.texts, TEXTS);
        assert_eq!(input.lists.map(|list| list[0].as_str()), LISTS);
        assert_eq!(input.namespace(), "request.namespace");
    }

    #[test]
    fn every_action_has_its_words_in_a_request() {
        let upload = "00000000-0000-4000-8000-000000000000";
        let digest = format!("sha256:{}", "0".repeat(64));
        for row in ACTIONS {
            let path = row.path.replace("<name>", "a").replace("<reference>", "v1").replace("<tag>", "v1");
            let path = path.replace("<digest>", &digest).replace("<id>", upload);
            let (path, _) = path.split_once('?').unwrap_or((&path, ""));
            let query = match row.word {
                "mount-blob" => format!("mount={digest}&from=b"),
                _ => format!("digest={digest}&tag=v1&tag=v2"),
            };
            let method = row.methods.split(", ").next().unwrap();
            let mut action = Action::parse(method, path, Some(&query)).unwrap();
            action.set_upload_owner("ana");
            let request = Request::of(&action, "main", "up.example");
            let has = |placeholder: &str| row.path.contains(placeholder);
            let text = |is_there: bool, text: &str| if is_there { text.to_owned() } else { String::new() };
            let has_digest = has("<digest>") || matches!(row.word, "mount-blob" | "start-upload" | "complete-upload");
            let expected = Request {
                action: row.word.to_owned(),
                access: row.access.as_str().to_owned(),
                namespace: text(has("<name>"), "a"),
                digest: text(has_digest, &digest),
                reference: text(has("<reference>") || has("<tag>"), "v1"),
                tags: if row.word == "put-manifest" { vec!["v1".to_owned(), "v2".to_owned()] } else { Vec::new() },
                from: text(row.word == "mount-blob", "b"),
                listener: "main".to_owned(),
                upload_owner: text(has("<id>"), "ana"),
                upstream: "up.example".to_owned(),
            };
            assert_eq!(request, expected, "the row of {}", row.word);
            assert!(ACCESSES.contains(&row.access.as_str()), "the row of {}", row.word);
        }
    }
}
