//! What policies see of a request: its variables, and the words that they can be compared with.
//!
//! To add a variable: its path in [`TEXTS`] or [`LISTS`], its value in [`Input::new`], a row in
//! `docs/reference/policy.md`. A test holds them together.

use serde::{Deserialize, Serialize};

use crate::{
    action::Action,
    identity::{Certificate, Facts, Identity},
    oci::{Digest, Reference},
};

/// A request as records, policy tests and `policy explain` write it: what CEL knows as `request`. What it does not have
/// is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// `request.action`: one of [`ACTIONS`].
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
}

/// An action as policies know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its name, `request.action`.
    pub action: &'static str,
    /// What it does, `request.access`.
    pub access: &'static str,
    /// Whether it is about a repository; if not, `request.namespace` is empty.
    pub named: bool,
}

const fn word(action: &'static str, access: &'static str, named: bool) -> Word {
    Word { action, access, named }
}

/// All actions.
pub const ACTIONS: [Word; 17] = [
    word("get-api-version", "pull", false),
    word("list-catalog", "list", false),
    word("list-tags", "list", true),
    word("get-tag-history", "list", true),
    word("get-manifest", "pull", true),
    word("put-manifest", "push", true),
    word("delete-manifest", "delete", true),
    word("get-referrers", "pull", true),
    word("get-blob", "pull", true),
    word("delete-blob", "delete", true),
    word("start-upload", "push", true),
    word("mount-blob", "push", true),
    word("get-upload", "push", true),
    word("update-upload", "push", true),
    word("complete-upload", "push", true),
    word("cancel-upload", "push", true),
    word("get-metrics", "admin", false),
];

/// All that an action can do.
pub const ACCESSES: [&str; 5] = ["pull", "push", "delete", "list", "admin"];

/// Where a request can come in: at the address of the registry, or at one of their own that metrics and health have.
pub const LISTENERS: [&str; 2] = ["main", "side"];

/// Variables of access rules that are texts.
pub(super) const TEXTS: [&str; 15] = [
    "identity.id",
    "identity.username",
    "identity.client_ip",
    "identity.certificate.serial",
    "identity.certificate.fingerprint",
    "identity.certificate.not_before",
    "identity.certificate.not_after",
    "request.action",
    "request.access",
    "request.namespace",
    "request.digest",
    "request.reference",
    "request.from",
    "request.listener",
    UPLOAD_OWNER,
];

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

impl Request {
    /// What policies see of an action that came in at `listener`.
    #[must_use]
    pub fn of(action: &Action, listener: &'static str) -> Self {
        let name = action.as_str();
        let mut request = Self {
            action: name.to_owned(),
            access: access_of(name).unwrap_or_default().to_owned(),
            namespace: action.name().map(|name| name.as_str().to_owned()).unwrap_or_default(),
            listener: listener.to_owned(),
            upload_owner: action.upload_owner().to_owned(),
            ..Self::default()
        };
        match action {
            Action::GetManifest { reference, .. } | Action::DeleteManifest { reference, .. } => {
                request.refer(reference);
            }
            Action::GetTagHistory { tag, .. } => tag.as_str().clone_into(&mut request.reference),
            Action::PutManifest { reference, tags, .. } => {
                request.refer(reference);
                if let Reference::Tag(tag) = reference {
                    request.tags.push(tag.as_str().to_owned());
                }
                let others = tags.iter().map(crate::oci::Tag::as_str).filter(|tag| *tag != request.reference);
                let others: Vec<String> = others.map(str::to_owned).collect();
                request.tags.extend(others);
            }
            Action::GetReferrers { digest, .. }
            | Action::GetBlob { digest, .. }
            | Action::DeleteBlob { digest, .. }
            | Action::CompleteUpload { digest, .. }
            | Action::StartUpload { digest: Some(digest), .. } => request.digest = digest.to_string(),
            Action::MountBlob { digest, from, .. } => {
                request.digest = digest.to_string();
                request.from = from.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
            }
            _ => {}
        }
        request
    }

    fn refer(&mut self, reference: &Reference) {
        self.reference = reference.to_string();
        if let Reference::Digest(digest) = reference {
            self.digest = digest.to_string();
        }
    }

    /// A request that a person wrote down, with what follows from what is written: the access from the action, the
    /// listener `main`, the digest and the tag from the reference.
    #[must_use]
    pub fn completed(mut self) -> Self {
        if self.access.is_empty() {
            access_of(&self.action).unwrap_or_default().clone_into(&mut self.access);
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

/// What an action does.
fn access_of(action: &str) -> Option<&'static str> {
    ACTIONS.iter().find(|word| word.action == action).map(|word| word.access)
}

/// The values of all variables for one request, in the order of [`TEXTS`] and [`LISTS`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub(super) texts: [&'a str; TEXTS.len()],
    pub(super) lists: [&'a [String]; LISTS.len()],
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
    /// Of an identity as it is; `client_ip` is its address as text.
    pub(super) fn of(identity: &'a Identity, client_ip: &'a str, request: &'a Request) -> Self {
        let certificate = identity.certificate.as_deref().unwrap_or(&NO_CERTIFICATE);
        match &identity.user {
            Some(user) => Self::new(&user.id, &user.username, &user.groups, client_ip, certificate, request),
            None => Self::new("", "", &[], client_ip, certificate, request),
        }
    }

    /// Of an identity as it is written.
    pub(super) fn written(facts: &'a Facts, request: &'a Request) -> Self {
        Self::new(&facts.id, &facts.username, &facts.groups, &facts.client_ip, &facts.certificate, request)
    }

    fn new(
        id: &'a str,
        username: &'a str,
        groups: &'a [String],
        client_ip: &'a str,
        certificate: &'a Certificate,
        request: &'a Request,
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
        }
    }

    /// The repository's name.
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
        let input = Input::written(&facts, &request);
        assert_eq!(input.texts, TEXTS);
        assert_eq!(input.lists.map(|list| list[0].as_str()), LISTS);
        assert_eq!(input.namespace(), "request.namespace");
    }

    #[test]
    fn the_table_of_actions_is_that_of_the_api() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let id = "00000000-0000-4000-8000-000000000000";
        let requests = [
            ("GET", "/v2/".to_owned(), ""),
            ("GET", "/v2/_catalog".to_owned(), ""),
            ("GET", "/v2/a/tags/list".to_owned(), ""),
            ("GET", "/v2/a/tags/v1/history".to_owned(), ""),
            ("GET", "/v2/a/manifests/v1".to_owned(), ""),
            ("PUT", "/v2/a/manifests/v1".to_owned(), "tag=v1&tag=v2"),
            ("DELETE", "/v2/a/manifests/v1".to_owned(), ""),
            ("GET", format!("/v2/a/referrers/{digest}"), ""),
            ("GET", format!("/v2/a/blobs/{digest}"), ""),
            ("DELETE", format!("/v2/a/blobs/{digest}"), ""),
            ("POST", "/v2/a/blobs/uploads/".to_owned(), ""),
            ("POST", "/v2/a/blobs/uploads/".to_owned(), &*format!("mount={digest}&from=b").leak()),
            ("GET", format!("/v2/a/blobs/uploads/{id}"), ""),
            ("PATCH", format!("/v2/a/blobs/uploads/{id}"), ""),
            ("PUT", format!("/v2/a/blobs/uploads/{id}"), &*format!("digest={digest}").leak()),
            ("DELETE", format!("/v2/a/blobs/uploads/{id}"), ""),
        ];
        let words = ACTIONS.iter().filter(|word| word.action != "get-metrics");
        for (word, (method, path, query)) in words.zip(&requests) {
            let action = Action::parse(method, path, Some(query)).unwrap();
            assert_eq!(action.as_str(), word.action);
            assert_eq!(format!("{:?}", action.access()).to_lowercase(), word.access, "{}", word.action);
            assert_eq!(action.name().is_some(), word.named, "{}", word.action);
            let request = Request::of(&action, "main");
            assert_eq!((&*request.action, &*request.access), (word.action, word.access));
            match word.action {
                "put-manifest" => assert_eq!(request.tags, ["v1", "v2"]),
                "mount-blob" => assert_eq!((&*request.from, &request.digest), ("b", &digest)),
                _ => assert!(request.tags.is_empty() && request.from.is_empty()),
            }
        }
        assert_eq!(requests.len() + 1, ACTIONS.len());
        assert!(ACTIONS.iter().all(|word| ACCESSES.contains(&word.access)));
    }
}
