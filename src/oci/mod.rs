//! Defines the words of the OCI specifications as types. Every value is valid, since the code parses everything once,
//! at the edge.

/// The traits of a type that is a valid text: written as it is, read through its parser.
macro_rules! text_traits {
    ($kind:ident) => {
        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::fmt::Debug for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
use text_traits;

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
