//! Things to push: unique bytes, digests, and images made of them.

use rand::RngCore;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// An `Accept` of every type of manifest.
pub(crate) const EVERY_TYPE: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// Returns `sha256:<hex>` of `data`.
pub(crate) fn sha256(data: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(data)))
}

/// Returns `sha512:<hex>` of `data`.
pub(crate) fn sha512(data: &[u8]) -> String {
    format!("sha512:{}", hex(&Sha512::digest(data)))
}

/// Bytes that nobody has pushed before (16 or more; fewer are likely to come again).
pub(crate) fn unique(length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    rand::rng().fill_bytes(&mut data);
    data
}

/// Returns the digest of something that no registry has.
pub(crate) fn unknown_digest() -> String {
    sha256(&unique(32))
}

/// Returns a descriptor of `data`.
pub(crate) fn descriptor(media_type: &str, data: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(data), "size": data.len()})
}

/// A manifest as a client sends it: exact bytes and the type they are sent under.
#[derive(Clone)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

impl Manifest {
    /// Returns a manifest with this content. Its `mediaType` is the type.
    pub(crate) fn new(value: &Value) -> Self {
        let media_type =
            value["mediaType"].as_str().expect("a manifest made by a test states its mediaType").to_owned();
        Self { media_type, bytes: serde_json::to_vec_pretty(value).expect("a JSON value can be written") }
    }

    /// Returns the digest under which registries keep the manifest.
    pub(crate) fn digest(&self) -> String {
        sha256(&self.bytes)
    }

    /// Returns a descriptor of the manifest, for an index or a subject.
    pub(crate) fn descriptor(&self) -> Value {
        descriptor(&self.media_type, &self.bytes)
    }
}

/// An image with the blobs it needs.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) manifest: Manifest,
    pub(crate) blobs: Vec<Vec<u8>>,
}

impl Image {
    /// Returns an image with a config and as many layers as there are `sizes`, all unique.
    pub(crate) fn new(sizes: &[usize]) -> Self {
        Self::with(sizes, |_| {})
    }

    /// Returns an image whose manifest `change` has changed.
    pub(crate) fn with(sizes: &[usize], change: impl FnOnce(&mut Value)) -> Self {
        let config = serde_json::to_vec(&json!({
            "architecture": "amd64", "os": "linux", "config": {}, "author": hex(&unique(16)), "rootfs": {"type": "layers", "diff_ids": []},
        }))
        .expect("a JSON value can be written");
        let layers: Vec<_> = sizes.iter().map(|size| unique(*size)).collect();
        let mut value = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, &config),
            "layers": layers.iter().map(|layer| descriptor(OCI_LAYER, layer)).collect::<Vec<_>>(),
        });
        change(&mut value);
        Self { manifest: Manifest::new(&value), blobs: [config].into_iter().chain(layers).collect() }
    }

    /// Returns an artifact of `artifact_type` that refers to `subject`.
    pub(crate) fn referrer(subject: &Manifest, artifact_type: &str) -> Self {
        let subject = subject.descriptor();
        Self::with(&[64], |manifest| {
            manifest["artifactType"] = artifact_type.into();
            manifest["subject"] = subject;
        })
    }
}

/// Returns an index over `children`.
pub(crate) fn index(children: &[&Manifest]) -> Manifest {
    let children: Vec<_> = children.iter().map(|child| child.descriptor()).collect();
    // the annotation keeps two indexes of the same children apart
    Manifest::new(&json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children, "annotations": {"test.unique": hex(&unique(16))},
    }))
}
