//! What the tests stand on: a server of their own, a client that can misbehave, an S3 server that can fail, and images to push.

pub(crate) mod client;
pub(crate) mod content;
pub(crate) mod repo;
pub(crate) mod s3;
pub(crate) mod server;

/// Runs each named function once for each backend, as `directory::<name>` and `s3::<name>`.
///
/// `on_each_backend!(shared: a, b)` gives them a [`repo::Repo`] of their own on a server that all tests share;
/// `on_each_backend!(own: c, d)` gives them a [`server::Backend`], to start a server of their own.
macro_rules! on_each_backend {
    (shared: $($name:ident),+ $(,)?) => {
        mod directory {
            $(#[test] fn $name() { super::$name(&$crate::support::server::shared_repo($crate::support::server::Backend::Directory, stringify!($name))); })+
        }
        mod s3 {
            $(#[test] fn $name() { super::$name(&$crate::support::server::shared_repo($crate::support::server::Backend::S3, stringify!($name))); })+
        }
    };
    (own: $($name:ident),+ $(,)?) => {
        mod directory {
            $(#[test] fn $name() { super::$name($crate::support::server::Backend::Directory); })+
        }
        mod s3 {
            $(#[test] fn $name() { super::$name($crate::support::server::Backend::S3); })+
        }
    };
}
pub(crate) use on_each_backend;
