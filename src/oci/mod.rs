//! The words of the OCI specifications as types. A value that exists is valid: everything is parsed once, at the edge.

pub mod descriptor;
pub mod digest;
pub mod error_code;
pub mod manifest;
pub mod media_type;
pub mod name;
pub mod range;
pub mod reference;

pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, Hasher};
pub use error_code::ErrorCode;
pub use manifest::Manifest;
pub use media_type::MediaType;
pub use name::Name;
pub use reference::{Reference, Tag};
