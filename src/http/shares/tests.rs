use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn client(last: u8) -> Client {
    std::net::IpAddr::from([10, 0, 0, last]).into()
}

fn holder(last: u8) -> Holder {
    Holder { client: client(last), ends: Some((Arc::default(), Arc::default())) }
}

fn is_cut(holder: &Holder) -> bool {
    holder.ends.as_ref().unwrap().1.is_made()
}

fn pool(size: usize) -> (Arc<Pool>, Arc<AtomicUsize>) {
    let lost = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lost);
    let pool = Pool::new(size, 2, 1024, move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    (pool, lost)
}

#[test]
fn one_client_may_hold_everything_until_another_asks() {
    let (pool, lost) = pool(4);
    let greedy: Vec<_> = (0..4).map(|_| holder(1)).collect();
    let shares: Vec<_> = greedy.iter().map(|holder| pool.take(holder, 1).unwrap()).collect();
    assert!(pool.take(&holder(1), 1).is_none(), "its own shares are not taken from it");
    let others: Vec<_> = (0..2).map(|_| pool.take(&holder(2), 1).unwrap()).collect();
    assert_eq!((greedy.iter().filter(|holder| is_cut(holder)).count(), lost.load(Ordering::Relaxed)), (2, 2));
    assert!(pool.take(&holder(2), 1).is_none(), "both hold two");
    // with a third client each has one at least
    let third = pool.take(&holder(3), 1).unwrap();
    drop((shares, others, third));
    let all: Vec<_> = (0..4).map(|_| pool.take(&holder(9), 1).unwrap()).collect();
    assert_eq!(all.len(), 4, "all came back once");
}

#[test]
fn the_slowest_share_is_given_up() {
    let (pool, _) = pool(3);
    let holders = [holder(1), holder(1), holder(1)];
    for (place, holder) in holders.iter().enumerate() {
        let (pace, _) = holder.ends.as_ref().unwrap();
        pace.moved(if place == 1 { 0 } else { 1 << 30 });
    }
    let _shares = holders.each_ref().map(|holder| pool.take(holder, 1).unwrap());
    let _other = pool.take(&holder(2), 1).unwrap();
    assert_eq!(holders.each_ref().map(is_cut), [false, true, false]);
}

#[test]
fn memory_is_shared_by_weight() {
    let (pool, _) = pool(100);
    let large: Vec<_> = (0..5).map(|_| (holder(1), 20)).collect();
    let _large: Vec<_> = large.iter().map(|(holder, weight)| pool.take(holder, *weight).unwrap()).collect();
    let _small = pool.take(&holder(2), 30).unwrap();
    assert_eq!(large.iter().filter(|(holder, _)| is_cut(holder)).count(), 2);
    assert!(pool.take(&holder(2), 40).is_none(), "then it would hold more than the other");
}

#[tokio::test]
async fn the_waiting_client_that_holds_least_is_next_and_a_full_queue_is_shared() {
    let (pool, _) = pool(2);
    let working = |last| Holder { client: client(last), ends: None };
    let wait = |last| {
        let (pool, holder) = (Arc::clone(&pool), working(last));
        tokio::spawn(async move { pool.wait(&holder, 1, Some(Duration::from_mins(1))).await })
    };
    let held = [pool.take(&working(1), 1).unwrap(), pool.take(&working(1), 1).unwrap()];
    let waiting = async |number| {
        while pool.lock().waiting < number {
            tokio::task::yield_now().await;
        }
    };
    let first = wait(1);
    waiting(1).await;
    let second = wait(1);
    waiting(2).await;
    // the queue has two places
    let other = wait(2);
    assert_eq!(second.await.unwrap().err(), Some(Refused::QueueFull));
    waiting(2).await;
    assert_eq!(pool.wait(&working(1), 1, Some(Duration::from_mins(1))).await.err(), Some(Refused::QueueFull));
    let [one, two] = held;
    drop(one);
    let _of_other = other.await.unwrap().unwrap();
    drop(two);
    let _of_first = first.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_waiter_that_leaves_keeps_nothing() {
    let (pool, _) = pool(1);
    let working = Holder { client: client(1), ends: None };
    let held = pool.take(&working, 1).unwrap();
    assert_eq!(pool.wait(&working, 1, Some(Duration::ZERO)).await.err(), Some(Refused::TooLong));
    assert_eq!(pool.lock().waiting, 0);
    drop(held);
    pool.emptied().await;
    assert!(pool.lock().clients.is_empty());
}

#[test]
fn a_share_that_comes_back_before_the_waiter_is_in_the_queue_is_its() {
    let (pool, _) = pool(1);
    let working = Holder { client: client(1), ends: None };
    let held = pool.take(&working, 1).unwrap();
    assert!(pool.take(&working, 1).is_none());
    drop(held);
    let (_waiting, mut receiver) = pool.enqueue(&working, 1, 2).unwrap();
    assert!(receiver.try_recv().is_ok(), "no other share comes back that could wake it");
}

#[test]
fn a_waiter_that_leaves_lets_those_behind_it_take_the_room() {
    let (pool, _) = pool(100);
    let working = |last| Holder { client: client(last), ends: None };
    let _held = pool.take(&working(1), 60).unwrap();
    let (large, _receiver) = pool.enqueue(&working(2), 50, 2).unwrap();
    let (_small, mut receiver) = pool.enqueue(&working(3), 40, 2).unwrap();
    assert!(receiver.try_recv().is_err(), "the large one was first");
    drop(large);
    assert_eq!(receiver.try_recv().map(|share| share.held.weight).ok(), Some(40));
}

#[test]
fn no_share_is_given_up_for_room_that_is_still_too_little() {
    let (pool, lost) = pool(8);
    let (greedy, fixed) = (holder(1), Holder { client: client(2), ends: None });
    let shares = [pool.take(&greedy, 4).unwrap(), pool.take(&fixed, 4).unwrap()];
    assert!(pool.take(&holder(3), 6).is_none(), "only four can be given up");
    assert_eq!((is_cut(&greedy), lost.load(Ordering::Relaxed)), (false, 0));
    drop(shares);
    assert!(pool.take(&holder(9), 8).is_some(), "all came back once");
}

#[tokio::test]
async fn a_waiter_asks_again_whether_another_client_has_become_slow() {
    let (pool, lost) = pool(4);
    let others = [holder(1), holder(2)];
    let _shares = others.each_ref().map(|holder| pool.take(holder, 2).unwrap());
    let waiting = {
        let pool = Arc::clone(&pool);
        tokio::spawn(async move { pool.wait(&holder(3), 2, Some(Duration::from_mins(2))).await })
    };
    while pool.lock().waiting == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lost.load(Ordering::Relaxed), 0, "nobody holds more than its part, and nobody is slow");
    others[1].ends.as_ref().unwrap().0.slow_down();
    assert!(waiting.await.unwrap().is_ok());
    assert_eq!((others.each_ref().map(is_cut), lost.load(Ordering::Relaxed)), ([false, true], 1));
}
