//! The files that `[server.tls]` names.

use std::fs;
use std::path::{Path, PathBuf};

use simple_registry::config::{self, ClientAuth};
use simple_registry::tls::Tls;
use tempfile::TempDir;

use crate::shared::certificates::{Authority, Leaf};

/// The files of one `[server.tls]`. They begin as a server's certificate with its key and nothing else.
pub(crate) struct Files {
    dir: TempDir,
    pub(crate) options: config::Tls,
}

impl Files {
    pub(crate) fn new(server: &Leaf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Self { dir, options: config::Tls::default() };
        files.options.server_certificate_bundle = files.write("server.pem", &server.pem);
        files.options.server_private_key = files.write("server.key", &server.key.serialize_pem());
        files
    }

    /// Makes the files of a server of an authority that asks for certificates of the same authority.
    pub(crate) fn asking(authority: &Authority) -> Self {
        let mut files = Self::new(&authority.server());
        files.ca(&authority.pem());
        files
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn ca(&mut self, pem: &str) {
        self.options.client_ca_bundle = Some(self.write("ca.pem", pem));
    }

    pub(crate) fn crl(&mut self, pem: &str) {
        self.options.client_crl = Some(self.write("crl.pem", pem));
    }

    pub(crate) fn required(mut self) -> Self {
        self.options.client_auth = ClientAuth::Required;
        self
    }

    #[track_caller]
    pub(crate) fn load(&self) -> Tls {
        Tls::load(&self.options).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns the message about files that cannot be used.
    #[track_caller]
    pub(crate) fn refused(&self) -> String {
        Tls::load(&self.options).expect_err("these files cannot be used").to_string()
    }
}
