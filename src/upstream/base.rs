//! Parses the address of an upstream, and names its repositories.

use reqwest::Url;

use crate::oci::Name;

/// The address of an upstream: a registry, and the beginning of the names of its repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The scheme, host and port. The path is `/v2/`.
    root: Url,
    /// The beginning of each name.
    prefix: Option<Name>,
}

/// The registry of Docker Hub.
const DOCKER_HUB: &str = "registry-1.docker.io";
/// Other names that clients have for it. The first is the one in references of images.
const DOCKER_HUB_ALIASES: [&str; 2] = ["docker.io", "index.docker.io"];

/// An address that cannot be the one of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// The text is no URL with a host.
    #[error("it is no URL: write it as https://registry.example/v2/library")]
    NotAUrl,
    /// The scheme is none that registries speak.
    #[error("its scheme is {0}: it must be https or http")]
    Scheme(String),
    /// The URL has a user or a password.
    #[error("it has a user name or a password: give them in the keys username and password")]
    Credentials,
    /// The URL has a query or a fragment.
    #[error("it has a `?` or a `#`: leave out all that follows the path")]
    Query,
    /// The path does not begin with `/v2`.
    #[error("its path is {0}: it must be /v2, or begin with /v2/, as in https://registry.example/v2/library")]
    Path(String),
    /// The rest of the path begins no name of a repository.
    #[error("{0:?}, the rest of its path, begins no repository name")]
    Prefix(String),
}

impl Base {
    /// Parses the address of an upstream, such as `https://registry.example/v2/library`.
    ///
    /// `docker.io` means what clients mean by it: the registry of Docker Hub.
    ///
    /// # Errors
    /// [`BaseError`] says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, BaseError> {
        let mut root = Url::parse(text).map_err(|_| BaseError::NotAUrl)?;
        if !matches!(root.scheme(), "https" | "http") {
            return Err(BaseError::Scheme(root.scheme().to_owned()));
        }
        if !root.username().is_empty() || root.password().is_some() {
            return Err(BaseError::Credentials);
        }
        if root.query().is_some() || root.fragment().is_some() {
            return Err(BaseError::Query);
        }
        let path = root.path().trim_end_matches('/').to_owned();
        let rest = path.strip_prefix("/v2").filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let rest = rest.ok_or_else(|| BaseError::Path(root.path().to_owned()))?.trim_start_matches('/');
        let prefix = match rest {
            "" => None,
            rest => Some(rest.parse().map_err(|_| BaseError::Prefix(rest.to_owned()))?),
        };
        let host = root.host_str().ok_or(BaseError::NotAUrl)?;
        if DOCKER_HUB_ALIASES.contains(&host) {
            root.set_host(Some(DOCKER_HUB)).map_err(|_| BaseError::NotAUrl)?;
        }
        root.set_path("/v2/");
        Ok(Self { root, prefix })
    }

    /// Returns the name that the upstream has for a repository, or `None` if no name is so long. `rest` is the name here
    /// without the namespace of the table and the `/` after it. It is empty if the name is the namespace.
    ///
    /// Names of Docker Hub without a `/` are those below `library`.
    #[must_use]
    pub fn repository(&self, rest: &str) -> Option<Name> {
        match (&self.prefix, rest) {
            (Some(prefix), "") => Some(prefix.clone()),
            (Some(prefix), rest) => format!("{prefix}/{rest}").parse().ok(),
            (None, rest) if self.is_docker_hub() && !rest.contains('/') => format!("library/{rest}").parse().ok(),
            (None, rest) => rest.parse().ok(),
        }
    }

    /// Returns the host, for messages, logs and metrics.
    #[must_use]
    pub fn host(&self) -> &str {
        self.root.host_str().unwrap_or_default()
    }

    /// Returns the URL `/v2/`.
    pub(super) fn root(&self) -> &Url {
        &self.root
    }

    /// Returns the URL of a path below `/v2/`. Names, digests and tags need no escape.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.root.clone();
        url.set_path(&format!("/v2/{path}"));
        url
    }

    fn is_docker_hub(&self) -> bool {
        self.host() == DOCKER_HUB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(base: &str, rest: &str) -> String {
        Base::parse(base).unwrap().repository(rest).unwrap().to_string()
    }

    #[test]
    fn the_path_after_v2_takes_the_place_of_the_namespace() {
        assert_eq!(repository("https://registry.example/v2/library", "nginx"), "library/nginx");
        assert_eq!(repository("https://registry.example/v2/library/", "a/b"), "library/a/b");
        assert_eq!(repository("https://registry.example/v2/library", ""), "library");
        assert_eq!(repository("http://127.0.0.1:5000/v2", "a/b"), "a/b");
        let base = Base::parse("https://registry.example:8443/v2/library").unwrap();
        assert_eq!(
            base.url("library/nginx/tags/list").as_str(),
            "https://registry.example:8443/v2/library/nginx/tags/list"
        );
    }

    #[test]
    fn docker_io_is_the_registry_of_docker_hub() {
        for alias in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
            let base = Base::parse(&format!("https://{alias}/v2/")).unwrap();
            assert_eq!(base.host(), "registry-1.docker.io");
            assert_eq!(base.repository("nginx").unwrap().as_str(), "library/nginx");
            assert_eq!(base.repository("grafana/grafana").unwrap().as_str(), "grafana/grafana");
        }
        assert_eq!(repository("https://quay.example/v2/", "nginx"), "nginx");
    }

    #[test]
    fn an_address_that_cannot_be_is_refused_with_the_reason() {
        let refused = |text: &str| Base::parse(text).unwrap_err();
        assert_eq!(refused("registry.example/v2"), BaseError::NotAUrl);
        assert_eq!(refused("ftp://registry.example/v2"), BaseError::Scheme("ftp".to_owned()));
        assert_eq!(refused("https://ana:secret@registry.example/v2"), BaseError::Credentials);
        assert_eq!(refused("https://registry.example/v2?a=b"), BaseError::Query);
        assert_eq!(refused("https://registry.example/"), BaseError::Path("/".to_owned()));
        assert_eq!(refused("https://registry.example/v2x/a"), BaseError::Path("/v2x/a".to_owned()));
        assert_eq!(refused("https://registry.example/v2/A"), BaseError::Prefix("A".to_owned()));
        assert!(Base::parse("https://registry.example/v2/a").unwrap().repository(&"b".repeat(300)).is_none());
    }
}
