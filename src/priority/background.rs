//! Runs work in the background: in spare time, and without spare time at the usual priority with a small share of a
//! core.
//!
//! A thread in spare time gives up its core at once. Of cores that are never idle it gets about a thousandth, so work
//! there would not end. Other work slows down all the same, since it shares memory and caches with the background. So
//! the background work is cut into small pieces with rests in between:
//!
//! - A thread at the usual priority drives the work. It only hands out pieces of about a tenth of a millisecond each.
//! - Pieces run in a pool of threads in spare time, as long as spare time is not starved.
//! - A probe at the usual priority makes a small read every few milliseconds. If the slow reads take much longer than
//!   usual, the share of the work shrinks. The probe also measures how long a piece takes in spare time.
//! - If spare time is starved, pieces run at the usual priority, with a twentieth of a core. Work gets this share in
//!   any case.

use std::{
    cell::RefCell,
    fs::File,
    future::{Future, poll_fn},
    io,
    os::unix::fs::FileExt as _,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc},
    task::{Context, Poll, ready},
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime, task::JoinHandle};

use super::{
    share::{LATE, Share},
    thread::{only_spare_time, thread_time},
};

/// The time between two reads of the probe.
const EVERY: Duration = Duration::from_millis(5);
/// The bytes that the probe reads, from a file that is always in the page cache.
const READ: usize = 4096;
/// The processor time of a piece that the probe hands to a thread in spare time.
///
/// A much shorter piece would get through where work does not: the scheduler soon starts a thread that has had almost
/// no time. A longer piece would delay the end of the process, whose last thread needs a core to end.
const PIECE: Duration = Duration::from_micros(250);
/// The reads between two such pieces while there is spare time.
const PAUSE: u32 = 20;
/// The reads between two such pieces after a late one.
const PAUSE_AFTER_LATE: u32 = 200;
/// The shortest rest. Timers are not finer than a millisecond.
const LEAST: Duration = Duration::from_millis(2);

/// A driver of background work, with threads that live as long as this value.
pub struct Background {
    shared: Arc<Shared>,
    pool: Option<runtime::Runtime>,
}

#[derive(Debug)]
struct Shared {
    spare: runtime::Handle,
    account: Mutex<Account>,
}

/// The measurements, and the processor time of the work since its last rest.
#[derive(Debug)]
struct Account {
    share: Share,
    worked: Duration,
    since: Instant,
}

thread_local! {
    /// The background work that this thread is driving.
    static DRIVEN: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

impl Background {
    /// Starts the threads. The calling thread must have the usual priority.
    pub fn start() -> io::Result<Self> {
        let mut pool = runtime::Builder::new_current_thread();
        let pool = pool.thread_name("spare").on_thread_start(only_spare_time).build()?;
        let account = Account { share: Share::default(), worked: Duration::ZERO, since: Instant::now() };
        let shared = Arc::new(Shared { spare: pool.handle().clone(), account: Mutex::new(account) });
        // without such a file the probe makes no reads; the other measurements remain
        probe(&shared, std::env::current_exe().and_then(File::open).ok())?;
        Ok(Self { shared, pool: Some(pool) })
    }

    /// Drives work to its end, with rests between its pieces.
    pub async fn drive<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let mut rest: Option<Pin<Box<tokio::time::Sleep>>> = None;
        poll_fn(move |context| {
            if let Some(resting) = &mut rest {
                ready!(resting.as_mut().poll(context));
                rest = None;
                self.shared.account().begin();
            }
            let polled = self.poll(work.as_mut(), context);
            if polled.is_pending()
                && let Some(long) = self.shared.account().settle()
            {
                let mut resting = Box::pin(tokio::time::sleep(long));
                if resting.as_mut().poll(context).is_ready() {
                    context.waker().wake_by_ref();
                }
                rest = Some(resting);
            }
            polled
        })
        .await
    }

    fn poll<F: Future>(&self, work: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
        let before = DRIVEN.replace(Some(Arc::clone(&self.shared)));
        let had = thread_time();
        let polled = work.poll(context);
        self.shared.account().worked += thread_time().saturating_sub(had);
        DRIVEN.set(before);
        polled
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Background {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Background").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Shared {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn begin(&mut self) {
        (self.worked, self.since) = (Duration::ZERO, Instant::now());
    }

    /// Returns the length of the rest that is due now, if that is worth a timer.
    fn settle(&mut self) -> Option<Duration> {
        let rest = self.share.rest(self.since.elapsed(), self.worked);
        if rest.is_zero() {
            // time spent waiting earns no right to more work later
            self.begin();
        }
        (rest >= LEAST).then_some(rest)
    }
}

/// Runs a piece of work that may wait for the disk. Background work runs in spare time, unless spare time is starved;
/// other work runs on tokio's blocking pool.
pub fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    spawn(work, false)
}

/// Runs a piece of work that only computes, as [`spawn_blocking`] does. The time that the piece takes shows whether
/// other threads want the core.
pub fn spawn_computing<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    spawn(work, true)
}

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static, computes: bool) -> JoinHandle<T> {
    let Some(shared) = DRIVEN.with_borrow(Clone::clone) else { return tokio::task::spawn_blocking(work) };
    let starved = shared.account().share.is_starved();
    let spare = shared.spare.clone();
    let piece = move || {
        let (began, had) = (Instant::now(), thread_time());
        let result = work();
        let (wall, core) = (began.elapsed(), thread_time().saturating_sub(had));
        let mut account = shared.account();
        account.worked += core;
        if computes && !starved {
            account.share.worked(wall, core);
        }
        drop(account);
        result
    };
    if starved { tokio::task::spawn_blocking(piece) } else { spare.spawn_blocking(piece) }
}

/// Starts the probe, and the thread in spare time to which the probe hands pieces. Both end with the work.
fn probe(shared: &Arc<Shared>, file: Option<File>) -> io::Result<()> {
    let (pieces, to_do) = mpsc::channel::<()>();
    let (done, dones) = mpsc::channel();
    thread::Builder::new().name("spare-probe".to_owned()).spawn(move || {
        only_spare_time();
        while to_do.recv().is_ok() {
            let had = thread_time();
            while thread_time().saturating_sub(had) < PIECE {
                std::hint::spin_loop();
            }
            if done.send(Instant::now()).is_err() {
                return;
            }
        }
    })?;
    let shared: Weak<Shared> = Arc::downgrade(shared);
    thread::Builder::new().name("probe".to_owned()).spawn(move || {
        let mut buffer = [0; READ];
        let mut handed: Option<Instant> = None;
        let mut pause: u32 = 0;
        while let Some(shared) = shared.upgrade() {
            let at = Instant::now();
            let read = file.as_ref().and_then(|file| file.read_at(&mut buffer, 0).ok()).map(|_| at.elapsed());
            let mut account = shared.account();
            if let Some(took) = read {
                account.share.read(took);
            }
            if let Some(since) = handed {
                match dones.try_recv() {
                    Ok(ended) => {
                        let took = ended.saturating_duration_since(since);
                        account.share.spared(took);
                        handed = None;
                        pause = match (took > LATE, account.share.is_starved()) {
                            (true, _) => PAUSE_AFTER_LATE,
                            (false, true) => 0,
                            (false, false) => PAUSE,
                        };
                    }
                    Err(mpsc::TryRecvError::Empty) if since.elapsed() > LATE => account.share.spared(since.elapsed()),
                    Err(_) => {}
                }
            }
            drop(account);
            drop(shared);
            if handed.is_none() {
                if pause == 0 {
                    if pieces.send(()).is_err() {
                        return;
                    }
                    handed = Some(Instant::now());
                }
                pause = pause.saturating_sub(1);
            }
            thread::sleep(EVERY);
        }
    })?;
    Ok(())
}
