//! Lowers a thread's own priority, and measures its processor time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The nice value of the lowest priority above spare time.
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;

/// Makes this thread, and those that it starts later, run only while no other thread wants the core.
///
/// On Linux such a thread gives up its core at once to any thread that wakes up (`SCHED_IDLE`, sched(7)). A merely nice
/// thread keeps its core for some milliseconds first, which delays the slowest answers of others. A thread cannot
/// return from spare time. Of cores that are never idle, it gets about a thousandth.
///
/// If the system refuses, this logs a warning and the thread becomes nice instead. On other systems nothing changes.
pub fn only_spare_time() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
            // on Linux the "process" of this call is the thread: setpriority(2), "C library/kernel differences"
            let nice = rustix::process::setpriority_process(None, LOWEST);
            tracing::warn!(?error, is_nice = nice.is_ok(), "the system refuses a thread that runs in spare time alone");
        }
    }
}

/// Returns the processor time of this thread.
#[must_use]
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
