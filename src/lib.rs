//! An OCI container registry: the library behind the `simple-registry` binary.

pub mod storage;
