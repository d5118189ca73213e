//! What proves who somebody is: passwords and tokens. (Certificates are proved by `tls`.)
//!
//! | file | what is in it |
//! | --- | --- |
//! | `hash` | hashes of passwords: made, read, verified |
//! | `accounts` | who can log in, as the configuration says |
//! | `logins` | passwords verified once, off the async threads, and remembered for a while |
//! | `queue` | whose password is verified next, so that a flood of wrong ones keeps nobody out |
//! | `key_file` | the key that tokens are signed with |
//! | `signer` | tokens made and verified |
//! | `scopes` | what a token may be used for |
//! | `header` | the `Authorization` header |

mod accounts;
mod hash;
mod hashing;
mod header;
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
