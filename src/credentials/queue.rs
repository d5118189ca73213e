//! Orders waiting jobs in a bounded queue. The queue is fair between clients, and between the users of one client.
//!
//! Clients take turns, and the users of a client take turns within the client's own turns. So a client that tries a
//! thousand passwords waits behind its own tries, and does not delay others. Unknown users wait as long as known ones,
//! since the wait would reveal them otherwise.

use std::collections::{HashMap, VecDeque};

use crate::identity::Client;

/// Most that waits of one client.
const MOST_OF_CLIENT: usize = 128;
/// Most that waits.
const MOST: usize = 512;

pub(super) struct Queue<T> {
    /// Clients with something in the queue; the first is next.
    turns: VecDeque<Client>,
    of_client: HashMap<Client, OfClient<T>>,
    len: usize,
}

/// The waiting jobs of one client, by user. The first user is next. No list is empty.
struct OfClient<T> {
    users: VecDeque<(Box<str>, VecDeque<T>)>,
    len: usize,
}

/// The outcome of adding a job to the queue.
pub(super) enum Pushed<T> {
    /// The job waits.
    Waits,
    /// The job waits. The queue was full and dropped this one, the newest job of the client with the most jobs.
    Instead(T),
    /// The job does not wait: the queue, or the client's part of it, is full.
    Full,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { turns: VecDeque::new(), of_client: HashMap::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, client: Client, user: &str, item: T) -> Pushed<T> {
        let own = self.of_client.get(&client).map_or(0, |own| own.len);
        if own >= MOST_OF_CLIENT {
            return Pushed::Full;
        }
        let mut dropped = None;
        if self.len >= MOST {
            match self.of_client.iter().max_by_key(|(_, of)| of.len).map(|(client, of)| (*client, of.len)) {
                Some((greedy, len)) if len > own + 1 => dropped = self.drop_newest(greedy),
                _ => return Pushed::Full,
            }
        }
        let of_client = self.of_client.entry(client).or_insert_with(|| {
            self.turns.push_back(client);
            OfClient { users: VecDeque::new(), len: 0 }
        });
        match of_client.users.iter_mut().find(|(name, _)| **name == *user) {
            Some((_, items)) => items.push_back(item),
            None => of_client.users.push_back((user.into(), VecDeque::from([item]))),
        }
        of_client.len += 1;
        self.len += 1;
        dropped.map_or(Pushed::Waits, Pushed::Instead)
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let client = self.turns.pop_front()?;
        let of_client = self.of_client.get_mut(&client)?;
        let (user, mut items) = of_client.users.pop_front()?;
        let item = items.pop_front();
        if !items.is_empty() {
            of_client.users.push_back((user, items));
        }
        self.took_one(client);
        if self.of_client.contains_key(&client) {
            self.turns.push_back(client);
        }
        item
    }

    /// Takes the newest of a client's user who came last.
    fn drop_newest(&mut self, client: Client) -> Option<T> {
        let of_client = self.of_client.get_mut(&client)?;
        let (_, items) = of_client.users.back_mut()?;
        let item = items.pop_back();
        if items.is_empty() {
            of_client.users.pop_back();
        }
        self.took_one(client);
        if !self.of_client.contains_key(&client) {
            self.turns.retain(|turn| *turn != client);
        }
        item
    }

    fn took_one(&mut self, client: Client) {
        self.len -= 1;
        if let Some(of_client) = self.of_client.get_mut(&client) {
            of_client.len -= 1;
            if of_client.len == 0 {
                self.of_client.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(last: u8) -> Client {
        IpAddr::from([10, 0, 0, last]).into()
    }

    fn drain<T>(queue: &mut Queue<T>) -> Vec<T> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn clients_take_turns_and_so_do_their_users() {
        let mut queue = Queue::new();
        for n in 0..4 {
            queue.push(client(1), "ana", format!("1 ana {n}"));
        }
        queue.push(client(1), "bob", "1 bob".to_owned());
        queue.push(client(2), "ana", "2 ana".to_owned());
        assert_eq!(drain(&mut queue), ["1 ana 0", "2 ana", "1 bob", "1 ana 1", "1 ana 2", "1 ana 3"]);
        assert_eq!(queue.len(), 0);
        queue.push(client(1), "ana", "again".to_owned());
        assert_eq!(drain(&mut queue), ["again"]);
    }

    #[test]
    fn one_client_cannot_fill_it() {
        let mut queue = Queue::new();
        for n in 0..MOST_OF_CLIENT {
            assert!(matches!(queue.push(client(1), &n.to_string(), n), Pushed::Waits));
        }
        assert!(matches!(queue.push(client(1), "more", 0), Pushed::Full));
        assert!(matches!(queue.push(client(2), "more", 0), Pushed::Waits));
    }

    #[test]
    fn in_a_full_queue_the_greediest_makes_room() {
        let mut queue = Queue::new();
        for n in 0..MOST {
            let from = client(u8::try_from(n / MOST_OF_CLIENT).unwrap());
            assert!(matches!(queue.push(from, "ana", n), Pushed::Waits));
        }
        assert!(matches!(queue.push(client(99), "bob", 9999), Pushed::Instead(_)));
        assert_eq!(queue.len(), MOST);
        let order = drain(&mut queue);
        assert_eq!(order.len(), MOST);
        assert_eq!(order.iter().position(|n| *n == 9999), Some(MOST / MOST_OF_CLIENT), "it waits for one of each");
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let of = |text: &str| Client::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
