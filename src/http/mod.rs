//! Serves the distribution API over HTTP: connections, requests and answers.
//!
//! A request goes from `connection` to `request` (id, clock, record), `Action::parse`, `auth` (the caller), `authorize`
//! (`Policy::authorize`), `dispatch`, and one handler. A handler turns values into headers and back; `registry` does the
//! work, and `failure` maps its errors.

mod auth;
mod authorize;
mod blobs;
mod body;
mod browser;
mod call;
mod clock;
mod connection;
mod decisions;
mod dispatch;
mod endpoint;
mod failure;
mod forwarded;
mod framing;
mod from_cache;
mod headers;
mod health;
mod limits;
mod lists;
mod manifests;
mod mirrored;
mod open_uploads;
mod options;
mod peer;
mod purpose;
mod read_only;
mod readiness;
mod record;
mod request;
mod request_body;
mod second_decision;
mod service;
mod shares;
mod stream;
mod tag_decisions;
mod token;
mod told;
mod transfer;
mod troubles;
mod uploads;

pub use self::{
    connection::{Listeners, serve},
    open_uploads::UploadBounds,
    options::Options,
    purpose::Purpose,
    service::Service,
};
