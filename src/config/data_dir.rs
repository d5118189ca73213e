//! The configuration without a file.

use std::path::Path;

use secrecy::SecretString;

use super::model::{AccessPolicy, Config, FsStorage, Identity, ImmutableTags, Repository, Storage, Token};
use crate::diagnostics::Text;

/// The id, username and group of the one identity.
const ADMIN: &str = "admin";

/// The login of a server without a configuration file.
#[derive(Debug, Clone)]
pub enum Login {
    /// Nobody, and everyone may do everything.
    None,
    /// `admin` alone, who may do everything.
    Admin {
        /// A hash of the password, as `[identity.<id>] password` has it.
        hash: SecretString,
        /// True: nobody else may do anything. Otherwise everyone may pull, and list the tags of a repository.
        private: bool,
    },
}

impl Config {
    /// Returns the configuration of `server --data-dir <dir>`: plain HTTP on 127.0.0.1:5000, everything stored in
    /// `dir`, the key of tokens too, and no policy file read. Without a login it equals the project's `config.toml`;
    /// with a login, its policies give the rights.
    #[must_use]
    pub fn for_data_dir(dir: &Path, login: Login) -> Self {
        let defaults = Self::default();
        let token = Token { signing_key: dir.join("token.key"), ..defaults.token };
        let storage = Storage::Fs(FsStorage { root_dir: dir.to_owned(), ..FsStorage::default() });
        let mut config = Self { storage, token, policy_dir: None, ..defaults };
        let (all, repositories) = match login {
            Login::None => (open(), open()),
            Login::Admin { hash, private } => {
                let admin = Identity { username: ADMIN.to_owned(), password: hash, groups: vec![ADMIN.to_owned()] };
                config.identity.insert(ADMIN.to_owned(), admin);
                let anyone: &[&str] =
                    if private { &[] } else { &["request.access == 'pull'", "request.action == 'list-tags'"] };
                (rules(&["identity.id == 'admin'"]), rules(anyone))
            }
        };
        config.access_policy = all;
        let everywhere = Repository {
            access_policy: Some(repositories),
            retention_rules: Some(Vec::new()),
            immutable_tags: Some(ImmutableTags::None),
            allow_delete: Some(false),
            ..Repository::default()
        };
        config.repository = [("*".to_owned(), everywhere)].into();
        config
    }
}

fn open() -> AccessPolicy {
    AccessPolicy { default_allow: Some(true), rules: Vec::new() }
}

/// Returns a policy that allows what any of these rules allows, and nothing else.
fn rules(texts: &[&str]) -> AccessPolicy {
    let place = |text: &&str| Text::unwritten("--admin-password-file", text);
    AccessPolicy { default_allow: Some(false), rules: texts.iter().map(place).collect() }
}
