//! The wait of a download for a place, in the queue of each client that reads it.

use std::{sync::Arc, time::Duration};

use futures::future::select_all;
use tokio::{sync::oneshot::Receiver, time::timeout};

use super::places::{Owner, Place, Places};
use crate::identity::Client;

/// The place of one download, or its wait for one.
#[derive(Default)]
pub(super) struct Queue {
    place: Option<Place>,
    /// The waits, one for each client.
    waiting: Vec<(Client, Receiver<Place>)>,
}

impl Queue {
    pub(super) const fn has_place(&self) -> bool {
        self.place.is_some()
    }

    /// Gives the place back, and waits no more.
    pub(super) fn leave(&mut self) {
        *self = Self::default();
    }

    /// Waits for a place of any of these clients, for some time. The next call goes on with the wait.
    pub(super) async fn wait(&mut self, places: &Arc<Places>, host: &Arc<str>, clients: &[Client], time: Duration) {
        self.waiting.retain(|(client, _)| clients.contains(client));
        for client in clients {
            if !self.waiting.iter().any(|(known, _)| known == client) {
                self.waiting.push((*client, places.enqueue(Owner { host: Arc::clone(host), client: *client })));
            }
        }
        let first = select_all(self.waiting.iter_mut().map(|(_, place)| place));
        if let Ok((Ok(place), ..)) = timeout(time, first).await {
            self.leave();
            self.place = Some(place);
        }
    }
}
