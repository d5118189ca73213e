//! Finds the upstreams of a repository that is a cache.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;

use super::{read, source::Upstream, upstreams::Upstreams};
use crate::{
    config::{self, Config, covering},
    diagnostics::Problems,
    memory::Memory,
    oci::Name,
};

/// The upstreams of a namespace, and how far its cached tags are trusted.
#[derive(Clone, Debug)]
pub struct CachedNamespace {
    /// The upstreams, in order. There is at least one.
    pub upstreams: Upstreams,
    /// The time for which a cached tag is trusted without asking upstream.
    pub manifest_ttl: Duration,
    /// The time for which a manifest is held back after it was first seen.
    pub cooldown: Duration,
    /// True: a cached tag is answered although no upstream could say what it means now.
    pub stale_if_error: bool,
}

/// A repository that is a cache.
#[derive(Clone, Debug)]
pub struct Cached {
    /// The namespace.
    pub namespace: Arc<CachedNamespace>,
    /// The name without the namespace and its slash. Empty if the name is the namespace.
    pub rest: String,
}

/// The namespaces of a configuration that are caches.
#[derive(Debug, Default)]
pub struct CachedNamespaces {
    /// By the prefix of each table that says something about caches. There is none if there are no caches.
    tables: HashMap<String, Table, RandomState>,
    /// The upstreams of all tables, without duplicates.
    upstreams: Vec<Arc<Upstream>>,
    warnings: Vec<String>,
}

/// The meaning of one table.
#[derive(Debug)]
struct Table {
    /// `None` if its repositories are no caches.
    namespace: Option<Arc<CachedNamespace>>,
    /// True if the table itself names the upstreams.
    states_upstreams: bool,
    /// The bytes of a name before its part for the upstream, without the slash.
    skipped: usize,
}

impl CachedNamespaces {
    /// Reads the files that a configuration names for its upstreams, and prepares them. It asks no upstream.
    ///
    /// An upstream that `previous` has with the same settings stays: its tokens are remembered. A new one remembers tokens
    /// in `memory`. All upstreams with one host and one login share limits and failures, with those of `previous` too.
    ///
    /// # Errors
    /// All problems: an address that cannot be one, a file that cannot be read or used.
    pub fn load(config: &Config, previous: Option<&Self>, memory: &Arc<Memory>) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut caches = Self::default();
        let mut by_prefix = HashMap::new();
        for (prefix, table) in &config.repository {
            let Some(stated) = &table.upstream else { continue };
            let mut upstreams = Vec::new();
            for upstream in stated {
                match caches.prepare(upstream, previous, memory) {
                    Ok(upstream) => upstreams.push(upstream),
                    Err(problem) => problems.extend(problem),
                }
            }
            by_prefix.insert(prefix.as_str(), Upstreams::new(upstreams));
        }
        Problems::new(problems).or(())?;
        if by_prefix.values().any(|upstreams| !upstreams.is_empty()) {
            caches.tables =
                config.repository.keys().map(|name| (name.clone(), table(config, &by_prefix, name))).collect();
        }
        Ok(caches)
    }

    /// Returns an upstream: one of this value, one of the previous one, or a new one.
    fn prepare(
        &mut self,
        upstream: &config::Upstream,
        previous: Option<&Self>,
        memory: &Arc<Memory>,
    ) -> Result<Arc<Upstream>, Problems> {
        let settings = read::settings(upstream)?;
        let mut known = self.upstreams.iter().chain(previous.iter().flat_map(|previous| &previous.upstreams));
        let prepared = if let Some(known) = known.find(|known| *known.settings() == settings) {
            Arc::clone(known)
        } else {
            let new = Upstream::new(settings, memory).map_err(|error| read::unusable(upstream, &error))?;
            let known = self.upstreams.iter().chain(previous.iter().flat_map(|previous| &previous.upstreams));
            Arc::new(new.sharing(known))
        };
        if prepared.sends_credentials_in_the_open() {
            self.warnings.push(format!(
                "{}: the credentials travel to {} in plain text, since its `url` begins with http://; use https://",
                upstream.table,
                prepared.host()
            ));
        }
        if !self.upstreams.iter().any(|one| Arc::ptr_eq(one, &prepared)) {
            self.upstreams.push(Arc::clone(&prepared));
        }
        Ok(prepared)
    }

    /// Returns the upstreams of a repository, if it is a cache.
    #[must_use]
    pub fn of(&self, name: &Name) -> Option<Cached> {
        let table = self.table(name.as_str())?;
        let namespace = Arc::clone(table.namespace.as_ref()?);
        let rest = name.as_str().get(table.skipped..).unwrap_or_default();
        Some(Cached { namespace, rest: rest.strip_prefix('/').unwrap_or(rest).to_owned() })
    }

    /// Returns the host of the first upstream of a repository. Empty: it is no cache.
    #[must_use]
    pub fn first_host(&self, name: &Name) -> &str {
        let namespace = self.table(name.as_str()).and_then(|table| table.namespace.as_ref());
        namespace.and_then(|namespace| namespace.upstreams.hosts().next()).unwrap_or_default()
    }

    /// Returns true if a namespace is a cache, but for what longer ones say.
    #[must_use]
    pub fn has(&self, namespace: &str) -> bool {
        self.table(namespace).is_some_and(|table| table.namespace.is_some())
    }

    fn table(&self, name: &str) -> Option<&Table> {
        if self.is_empty() {
            return None;
        }
        covering(name).find_map(|prefix| self.tables.get(prefix))
    }

    /// Returns true if no repository is a cache.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Returns each upstream's host, the requests that it has left, as it said last, and whether it rests after failures.
    ///
    /// Of several logins at one host, the fewest requests count, and any rest.
    #[must_use]
    pub fn states(&self) -> BTreeMap<&str, (Option<u64>, bool)> {
        let mut states: BTreeMap<&str, (Option<u64>, bool)> = BTreeMap::new();
        for upstream in &self.upstreams {
            let (remaining, rests) = states.entry(upstream.host()).or_default();
            *remaining = remaining.iter().copied().chain(upstream.remaining_requests()).min();
            *rests |= upstream.is_resting();
        }
        states
    }

    /// Returns each namespace that is a cache, with the hosts that it comes from: `library/ from registry-1.docker.io`.
    #[must_use]
    pub fn described(&self) -> Vec<String> {
        let namespaces = self.tables.iter().filter_map(|(prefix, table)| {
            let namespace = table.namespace.as_ref().filter(|_| table.states_upstreams)?;
            let hosts = namespace.upstreams.hosts().collect::<Vec<_>>().join(", then ");
            let which = if prefix == "*" { "everything else".to_owned() } else { format!("{prefix}/") };
            Some(format!("{which} from {hosts}"))
        });
        let mut namespaces: Vec<String> = namespaces.collect();
        namespaces.sort_unstable();
        namespaces
    }

    /// Returns warnings about upstreams that can be used and are doubtful.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Finds what holds for the repositories that a table is the longest to cover.
fn table(config: &Config, by_prefix: &HashMap<&str, Upstreams>, name: &str) -> Table {
    let stated = config.stated(name, |table| table.upstream.as_ref());
    let Some((prefix, upstreams)) = stated.and_then(|(prefix, _)| Some((prefix, by_prefix.get(prefix)?))) else {
        return Table { namespace: None, states_upstreams: false, skipped: 0 };
    };
    let namespace = (!upstreams.is_empty()).then(|| {
        let ttl = config.stated(name, |table| table.manifest_ttl.as_ref());
        let cooldown = config.stated(name, |table| table.cooldown.as_ref());
        let stale = config.stated(name, |table| table.stale_if_error.as_ref());
        Arc::new(CachedNamespace {
            upstreams: upstreams.clone(),
            manifest_ttl: ttl.map_or(Duration::ZERO, |(_, ttl)| *ttl),
            cooldown: cooldown.map_or(Duration::ZERO, |(_, cooldown)| *cooldown),
            stale_if_error: stale.is_none_or(|(_, stale)| *stale),
        })
    });
    Table { namespace, states_upstreams: prefix == name, skipped: if prefix == "*" { 0 } else { prefix.len() } }
}
