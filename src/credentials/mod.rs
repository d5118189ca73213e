//! Verifies passwords and tokens. `tls` verifies certificates.
//!
//! | file | content |
//! | --- | --- |
//! | `hash` | hashes of passwords |
//! | `accounts` | the accounts of the configuration |
//! | `logins` | verification of passwords, off the async threads, with a memory |
//! | `hashing`, `job` | the hashing of a password in spare time |
//! | `queue` | the order of verification, fair between clients |
//! | `key_file` | the key that signs tokens |
//! | `signer` | making and verifying tokens |
//! | `scopes` | the limits of a token's use |
//! | `header` | the `Authorization` header |

mod accounts;
mod hash;
mod hashing;
mod header;
mod job;
mod key_file;
mod logins;

mod queue;
mod scopes;
mod signer;

pub use accounts::{Account, Accounts, AccountsError};
pub use hash::{HashError, LONGEST_PASSWORD, hash_password};
pub use header::{Authorization, AuthorizationError, parse_authorization};
pub use key_file::KeyError;
pub use logins::{LoginError, Logins};
pub use scopes::{ScopeError, Scopes, scope_needed};
pub use signer::{Claims, Signer, TokenError};
