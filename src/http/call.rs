//! Holds a request on its way to its handler.

use std::{borrow::Cow, sync::Arc};

use http::request::Parts;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    auth::Caller,
    clock::Clock,
    decisions::Decisions,
    limits::{Busy, Slot},
    peer::Peer,
    request_body::RequestBody,
    service::Service,
    shares::Holder,
    transfer::Transfer,
};
use crate::{oci::Name, registry::Actor, snapshot::Snapshot, telemetry::RequestId};

/// A request on its way to its handler.
pub(super) struct Call<'a> {
    pub(super) service: &'a Service,
    pub(super) snapshot: &'a Snapshot,
    pub(super) peer: &'a Peer,
    pub(super) parts: Parts,
    pub(super) body: RequestBody,
    pub(super) clock: Clock,
    pub(super) holder: Arc<Holder>,
    pub(super) caller: Caller,
    pub(super) decisions: Decisions,
    pub(super) request_id: RequestId,
}

impl Call<'_> {
    /// Returns a header's value, if there is one of visible characters.
    pub(super) fn header(&self, name: http::HeaderName) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// Gives the slot back for the time of questions to upstreams, which may be slow, and takes a place among the
    /// transfers instead.
    pub(super) fn wait_for_upstream(&self, slot: &Slot) -> Result<Transfer, Busy> {
        let transfer = self.service.limits.transfer(&self.holder)?;
        slot.release();
        Ok(transfer)
    }

    /// Returns the identity and the request id, for the records that the request writes.
    pub(super) fn by(&self) -> Actor {
        Actor { identity: self.caller.identity.to_string(), request: self.request_id.as_str().to_owned() }
    }

    /// Returns a repository's name as the client knows it.
    pub(super) fn shown<'n>(&'n self, name: &'n Name) -> &'n Name {
        let asked = self.caller.asked.as_ref().filter(|asked| asked.means == *name);
        asked.map_or(name, |asked| &asked.name)
    }

    /// Returns the end of a query that names the registry that the client named.
    pub(super) fn asked_registry(&self) -> Cow<'static, str> {
        match self.caller.asked.as_ref().and_then(|asked| asked.host.as_deref()) {
            Some(host) => format!("&ns={}", utf8_percent_encode(host, NON_ALPHANUMERIC)).into(),
            None => "".into(),
        }
    }
}
