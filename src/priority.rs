//! What runs in spare time, and how much of it there is.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Lets this thread, and those that it starts from now on, run only while no other thread wants its core.
///
/// On Linux it is given up at once to whoever wakes up (`SCHED_IDLE`, sched(7)): a thread that is merely nice keeps its core for
/// some milliseconds first, which others see in their slowest answers. It cannot be taken back. Of cores that are never idle,
/// such a thread gets some thousandth. Elsewhere, and where the system refuses, nothing changes.
pub fn only_spare_time() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
            tracing::debug!(?error, "what was meant for spare time runs at the usual priority");
        }
    }
}

/// The time that this thread has had on a core.
#[must_use]
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
