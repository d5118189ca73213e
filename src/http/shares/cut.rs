//! Ends a connection of HTTP/1.1, or a stream of HTTP/2, from outside.
//!
//! Nothing polls the body of an answer while its client reads nothing. So a cut drops the task that serves the client.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

tokio::task_local! {
    static CUT: Arc<Cut>;
}

/// Ends the work of one task, once.
#[derive(Debug, Default)]
pub(in crate::http) struct Cut {
    is_made: AtomicBool,
    made: Notify,
}

impl Cut {
    /// Runs `work` until it ends, or until this cut is made.
    pub(in crate::http) async fn scope<T>(self: Arc<Self>, work: impl Future<Output = T>) -> Option<T> {
        CUT.scope(Arc::clone(&self), async {
            tokio::select! {
                biased;
                () = self.made.notified() => None,
                done = work => Some(done),
            }
        })
        .await
    }

    /// Returns the cut of the running task.
    pub(in crate::http) fn current() -> Arc<Self> {
        CUT.try_with(Arc::clone).unwrap_or_default()
    }

    /// Ends the work.
    pub(in crate::http) fn make(&self) {
        self.is_made.store(true, Ordering::Relaxed);
        self.made.notify_one();
    }

    /// Returns true if the work was ended.
    pub(in crate::http) fn is_made(&self) -> bool {
        self.is_made.load(Ordering::Relaxed)
    }
}

/// Runs each stream of HTTP/2 as a task with a cut of its own.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Streams;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let stream: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(stream);
        tokio::spawn(Arc::new(Cut::default()).scope(stream));
    }
}
