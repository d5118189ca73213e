//! Counts open uploads by client and by repository, so that no client fills the store with uploads that it leaves open.
//!
//! The count is of this process: the uploads that it began, and those that a request has named since. A restart forgets
//! only uploads that nobody continues, and scrub frees those after a lease. Another server may have continued or ended an
//! upload. So the store is asked before an upload gives way, which also corrects the count.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{action::UploadId, identity::Client, oci::Name, registry::UploadStatus};

/// The most uploads that are remembered, some ten megabytes. Beyond it the longest silent one is forgotten.
const MOST: usize = 32 * 1024;

/// The most open uploads of each kind.
#[derive(Clone, Copy, Debug)]
pub struct UploadBounds {
    /// Those of an address without an identity.
    pub address: usize,
    /// Those of an identity.
    pub identity: usize,
    /// Those of a repository.
    pub repository: usize,
}

/// The open uploads that this process knows of.
pub(super) struct OpenUploads {
    bounds: UploadBounds,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The number of the last use of any upload.
    last: u64,
    uploads: HashMap<UploadId, Open>,
    /// The uploads of each group by their last use, the longest silent first.
    groups: HashMap<Group, BTreeMap<u64, UploadId>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Group {
    All,
    Client(Client),
    Repository(Name),
}

struct Open {
    client: Client,
    repository: Name,
    /// The number of its last use.
    last: u64,
    /// The number of the use that began to count it. An upload that was over may come again, under another number.
    first: u64,
    /// The time of its last use.
    since: Instant,
    /// The last state that this process saw.
    state: Option<u32>,
    /// The number of requests that work on it.
    users: usize,
}

/// The outcome of asking for a place.
pub(super) enum Reserved {
    /// There is room for one more upload.
    Place(Place),
    /// A bound is reached, and this upload has been silent for long.
    Silent(InUse, Full),
    /// A bound is reached.
    Full(Full),
}

/// A bound that is reached.
#[derive(Clone, Debug)]
pub(super) struct Full {
    /// Names the one that has too many.
    pub(super) owner: FullOwner,
    /// The bound.
    pub(super) most: usize,
    /// The time after which another attempt may succeed.
    pub(super) retry_after: Duration,
}

/// The owner of too many open uploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FullOwner {
    Address,
    Identity,
    Repository(Name),
}

/// The place of an upload that is about to begin, given back when dropped.
pub(super) struct Place(InUse);

/// A request's work on an upload. Its drop begins the silence of the upload.
pub(super) struct InUse {
    uploads: Arc<OpenUploads>,
    id: UploadId,
    /// The number of the upload's first use.
    first: u64,
}

impl OpenUploads {
    /// Creates an empty count.
    pub(super) fn new(bounds: UploadBounds) -> Arc<Self> {
        Arc::new(Self { bounds, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the place of one more upload. An upload gives way after `silence` without a request.
    pub(super) fn reserve(
        self: &Arc<Self>,
        client: Client,
        repository: &Name,
        silence: Duration,
        now: Instant,
    ) -> Reserved {
        let mut state = self.lock();
        let (owner, most) = match client {
            Client::Address(_) => (FullOwner::Address, self.bounds.address),
            Client::Identity(_) => (FullOwner::Identity, self.bounds.identity),
        };
        let bounds = [
            (Group::Client(client), owner, most),
            (Group::Repository(repository.clone()), FullOwner::Repository(repository.clone()), self.bounds.repository),
        ];
        for (group, owner, most) in bounds {
            if state.groups.get(&group).is_none_or(|uploads| uploads.len() < most) {
                continue;
            }
            let silent = state.longest_silent(&group, client);
            let since = silent.as_ref().and_then(|id| Some(state.uploads.get(id)?.since));
            let left =
                silence.saturating_sub(since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)));
            let full = Full { owner, most, retry_after: left };
            let Some(id) = silent.filter(|_| left.is_zero()) else { return Reserved::Full(full) };
            // nobody else chooses it meanwhile
            let first = state.work_on(client, repository, &id, now);
            drop(state);
            return Reserved::Silent(InUse { uploads: Arc::clone(self), id, first }, full);
        }
        let id = UploadId::random();
        let first = state.work_on(client, repository, &id, now);
        drop(state);
        Reserved::Place(Place(InUse { uploads: Arc::clone(self), id, first }))
    }

    /// Begins work of a request on an upload of this client. An upload that another process began is counted from now on.
    pub(super) fn work_on(self: &Arc<Self>, client: Client, repository: &Name, id: &UploadId) -> InUse {
        let first = self.lock().work_on(client, repository, id, Instant::now());
        InUse { uploads: Arc::clone(self), id: id.clone(), first }
    }
}

impl State {
    /// Counts a request that works on an upload. Returns the number of the upload's first use.
    fn work_on(&mut self, client: Client, repository: &Name, id: &UploadId, now: Instant) -> u64 {
        if let Some(open) = self.uploads.get_mut(id) {
            open.users += 1;
            return open.first;
        }
        self.insert(id, client, repository, now, 1);
        self.last
    }

    fn insert(&mut self, id: &UploadId, client: Client, repository: &Name, now: Instant, users: usize) {
        if self.groups.get(&Group::All).is_some_and(|all| all.len() >= MOST)
            && let Some(silent) = self.longest_silent(&Group::All, client)
        {
            self.remove(&silent);
        }
        // `renew` numbers this use
        let first = self.last + 1;
        let open = Open { client, repository: repository.clone(), last: 0, first, since: now, state: None, users };
        self.uploads.insert(id.clone(), open);
        self.renew(id, now);
    }

    /// Makes an upload the one that was used last.
    fn renew(&mut self, id: &UploadId, now: Instant) {
        let Some(open) = self.uploads.get_mut(id) else { return };
        self.last += 1;
        let before = std::mem::replace(&mut open.last, self.last);
        open.since = now;
        for group in open.groups() {
            let uploads = self.groups.entry(group).or_default();
            uploads.remove(&before);
            uploads.insert(self.last, id.clone());
        }
    }

    fn remove(&mut self, id: &UploadId) {
        let Some(open) = self.uploads.remove(id) else { return };
        for group in open.groups() {
            if let Some(uploads) = self.groups.get_mut(&group) {
                uploads.remove(&open.last);
                if uploads.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
    }

    /// Returns the longest silent upload of a group; of a repository, that of the client that has most of them there.
    fn longest_silent(&self, group: &Group, client: Client) -> Option<UploadId> {
        let uploads = self.groups.get(group)?;
        let open = |id: &&UploadId| self.uploads.get(*id);
        let greediest = matches!(group, Group::Repository(_)).then(|| {
            let mut numbers: HashMap<Client, usize> = HashMap::new();
            for open in uploads.values().filter_map(|id| open(&id)) {
                *numbers.entry(open.client).or_default() += 1;
            }
            numbers.into_iter().max_by_key(|(other, number)| (*number, *other == client)).map(|(other, _)| other)
        });
        let gives_way = |open: &Open| open.users == 0 && greediest.is_none_or(|of| of == Some(open.client));
        uploads.values().find(|id| open(id).is_some_and(gives_way)).cloned()
    }
}

impl Open {
    fn groups(&self) -> [Group; 3] {
        [Group::All, Group::Client(self.client), Group::Repository(self.repository.clone())]
    }
}

impl Place {
    /// Puts the upload that has begun into its place.
    pub(super) fn begun(self, status: &UploadStatus) {
        let mut state = self.0.uploads.lock();
        let Some((client, repository)) =
            state.uploads.get(&self.0.id).map(|open| (open.client, open.repository.clone()))
        else {
            return;
        };
        state.insert(&status.id, client, &repository, Instant::now(), 0);
        if let Some(open) = state.uploads.get_mut(&status.id) {
            open.state = Some(status.state);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.is_over();
    }
}

impl InUse {
    /// Returns the upload, its repository, and the last state that this process saw.
    pub(super) fn upload(&self) -> Option<(UploadId, Name, Option<u32>)> {
        let state = self.uploads.lock();
        let open = state.uploads.get(&self.id)?;
        Some((self.id.clone(), open.repository.clone(), open.state))
    }

    /// Notes the newest state of the upload.
    pub(super) fn stands_at(&self, number: u32) {
        if let Some(open) = self.uploads.lock().uploads.get_mut(&self.id) {
            open.state = Some(number);
        }
    }

    /// Forgets the upload, which is over.
    pub(super) fn is_over(&self) {
        self.uploads.lock().remove(&self.id);
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut state = self.uploads.lock();
        // another request may have ended the upload, and a third one may have counted it again
        if let Some(open) = state.uploads.get_mut(&self.id).filter(|open| open.first == self.first) {
            open.users -= 1;
            state.renew(&self.id, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
