//! Repositories that are caches: one server of this registry before another.

mod cooldown;
mod outage;
mod policy;
mod prefetch;
mod pulls;
mod refresh;
mod refusals;
mod shares;

use serde_json::Value;

use crate::support::client::Response;
use crate::support::repo::Repo;
use crate::support::server::{Backend, Server};

/// An upstream, and a server with caches of it. The cache of `library/app` is `hub/library/app`.
struct Cached {
    upstream: Server,
    cache: Server,
}

impl Cached {
    fn start(backend: Backend) -> Self {
        Self::start_with(backend, "")
    }

    /// Starts both, with more settings of the cache.
    fn start_with(backend: Backend, settings: &str) -> Self {
        let upstream = Server::start_plain(Backend::Directory, "");
        let cache = Server::start_plain(backend, &settings_of(&upstream, settings));
        Self { upstream, cache }
    }

    /// Returns the upstream's repository.
    fn there(&self) -> Repo {
        self.upstream.repo("library/app")
    }

    /// Returns the cache of it.
    fn here(&self) -> Repo {
        self.cache.repo("hub/library/app")
    }

    /// Returns the actions, methods aside, that the upstream has logged.
    fn asked(&self) -> Vec<String> {
        let events = self.upstream.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        events.filter_map(|event| event["action"].as_str().map(str::to_owned)).collect()
    }
}

/// Returns the settings of a cache before an upstream.
fn settings_of(upstream: &Server, settings: &str) -> String {
    format!("{settings}\n[[repository.hub.upstream]]\nurl = \"http://{}/v2\"\n", upstream.address())
}

fn cache_header(response: &Response) -> &str {
    response.required("x-cache")
}
