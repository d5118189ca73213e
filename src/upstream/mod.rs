//! A client of other registries, for repositories that are caches.
//!
//! It knows no store and decides nothing about what is kept. It asks upstreams in order, logs in, follows redirects, and
//! returns answers that were checked as far as their kind allows: a manifest by its digest, media type and form. The bytes
//! of a blob come as a stream, which its reader hashes.
//!
//! An answer leads to no place that the configuration does not name, unless everybody could go there: see `addresses.rs`
//! for connections, and `login.rs` for credentials.

mod addresses;
mod answers;
mod base;
mod cached;
mod failure;
mod health;
mod login;
mod read;
mod rests;
mod settings;
mod source;
mod streams;
mod upstreams;

pub use self::{
    answers::{BlobStream, ByteStream, Described, FetchedManifest, Room, TagPage},
    base::{Base, BaseError},
    cached::{Cached, CachedNamespace, CachedNamespaces},
    failure::{Kind, Reason, Unanswered},
    login::Credentials,
    settings::{ClientIdentity, Settings, Unusable},
    source::Upstream,
    upstreams::{Answer, Upstreams},
};
