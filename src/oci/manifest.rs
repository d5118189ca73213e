//! Parses manifests: OCI image spec, `manifest.md` and `image-index.md`; Docker image manifest version 2, schema 2.
//!
//! Only what the registry must know is read out of a manifest; its bytes are kept exactly as they came.

mod shape;

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use super::{
    descriptor::{Descriptor, annotations, media_type_or_none},
    digest::Digest,
    media_type::MediaType,
};

/// The parts of a manifest that the registry uses.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The media type of the push.
    pub media_type: MediaType,
    /// Config and layers, each digest once, without foreign layers.
    pub blobs: Vec<Descriptor>,
    /// Foreign layers, each digest once. They lie outside of the registry by design and need not be here.
    pub foreign: Vec<Descriptor>,
    /// The entries of an index, each digest once. An entry whose type is no manifest's may be a blob.
    pub children: Vec<Descriptor>,
    /// The manifest that this one refers to.
    pub subject: Option<Digest>,
    /// The artifact type in lists of referrers: `artifactType`, or the media type of an image manifest's config.
    pub artifact_type: Option<String>,
    /// The annotations.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The reason why bytes are not a manifest that the registry stores.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Bytes that are not UTF-8.
    #[error("the manifest is not valid: bytes that are not UTF-8 at line {line} column {column}")]
    NotUtf8 {
        /// The line of the first such byte, from 1.
        line: usize,
        /// The place in the line, in bytes from 1.
        column: usize,
    },
    /// Not JSON, or JSON of another shape; with line and column.
    #[error("the manifest is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// An image manifest that describes nothing.
    #[error("an image manifest has `config` and `layers`; this one has neither")]
    NoImage,
    /// `Content-Type` and `mediaType` disagree.
    #[error("the Content-Type header says {header}, the manifest's mediaType says {field}; send the same in both")]
    MediaTypeMismatch {
        /// The type in the header.
        header: MediaType,
        /// The type in the document.
        field: MediaType,
    },
    /// Neither a header nor a field names the type.
    #[error("the manifest's type is not known; send it as Content-Type")]
    MediaTypeMissing,
    /// A type that the registry does not take.
    #[error(
        "{0} is not a manifest type of this registry; it takes OCI image manifests and indexes and Docker schema 2 manifests and lists"
    )]
    MediaTypeUnknown(MediaType),
    /// `schemaVersion` is something else.
    #[error("schemaVersion is {0}; this registry takes 2")]
    SchemaVersion(u64),
    /// More descriptors than anyone needs.
    #[error("the manifest has {0} descriptors; this registry takes {max}", max = Manifest::MAX_DESCRIPTORS)]
    TooMany(usize),
    /// A field that makes no sense in this type, which could mean two things to two clients.
    #[error("a manifest of type {0} has no field {1:?}")]
    Ambiguous(MediaType, &'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    #[serde(default, deserialize_with = "media_type_or_none")]
    media_type: Option<MediaType>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "annotations")]
    annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Most descriptors of one manifest: each costs the registry work.
    pub const MAX_DESCRIPTORS: usize = 10_000;

    /// Reads `bytes`, sent with `content_type` where the client said one.
    ///
    /// The caller bounds the length of `bytes`; what it does not know is skipped without recursion. `null` counts as absent
    /// for an optional field, and so does `""` for `mediaType`, since serializers write both.
    pub fn parse(content_type: Option<&MediaType>, bytes: &[u8]) -> Result<Self, ManifestError> {
        let text = text(bytes)?;
        shape::check(text)?;
        let document: Document = serde_json::from_str(text)?;
        let media_type = match (content_type, &document.media_type) {
            (Some(header), Some(field)) if header != field => {
                return Err(ManifestError::MediaTypeMismatch { header: header.clone(), field: field.clone() });
            }
            (Some(known), _) | (None, Some(known)) => known.clone(),
            (None, None) => return Err(ManifestError::MediaTypeMissing),
        };
        if document.schema_version.is_some_and(|version| version != 2) {
            return Err(ManifestError::SchemaVersion(document.schema_version.unwrap_or_default()));
        }
        let unexpected = |field: &'static str, there: bool| {
            if there { Err(ManifestError::Ambiguous(media_type.clone(), field)) } else { Ok(()) }
        };
        let (blobs, children): (Vec<_>, Vec<_>) = match media_type.as_str() {
            MediaType::OCI_MANIFEST | MediaType::DOCKER_MANIFEST => {
                unexpected("manifests", document.manifests.is_some())?;
                if document.config.is_none() && document.layers.is_none() {
                    return Err(ManifestError::NoImage);
                }
                let config = document.config.clone().into_iter();
                (config.chain(document.layers.unwrap_or_default()).collect(), Vec::new())
            }
            MediaType::OCI_ARTIFACT => {
                unexpected("manifests", document.manifests.is_some())?;
                (document.blobs.unwrap_or_default(), Vec::new())
            }
            MediaType::OCI_INDEX | MediaType::DOCKER_LIST => {
                unexpected("layers", document.layers.is_some())?;
                unexpected("config", document.config.is_some())?;
                (Vec::new(), document.manifests.unwrap_or_default())
            }
            _ => return Err(ManifestError::MediaTypeUnknown(media_type)),
        };
        if blobs.len() + children.len() > Self::MAX_DESCRIPTORS {
            return Err(ManifestError::TooMany(blobs.len() + children.len()));
        }
        let config_type = document.config.filter(|_| children.is_empty()).map(|config| config.media_type.to_string());
        let mut seen = HashSet::new();
        let (outside, blobs): (Vec<_>, Vec<_>) = blobs.into_iter().partition(is_outside);
        let (outside_of_index, children): (Vec<_>, Vec<_>) = children.into_iter().partition(is_outside);
        Ok(Self {
            blobs: each_once(blobs, &mut seen),
            children: each_once(children, &mut seen),
            foreign: each_once([outside, outside_of_index].concat(), &mut seen),
            subject: document.subject.map(|subject| subject.digest),
            artifact_type: document.artifact_type.filter(|kind| !kind.is_empty()).or(config_type),
            annotations: document.annotations,
            media_type,
        })
    }

    /// Returns what the manifest lists and may have as a blob: what it needs, what is foreign, and entries of an index whose
    /// type is no manifest's.
    pub fn listed_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let entries = self.children.iter().filter(|child| !child.media_type.is_manifest());
        self.blobs.iter().chain(&self.foreign).chain(entries)
    }

    /// Returns the descriptor of this manifest in lists of referrers.
    #[must_use]
    pub fn as_referrer(&self, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest,
            size,
            artifact_type: self.artifact_type.clone(),
            annotations: self.annotations.clone(),
            urls: Vec::new(),
        }
    }
}

/// Returns bytes as text, or the place of the first byte that is no text.
fn text(bytes: &[u8]) -> Result<&str, ManifestError> {
    str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = before.split(|byte| *byte == b'\n').count();
        ManifestError::NotUtf8 { line, column: before.len() - begin + 1 }
    })
}

fn is_outside(descriptor: &Descriptor) -> bool {
    descriptor.media_type.is_foreign() && !descriptor.urls.is_empty()
}

fn each_once(descriptors: Vec<Descriptor>, seen: &mut HashSet<Digest>) -> Vec<Descriptor> {
    descriptors.into_iter().filter(|descriptor| seen.insert(descriptor.digest)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(media_type: &str, text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(Some(&media_type.parse().unwrap()), text.as_bytes())
    }

    fn descriptor(media_type: &str, digit: char) -> String {
        format!(r#"{{"mediaType":"{media_type}","size":1,"digest":"sha256:{}"}}"#, digit.to_string().repeat(64))
    }

    #[test]
    fn an_image_manifest_needs_its_config_and_each_layer_once() {
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar", 'b');
        let config = descriptor("application/vnd.oci.image.config.v1+json", 'a');
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer},{layer}],"else":[1]}}"#);
        let manifest = parse(MediaType::OCI_MANIFEST, &text).unwrap();
        assert_eq!(manifest.blobs.len(), 2);
        assert_eq!(manifest.artifact_type.as_deref(), Some("application/vnd.oci.image.config.v1+json"));
    }

    #[test]
    fn foreign_layers_need_not_be_here() {
        let text = format!(
            r#"{{"schemaVersion":2,"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","size":1,"digest":"sha256:{}","urls":["https://example.com/l"]}}]}}"#,
            "c".repeat(64)
        );
        let manifest = parse(MediaType::DOCKER_MANIFEST, &text).unwrap();
        assert!(manifest.blobs.is_empty());
        assert_eq!(manifest.listed_blobs().count(), 1);
    }

    #[test]
    fn an_entry_of_an_index_whose_type_is_no_manifests_may_be_a_blob() {
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", 'b');
        let image = descriptor(MediaType::OCI_MANIFEST, 'a');
        let manifest = parse(MediaType::OCI_INDEX, &format!(r#"{{"manifests":[{image},{layer}]}}"#)).unwrap();
        let listed: Vec<String> = manifest.listed_blobs().map(|blob| blob.digest.hex()).collect();
        assert_eq!((manifest.children.len(), listed), (2, vec!["b".repeat(64)]));
    }

    /// Returns the message about a manifest that is refused.
    fn refusal(text: &[u8]) -> String {
        Manifest::parse(Some(&MediaType::OCI_MANIFEST.parse().unwrap()), text).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_that_two_readers_could_read_differently_is_refused_with_its_place() {
        let config = descriptor("application/json", 'a');
        let of = |more: &str| format!("{{\"schemaVersion\":2,\n\"config\":{config}{more}}}");
        assert!(parse(MediaType::OCI_MANIFEST, &of("")).is_ok());
        for (more, says) in [
            (",\"Layers\":[]", "the field \"Layers\" differs from \"layers\" in case alone"),
            (",\"layer\u{17f}\":[]", "in case alone"),
            (",\"MANIFESTS\":[]", "in case alone"),
            (",\"layers\":[],\"layers\":[]", "the field \"layers\" is there twice"),
            (",\"config\":null", "the field \"config\" is there twice"),
            (",\"annotations\":{\"a\":\"1\",\"\\u0061\":\"2\"}", "the annotation \"a\" is there twice"),
            (",\"layers\":[[\"a/b\",\"sha256:aa\",1]]", "expected a descriptor, which is a JSON object"),
            (",\"layers\":{}", "expected a list of descriptors"),
            (",\"layers\":[null]", "expected a descriptor"),
            (",\"subject\":{\"mediaType\":\"a/b\",\"size\":1}", "a descriptor has no field \"digest\""),
            (",\"subject\":{\"Digest\":\"x\"}", "the field \"Digest\" differs from \"digest\" in case alone"),
            (",\"layers\":[{\"size\":-1}]", "expected a whole number that is not negative"),
            (",\"artifactType\":1", "expected a text"),
        ] {
            let message = refusal(of(more).as_bytes());
            assert!(message.contains(says), "{more}: {message}");
            assert!(message.contains(" at line 2 column "), "{more}: {message}");
            assert!(!message.contains("struct") && !message.contains("u64"), "{more}: {message}");
        }
        assert!(refusal(b"[2]").contains("expected one JSON object at line 1"), "{}", refusal(b"[2]"));
        let bytes = [b"{\n\"x\":\"".as_slice(), b"\xff\xfe\"}"].concat();
        assert_eq!(refusal(&bytes), "the manifest is not valid: bytes that are not UTF-8 at line 2 column 6");
    }

    #[test]
    fn fields_that_the_registry_does_not_read_may_be_anything() {
        let config = descriptor("application/json", 'a');
        let text = format!(
            r#"{{"schemaVersion":2,"config":{config},"x":{{"a":1,"a":[2]}},"x":null,"X":[{{"Digest":1}}],"platform":[],"Data":1}}"#
        );
        assert!(parse(MediaType::OCI_MANIFEST, &text).is_ok());
    }

    #[test]
    fn null_counts_as_absent_and_so_does_an_empty_media_type() {
        let layer = descriptor("application/json", 'b')
            .replace('}', ",\"urls\":null,\"annotations\":null,\"artifactType\":null}");
        let text = format!(
            r#"{{"schemaVersion":null,"mediaType":"","config":null,"layers":[{layer}],"subject":null,"artifactType":null,"annotations":{{"a":null,"b":"c"}}}}"#
        );
        let manifest = parse(MediaType::OCI_MANIFEST, &text).unwrap();
        assert_eq!((manifest.blobs.len(), manifest.subject, manifest.artifact_type), (1, None, None));
        assert_eq!(manifest.annotations, Some(BTreeMap::from([("b".to_owned(), "c".to_owned())])));
        assert!(matches!(Manifest::parse(None, text.as_bytes()), Err(ManifestError::MediaTypeMissing)));
    }

    #[test]
    fn an_image_manifest_without_config_and_layers_is_refused() {
        for kind in [MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST] {
            assert!(matches!(parse(kind, r#"{"schemaVersion":2,"layers":null}"#), Err(ManifestError::NoImage)));
        }
    }

    #[test]
    fn a_manifest_that_could_mean_two_things_is_refused() {
        assert!(matches!(
            parse(MediaType::OCI_MANIFEST, r#"{"schemaVersion":2,"manifests":[]}"#),
            Err(ManifestError::Ambiguous(..))
        ));
        assert!(matches!(
            parse(MediaType::OCI_INDEX, r#"{"schemaVersion":2,"layers":[]}"#),
            Err(ManifestError::Ambiguous(..))
        ));
        let field = format!(r#"{{"schemaVersion":2,"mediaType":"{}"}}"#, MediaType::OCI_INDEX);
        assert!(matches!(parse(MediaType::OCI_MANIFEST, &field), Err(ManifestError::MediaTypeMismatch { .. })));
        assert!(matches!(parse("text/plain", "{}"), Err(ManifestError::MediaTypeUnknown(_))));
        assert!(matches!(
            parse(MediaType::OCI_MANIFEST, r#"{"schemaVersion":1}"#),
            Err(ManifestError::SchemaVersion(1))
        ));
        assert!(matches!(Manifest::parse(None, br#"{"schemaVersion":2}"#), Err(ManifestError::MediaTypeMissing)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), index in any::<bool>()) {
            let kind = if index { MediaType::OCI_INDEX } else { MediaType::OCI_MANIFEST };
            let _ = Manifest::parse(Some(&kind.parse().unwrap()), &bytes);
        }

        #[test]
        fn deep_nesting_costs_no_stack(depth in 200_usize..100_000, known in any::<bool>()) {
            let field = if known { "manifests" } else { "x" };
            let text = format!(r#"{{"schemaVersion":2,"{field}":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
            prop_assert_eq!(parse(MediaType::OCI_INDEX, &text).is_err(), known);
        }
    }
}
