//! Verifies passwords and tokens. (`tls` verifies certificates.)
//!
//! | file | what is in it |
//! | --- | --- |
//! | `hash` | hashes of passwords: made, read, verified |
//! | `accounts` | the accounts of the configuration |
//! | `logins` | passwords verified once, off the async threads, and remembered for a while |
//! | `queue` | the order of verification, so that a flood of wrong passwords keeps nobody out |
//! | `key_file` | the key that signs tokens |
//! | `signer` | tokens made and verified |
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
