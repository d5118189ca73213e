//! What runs in spare time.

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
