//! Lowers a thread's own priority, and measures its time on a core.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The lowest priority that is no spare time.
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;

/// Lets this thread, and those that it starts from now on, run only while no other thread wants its core.
///
/// On Linux such a thread gives its core up at once to any thread that wakes up (`SCHED_IDLE`, sched(7)). A merely nice
/// thread keeps its core for some milliseconds first, which others see in their slowest answers. A thread cannot return
/// from spare time. Of cores that are never idle, it gets some thousandth. Where the system refuses, the thread becomes
/// nice instead; on other systems nothing changes.
pub fn only_spare_time() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
            // for Linux a "process" is a thread here: setpriority(2), "C library/kernel differences"
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
