//! Finds the repository that a client means which asks as if this registry were another one.
//!
//! containerd names the other registry in each request (`?ns=docker.io`). docker asks its mirrors for names of Docker Hub
//! and sends nothing beside them, so such a name has one meaning alone: `mirror_of` takes all of them.

use std::collections::BTreeMap;

use super::model::Config;
use crate::{
    diagnostics::{Entries, Part, Reading, find, joined},
    oci::Name,
};

/// The registry that docker's mirrors stand for.
const DOCKER_HUB: &str = "docker.io";

/// The registries that this one stands for.
#[derive(Clone, Debug, Default)]
pub struct Mirrors {
    /// The namespace of each registry's repositories, by the registry's host. `"*"`: names are as they are.
    hosts: BTreeMap<String, String>,
    /// `mirror_of`
    of: Option<String>,
}

/// The repository that a client means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meant {
    /// The repository here.
    pub name: Name,
    /// The registry that the client named, if that counted.
    pub host: Option<String>,
}

/// The reason why a client's name means no repository here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMirrored {
    /// The client named a registry that this one does not stand for.
    #[error("this registry is no mirror of {0}, which the query parameter ns names; ask that registry itself")]
    Host(String),
    /// The name and its namespace are too long together.
    #[error("the name {0} is too long for the namespace of its mirror")]
    TooLong(Name),
}

impl Mirrors {
    /// Reads the mirrors of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut hosts = BTreeMap::new();
        for (namespace, table) in &config.repository {
            hosts.extend(table.serves.iter().map(|host| (host.clone(), namespace.clone())));
        }
        if let Some(namespace) = &config.mirror_of {
            hosts.entry(DOCKER_HUB.to_owned()).or_insert_with(|| namespace.clone());
        }
        Self { hosts, of: config.mirror_of.clone() }
    }

    /// Returns true if this registry stands for no other one, so that each name means itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Finds the repository that a reader of `name` means. `host` is the query parameter `ns`. Returns nothing if the name
    /// means itself and no host was named.
    ///
    /// # Errors
    /// The name means no repository here.
    pub fn meant(&self, name: &Name, host: Option<&str>) -> Result<Option<Meant>, NotMirrored> {
        let host = host.map(str::to_ascii_lowercase);
        let namespace = match (&host, &self.of) {
            (Some(host), _) => self.hosts.get(host).ok_or_else(|| unknown(host))?,
            (None, Some(of)) if self.claims(name) => of,
            (None, _) => return Ok(None),
        };
        let name = match namespace.as_str() {
            "*" => name.clone(),
            namespace => format!("{namespace}/{name}").parse().map_err(|_| NotMirrored::TooLong(name.clone()))?,
        };
        Ok(Some(Meant { name, host }))
    }

    /// Returns the namespace that readers of `name` are led to, if the name is one that docker asks its mirrors for. So no
    /// push to that name can be read.
    #[must_use]
    pub fn claimed(&self, name: &Name) -> Option<&str> {
        self.of.as_deref().filter(|_| self.claims(name))
    }

    fn claims(&self, name: &Name) -> bool {
        self.of.as_ref().is_some_and(|of| !is_below(name.as_str(), of))
            && name.as_str().contains('/')
            && covers_names_of_docker_hub(name.as_str())
    }

    /// Returns the registries that this one stands for.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.keys().map(String::as_str)
    }
}

fn unknown(host: &str) -> NotMirrored {
    NotMirrored::Host(host.chars().take(255).collect())
}

fn is_below(name: &str, namespace: &str) -> bool {
    name.strip_prefix(namespace).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns whether a namespace may cover names that docker asks its mirrors for. In a reference, docker takes a first part
/// with a dot, or `localhost`, for the host of a registry. So no name of Docker Hub begins so.
fn covers_names_of_docker_hub(namespace: &str) -> bool {
    let first = namespace.split('/').next().unwrap_or_default();
    !first.contains('.') && first != "localhost"
}

/// Checks `serves` and `mirror_of` of the whole configuration.
pub(super) fn check(reading: &Reading<'_>, config: &Config, entries: &Entries) {
    check_hosts(reading, config, entries);
    let Some(of) = &config.mirror_of else { return };
    let Some(stated) = find(entries, &["mirror_of".to_owned()]) else { return };
    let table = |namespace: &str| joined(["repository", namespace]);
    if of == "*" || !config.repository.contains_key(of) {
        let says = format!("`mirror_of` is {of:?}, and there is no table `[{}]`", table(of));
        let help = "name the namespace that is a cache of Docker Hub, and give it a table";
        reading.refuse(stated, Part::Value, says, help);
        return;
    }
    let others = config.repository.keys().filter(|name| *name != "*" && !is_below(name, of));
    for name in others.filter(|name| covers_names_of_docker_hub(name)) {
        let Some(node) = find(entries, &["repository".to_owned(), name.clone()]) else { continue };
        let says = format!(
            "`{}` covers names that docker asks a mirror of Docker Hub for, and `mirror_of` is {of:?} ({}): they would mean two \
             things",
            table(name),
            reading.whereabouts(stated)
        );
        let help = "begin the name with a part that has a dot, such as `team.example/app`, or move it below the namespace of \
                    `mirror_of`; without `mirror_of`, clients can name the mirror's repositories, or send `?ns=docker.io`";
        reading.refuse(node, Part::Key, says, help);
    }
}

/// Checks that no two namespaces serve one host.
fn check_hosts(reading: &Reading<'_>, config: &Config, entries: &Entries) {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (namespace, table) in &config.repository {
        for host in &table.serves {
            let path = ["repository", namespace, "serves"];
            let node = find(entries, &path.map(str::to_owned));
            if let (Some(other), Some(node)) = (taken.insert(host, namespace), node) {
                let (this, other) = (joined(path), joined(["repository", other, "serves"]));
                let says = format!("`{this}` names {host}, as does `{other}`: one host has one namespace");
                reading.refuse(node, Part::Value, says, "leave the host out of one of the two");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::Source;

    fn mirrors(text: &str) -> Mirrors {
        Mirrors::new(&Config::from_sources(&[Source::new("config.toml", text)]).unwrap())
    }

    fn meant(mirrors: &Mirrors, name: &str, host: Option<&str>) -> String {
        match mirrors.meant(&name.parse().unwrap(), host) {
            Ok(None) => name.to_owned(),
            Ok(Some(meant)) => format!("{} {}", meant.name, meant.host.unwrap_or_default()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_named_registry_has_its_namespace_and_others_are_refused() {
        let both =
            mirrors("[repository.hub]\nserves = ['Docker.io']\n[repository.'*']\nserves = ['registry.lan:5000']");
        assert_eq!(meant(&both, "library/nginx", Some("docker.io")), "hub/library/nginx docker.io");
        assert_eq!(meant(&both, "hub/a", Some("DOCKER.IO")), "hub/hub/a docker.io");
        assert_eq!(meant(&both, "a/b", Some("registry.lan:5000")), "a/b registry.lan:5000");
        assert_eq!(meant(&both, "a/b", None), "a/b");
        assert!(meant(&both, "a/b", Some("ghcr.io")).starts_with("this registry is no mirror of ghcr.io"));
        assert_eq!(both.hosts().collect::<Vec<_>>(), ["docker.io", "registry.lan:5000"]);
        let long = format!("{}a", "a/".repeat(126));
        assert!(meant(&both, &long, Some("docker.io")).contains("too long"));
        assert!(mirrors("[repository.hub]").is_empty());
    }

    #[test]
    fn docker_means_the_mirrored_namespace_by_the_names_of_docker_hub() {
        let hub = mirrors("mirror_of = 'hub'\n[repository.hub]\n[repository.'team.example/app']");
        assert_eq!(meant(&hub, "library/nginx", None), "hub/library/nginx ");
        assert_eq!(meant(&hub, "hubs/a", None), "hub/hubs/a ");
        assert_eq!(meant(&hub, "library/nginx", Some("docker.io")), "hub/library/nginx docker.io");
        assert!(meant(&hub, "library/nginx", Some("ghcr.io")).contains("no mirror of ghcr.io"));
        for own in ["hub", "hub/library/nginx", "nginx", "team.example/app", "localhost/a"] {
            assert_eq!(meant(&hub, own, None), own);
            assert_eq!(hub.claimed(&own.parse().unwrap()), None, "{own}");
        }
        assert_eq!(hub.claimed(&"team/app".parse().unwrap()), Some("hub"));
    }
}
