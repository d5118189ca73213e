//! Builds one immutable, validated view of configuration, policies, accounts and certificates.
//!
//! A [`Snapshot`] is built and checked as a whole, or not at all. A request holds the snapshot that it began under.
//! [`Live`] holds the one in force. Settings that cannot change while the server runs come from the snapshot before.

mod live;
mod sources;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use moka::sync::Cache;
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use self::sources::Hash;
pub use self::{
    live::{Checked, Live, Reload},
    sources::{Sources, policy_files},
};
use crate::{
    config::{ClientAuth, Config, ImmutableRules, Mirrors},
    credentials::{Accounts, AccountsError, KeyError, Signer},
    diagnostics::Problems,
    identity::Certificate,
    memory::Memory,
    policy::Policy,
    tls::{Client, ClientError, Tls, TlsError},
    upstream::CachedNamespaces,
};

/// The most certificates of tokens that one snapshot remembers as verified.
const REMEMBERED_CHAINS: u64 = 10_000;
/// The time for which they are remembered.
const REMEMBERED_FOR: Duration = Duration::from_mins(5);

/// Everything that requests are decided by.
pub struct Snapshot {
    number: u64,
    config: Config,
    immutable: ImmutableRules,
    mirrors: Mirrors,
    policy: Policy,
    accounts: Arc<Accounts>,
    tls: Option<Arc<Tls>>,
    requires_certificate: bool,
    /// A hash of the files behind `tls`, to keep the certificates if nothing changed.
    tls_inputs: Hash,
    signer: Option<Arc<Signer>>,
    caches: CachedNamespaces,
    /// Chains of tokens that were verified under this snapshot, by their hash.
    chains: Cache<Hash, Client>,
    /// A hash of all that this was made of.
    inputs: Hash,
}

/// The reason why the files make no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A configuration file or a policy.
    #[error(transparent)]
    Files(#[from] Problems),
    /// A certificate, a key, an authority, a revocation list.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A password's hash.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// The key that tokens are signed with.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Snapshot {
    /// Builds what `config` and the policy files say, but for what needs a memory; `previous` is the one in force, if there
    /// is one. Writes nothing.
    fn check(config: Config, inputs: Hash, previous: Option<&Self>) -> Result<Self, SnapshotError> {
        let mut config = config;
        if let Some(dir) = &mut config.policy_dir {
            // one that was there and is gone is a fault, not the end of all its rules; an empty one is that
            let was_there = previous.and_then(|previous| previous.config.policy_dir.as_ref());
            dir.must_exist |= was_there.is_some_and(|was| was.path == dir.path && was.must_exist);
            dir.must_exist |= sources::is_there(&dir.path);
        }
        let files = policy_files(&config)?;
        let policy = Policy::build(&config, &files)?;
        let immutable = ImmutableRules::new(&config);
        let mirrors = Mirrors::new(&config);
        let accounts = Arc::new(Accounts::new(&config.identity)?);
        let (tls, tls_inputs) = Self::load_tls(&config, previous)?;
        let requires_certificate = match (&config.server.tls, previous) {
            // carried over whole where the table is gone, which takes a restart
            (None, Some(previous)) => previous.requires_certificate,
            (options, _) => {
                options.as_ref().is_some_and(|tls| tls.client_auth == ClientAuth::Required) && tls.is_some()
            }
        };
        // one key for the life of the process: another file takes a restart
        let signer = previous.and_then(|previous| previous.signer.clone());
        let chains = Cache::builder().max_capacity(REMEMBERED_CHAINS).time_to_live(REMEMBERED_FOR).build();
        let number = previous.map_or(1, |previous| previous.number + 1);
        Ok(Self {
            number,
            config,
            immutable,
            mirrors,
            policy,
            accounts,
            tls,
            requires_certificate,
            tls_inputs,
            signer,
            caches: CachedNamespaces::default(),
            chains,
            inputs,
        })
    }

    /// Adds the upstreams, and the key of tokens. It makes that key if anybody can log in and there is none.
    fn with_memory(mut self, previous: Option<&Self>, memory: &Arc<Memory>) -> Result<Self, SnapshotError> {
        self.caches = CachedNamespaces::load(&self.config, previous.map(|previous| &previous.caches), memory)?;
        let asks = self.tls.as_ref().is_some_and(|tls| tls.asks_for_certificates());
        if self.signer.is_none() && (asks || !self.accounts.is_empty()) {
            self.signer = Some(Arc::new(Signer::load_or_create(&self.config.token.signing_key, memory)?));
        }
        Ok(self)
    }

    /// Loads the certificates. If their files are unchanged, it keeps the previous ones, so that sessions can still
    /// be resumed. The presence of TLS stays as it was at the start.
    fn load_tls(config: &Config, previous: Option<&Self>) -> Result<(Option<Arc<Tls>>, Hash), SnapshotError> {
        let inputs = sources::tls_inputs(config);
        match (previous, &config.server.tls) {
            (Some(previous), Some(_)) if previous.tls.is_none() => Ok((None, inputs)),
            (Some(previous), None) => Ok((previous.tls.clone(), previous.tls_inputs)),
            (Some(previous), Some(_)) if previous.tls_inputs == inputs => Ok((previous.tls.clone(), inputs)),
            (_, Some(options)) => Ok((Some(Arc::new(Tls::load(options)?)), inputs)),
            (None, None) => Ok((None, inputs)),
        }
    }

    /// Returns the number of the snapshot: 1 at the start, one more with each reload.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Returns the configuration. Keys that need a restart have the values of the files, which may differ from those of
    /// the start.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the rules for immutable tags.
    #[must_use]
    pub const fn immutable_tags(&self) -> &ImmutableRules {
        &self.immutable
    }

    /// Returns the registries that this one stands for.
    #[must_use]
    pub const fn mirrors(&self) -> &Mirrors {
        &self.mirrors
    }

    /// Returns the namespaces that are caches.
    #[must_use]
    pub const fn caches(&self) -> &CachedNamespaces {
        &self.caches
    }

    /// Returns the policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the accounts.
    #[must_use]
    pub const fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    /// Returns the certificates; `None` for plain HTTP.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_deref()
    }

    /// Returns the signer of tokens; `None` if no login is possible.
    #[must_use]
    pub fn signer(&self) -> Option<&Signer> {
        self.signer.as_deref()
    }

    /// Returns true if a connection needs a client certificate.
    #[must_use]
    pub const fn requires_certificate(&self) -> bool {
        self.requires_certificate
    }

    /// Returns warnings about valid but doubtful settings.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let tls = self.tls.iter().flat_map(|tls| tls.warnings());
        let key = self.signer.iter().filter_map(|signer| signer.warning());
        self.policy.warnings().iter().chain(tls).chain(self.caches.warnings()).map(String::as_str).chain(key)
    }

    /// Verifies the client certificate of a token by the authorities, lists and clock in force. Remembered for minutes.
    pub fn certificate_of_token(&self, chain: &[Vec<u8>]) -> Result<Arc<Certificate>, ClientError> {
        let Some(tls) = self.tls.as_deref() else { return Err(ClientError::UnknownIssuer) };
        let mut hash = Sha256::new();
        for certificate in chain {
            hash.update((certificate.len() as u64).to_le_bytes());
            hash.update(certificate);
        }
        let key = hash.finalize().into();
        if let Some(client) = self.chains.get(&key).filter(|client| client.valid_until > SystemTime::now()) {
            return Ok(client.certificate);
        }
        let chain: Vec<_> = chain.iter().map(|certificate| CertificateDer::from(certificate.as_slice())).collect();
        let client = tls.client(&chain)?;
        self.chains.insert(key, client.clone());
        Ok(client.certificate)
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("number", &self.number).finish_non_exhaustive()
    }
}
