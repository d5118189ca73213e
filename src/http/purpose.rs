//! Names the purpose of an address that the server listens at.

/// The purpose of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The registry.
    Main,
    /// Health or metrics alone, over plain HTTP.
    Side {
        /// The address answers `/healthz` and `/readyz`.
        health: bool,
        /// The address answers `/metrics`.
        metrics: bool,
    },
}

impl Purpose {
    /// Returns the word for the address in policies, `request.listener`.
    pub(super) const fn listener(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Side { .. } => "side",
        }
    }
}
