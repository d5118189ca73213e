//! The OCI Distribution Specification (1.1.1 and the current draft), statement by statement: a test per MUST, named after it, and one per
//! SHOULD that a good registry keeps.

mod discovery;
mod management;
mod pull;
mod push_blobs;
mod push_chunks;
mod push_manifests;
