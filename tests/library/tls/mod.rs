//! TLS: files of every kind, the judge of client certificates, handshakes, and `certs/make.sh`.

mod files;
mod handshake;
mod judge;
mod script;
mod server_files;
