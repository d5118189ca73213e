//! Passwords, verified: right, wrong, once, in turn, and under a flood.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use simple_registry::config::Identity;
use simple_registry::credentials::{Accounts, LoginError, Logins, hash_password};
use simple_registry::memory::Memory;

use super::{accounts, identity, quick_hash};
use crate::support::MACHINE;

fn logins() -> Logins {
    Logins::new(&Memory::new(1 << 20))
}

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// Verifies as a client at 127.0.0.1; the username, or why not.
async fn try_login(
    logins: &Logins,
    accounts: &Arc<Accounts>,
    username: &str,
    password: &str,
) -> Result<String, LoginError> {
    logins.verify(accounts, HERE, username, password).await.map(|user| user.username.clone())
}

#[tokio::test]
async fn the_right_password_is_the_users() {
    let _turn = MACHINE.lock().await;
    let logins = logins();
    let accounts = accounts(&[("ana", &quick_hash("correct horse")), ("bob", &quick_hash("staple"))]);
    assert_eq!(try_login(&logins, &accounts, "ana", "correct horse").await, Ok("ana".to_owned()));
    assert_eq!(try_login(&logins, &accounts, "bob", "staple").await, Ok("bob".to_owned()));
    let wrong =
        [("ana", "staple"), ("ana", ""), ("ana", "correct horse "), ("Ana", "correct horse"), ("", ""), ("eve", "x")];
    for (username, password) in wrong {
        assert_eq!(try_login(&logins, &accounts, username, password).await, Err(LoginError::Wrong), "{username}");
    }
    // what is remembered of one is not of another
    assert_eq!(try_login(&logins, &accounts, "bob", "correct horse").await, Err(LoginError::Wrong));
    assert_eq!(try_login(&logins, &super::accounts(&[]), "ana", "correct horse").await, Err(LoginError::Wrong));
}

/// Hashes by other implementations: the argon2 of its authors, and `crypt_blowfish`.
#[tokio::test]
async fn hashes_made_elsewhere_are_verified() {
    let _turn = MACHINE.lock().await;
    let accounts = accounts(&[
        ("argon2", "$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG"),
        ("2a", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
        ("2y", "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
        ("own", &hash_password("password").unwrap()),
    ]);
    let logins = logins();
    for (username, password) in [("argon2", "password"), ("2a", "U*U"), ("2y", "U*U"), ("own", "password")] {
        assert_eq!(try_login(&logins, &accounts, username, password).await, Ok(username.to_owned()));
        assert_eq!(try_login(&logins, &accounts, username, "other").await, Err(LoginError::Wrong), "{username}");
    }
}

#[tokio::test]
async fn bcrypt_sees_no_more_than_72_bytes_so_longer_is_wrong() {
    let _turn = MACHINE.lock().await;
    let longest = "a".repeat(72);
    let accounts = accounts(&[("ana", &bcrypt::hash(&longest, 4).unwrap())]);
    let logins = logins();
    assert!(try_login(&logins, &accounts, "ana", &longest).await.is_ok());
    assert_eq!(try_login(&logins, &accounts, "ana", &format!("{longest}b")).await, Err(LoginError::Wrong));
}

#[tokio::test]
async fn a_password_of_megabytes_costs_nothing() {
    let _turn = MACHINE.lock().await;
    let accounts = accounts(&[("ana", &quick_hash("a"))]);
    let logins = logins();
    let huge = "a".repeat(1 << 20);
    assert_eq!(try_login(&logins, &accounts, "ana", &huge).await, Err(LoginError::Wrong));
    assert_eq!(try_login(&logins, &accounts, &huge, "a").await, Err(LoginError::Wrong));
    assert_eq!(logins.verifications(), 0);
}

#[tokio::test]
async fn a_credential_is_verified_once() {
    let _turn = MACHINE.lock().await;
    let accounts = accounts(&[("ana", &hash_password("a").unwrap())]);
    let logins = logins();
    let at_once = join_all((0..100).map(|_| try_login(&logins, &accounts, "ana", "a"))).await;
    assert!(at_once.iter().all(Result::is_ok), "{at_once:?}");
    for _ in 0..1000 {
        try_login(&logins, &accounts, "ana", "a").await.unwrap();
    }
    assert_eq!(logins.verifications(), 1);
    let at_once = join_all((0..100).map(|_| try_login(&logins, &accounts, "ana", "b"))).await;
    assert!(at_once.iter().all(|one| *one == Err(LoginError::Wrong)), "{at_once:?}");
    assert_eq!(logins.verifications(), 2, "the retries of a client with an old password are one");
}

#[tokio::test]
async fn a_change_of_the_identity_is_seen_at_once() {
    let _turn = MACHINE.lock().await;
    let logins = logins();
    let (old, new) = (quick_hash("old"), quick_hash("new"));
    let with = |identity: Identity| Arc::new(Accounts::new(&[("ana".to_owned(), identity)].into()).unwrap());
    let before = with(identity("ana", &old, &[]));
    assert!(logins.verify(&before, HERE, "ana", "old").await.unwrap().groups.is_empty());
    let in_a_group = with(identity("ana", &old, &["staff"]));
    assert_eq!(logins.verify(&in_a_group, HERE, "ana", "old").await.unwrap().groups, ["staff"]);
    assert_eq!(logins.verifications(), 1, "groups are no part of a password");
    let after = with(identity("ana", &new, &[]));
    assert_eq!(try_login(&logins, &after, "ana", "old").await, Err(LoginError::Wrong));
    assert!(try_login(&logins, &after, "ana", "new").await.is_ok());
    let renamed = with(identity("anna", &new, &[]));
    assert_eq!(try_login(&logins, &renamed, "ana", "new").await, Err(LoginError::Wrong));
    assert!(try_login(&logins, &renamed, "anna", "new").await.is_ok());
    assert_eq!(try_login(&logins, &super::accounts(&[]), "ana", "old").await, Err(LoginError::Wrong));
}

/// A user that is not there takes as long as one that is: as one of the cost that most have.
#[tokio::test]
async fn an_unknown_user_costs_what_a_wrong_password_does() {
    let _turn = MACHINE.lock().await;
    for slow in [bcrypt::hash("a", 9).unwrap(), hash_password("a").unwrap()] {
        let accounts = accounts(&[("ana", &slow), ("bob", &slow), ("odd", &quick_hash("a"))]);
        let logins = logins();
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for n in 0..15 {
            for (username, times) in [("ana", &mut known), ("eve", &mut unknown)] {
                let began = Instant::now();
                assert_eq!(try_login(&logins, &accounts, username, &n.to_string()).await, Err(LoginError::Wrong));
                times.push(began.elapsed());
            }
        }
        assert_eq!(logins.verifications(), 30);
        known.sort();
        unknown.sort();
        let ratio = known[7].as_secs_f64() / unknown[7].as_secs_f64();
        assert!((0.5..2.0).contains(&ratio), "known {known:?} unknown {unknown:?}");
    }
}

/// `policy` in `/proc/<pid>/stat` of a thread that runs in spare time.
const SCHED_IDLE: u32 = 5;

/// Threads of this process that verify passwords, by the policy that they run under.
fn workers() -> Vec<u32> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        // a thread may end while it is looked at
        let Ok(stat) = std::fs::read_to_string(task.unwrap().path().join("stat")) else { continue };
        let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(") ").unwrap();
        if name == "passwords" {
            found.push(rest.split(' ').nth(38).unwrap().parse().unwrap());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_wrong_passwords_keeps_nobody_out() {
    let _turn = MACHINE.lock().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !workers().is_empty() {
        assert!(Instant::now() < deadline, "threads of another test are still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let slow = hash_password("right").unwrap();
    let accounts = accounts(&[("ana", &slow), ("bob", &slow)]);
    let logins = Arc::new(logins());
    try_login(&logins, &accounts, "ana", "right").await.unwrap();
    let flood: Vec<_> = (0..300)
        .map(|n| {
            let (logins, accounts) = (Arc::clone(&logins), Arc::clone(&accounts));
            // the users that are there, and some that are not
            let username = ["ana", "bob", "eve", &n.to_string()][n % 4].to_owned();
            tokio::spawn(async move { logins.verify(&accounts, THERE, &username, &n.to_string()).await.err() })
        })
        .collect();
    let mut refused = 0;
    while refused < 100 {
        assert!(Instant::now() < deadline, "nobody is told that too many wait");
        refused = flood.iter().filter(|one| one.is_finished()).count();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let began = Instant::now();
    for _ in 0..1000 {
        try_login(&logins, &accounts, "ana", "right").await.unwrap();
    }
    let remembered = began.elapsed() / 1000;
    assert!(remembered < Duration::from_millis(1), "who is remembered waits {remembered:?}");
    let before = logins.verifications();
    try_login(&logins, &accounts, "bob", "right").await.unwrap();
    let turns = logins.verifications() - before;
    assert!(turns <= 5, "somebody elsewhere had to wait for {turns} others");

    let threads = workers();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(!threads.is_empty() && threads.len() <= (cores / 2).max(1), "{threads:?} on {cores} cores");
    assert!(threads.iter().all(|policy| *policy == SCHED_IDLE), "{threads:?}");

    for one in &flood {
        one.abort();
    }
    // those that were answered before that
    let mut answers = join_all(flood).await.into_iter().filter_map(Result::ok);
    assert!(answers.all(|answer| matches!(answer, Some(LoginError::Wrong | LoginError::Busy))));
}

#[tokio::test]
async fn who_goes_away_is_not_verified() {
    let _turn = MACHINE.lock().await;
    let accounts = accounts(&[("ana", &hash_password("right").unwrap())]);
    let logins = Arc::new(logins());
    let gone: Vec<_> = (0..100)
        .map(|n| {
            let (logins, accounts) = (Arc::clone(&logins), Arc::clone(&accounts));
            tokio::spawn(async move { logins.verify(&accounts, HERE, "ana", &n.to_string()).await.err() })
        })
        .collect();
    tokio::task::yield_now().await;
    for one in &gone {
        one.abort();
    }
    for one in gone {
        let _ = one.await; // aborted, or answered before that
    }
    try_login(&logins, &accounts, "ana", "right").await.unwrap();
    assert!(logins.verifications() < 20, "{} of those who went were verified", logins.verifications());
}

/// A machine without a moment to spare: threads that never rest, two for each core.
///
/// More of them would take so much from the driver that a login on a slow machine meets the limit of its wait.
struct Busy(Arc<AtomicBool>, Vec<std::thread::JoinHandle<()>>);

impl Busy {
    fn new() -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let cores = std::thread::available_parallelism().unwrap().get();
        let burn = |goes_on: Arc<AtomicBool>| {
            move || {
                while goes_on.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let threads = (0..2 * cores).map(|_| std::thread::spawn(burn(Arc::clone(&goes_on)))).collect();
        Self(goes_on, threads)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
        for thread in self.1.drain(..) {
            thread.join().unwrap();
        }
    }
}

#[tokio::test]
async fn people_log_in_to_a_machine_that_is_busy() {
    let _turn = MACHINE.lock().await;
    let hash = hash_password("right").unwrap();
    let accounts = accounts(&[("ana", &hash), ("bob", &hash)]);
    let logins = logins();
    let _busy = Busy::new();
    // the one that a worker is stuck in, and the next
    let (ana, bob) =
        tokio::join!(try_login(&logins, &accounts, "ana", "right"), try_login(&logins, &accounts, "bob", "wrong"));
    assert_eq!((ana, bob), (Ok("ana".to_owned()), Err(LoginError::Wrong)));
}
