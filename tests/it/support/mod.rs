//! Support for the tests: a server of their own, a client that can misbehave, an S3 server that can fail, and images.

pub(crate) mod access;
pub(crate) mod client;
pub(crate) mod content;
pub(crate) mod repo;
pub(crate) mod s3;
pub(crate) mod server;
mod stream;

/// Runs each named function once for each backend, as `directory::<name>` and `s3::<name>`.
///
/// Those after `shared:` get a [`repo::Repo`] of their own on a server that all tests share; those after `own:` get a
/// [`server::Backend`], to start a server of their own. A function that is not named here is dead code, which the lints tell.
macro_rules! on_each_backend {
    ($(shared: $($shared:ident),+ $(,)?)? $(;)? $(own: $($own:ident),+ $(,)?)?) => {
        mod directory {
            #[allow(unused_imports, reason = "a file may have tests of one kind alone")]
            use $crate::support::server::{Backend, shared_repo};
            $($(#[test] fn $shared() { super::$shared(&shared_repo(Backend::Directory, stringify!($shared))); })+)?
            $($(#[test] fn $own() { super::$own(Backend::Directory); })+)?
        }
        mod s3 {
            #[allow(unused_imports, reason = "a file may have tests of one kind alone")]
            use $crate::support::server::{Backend, shared_repo};
            $($(#[test] fn $shared() { super::$shared(&shared_repo(Backend::S3, stringify!($shared))); })+)?
            $($(#[test] fn $own() { super::$own(Backend::S3); })+)?
        }
    };
}
pub(crate) use on_each_backend;
