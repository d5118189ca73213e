//! One repository as a client sees it: the paths of the API, and the pushes that most tests begin with.

use serde_json::Value;

use super::client::{Client, Request, Response};
use super::content::{EVERY_TYPE, Image, Manifest, OCI_MANIFEST, sha256};

/// A repository on some server.
#[derive(Clone, Debug)]
pub(crate) struct Repo {
    pub(crate) client: Client,
    pub(crate) name: String,
}

impl Repo {
    pub(crate) fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into() }
    }

    /// Returns another repository on the same server, named `<this>/<suffix>`.
    pub(crate) fn sibling(&self, suffix: &str) -> Self {
        Self::new(self.client.clone(), format!("{}/{suffix}", self.name))
    }

    /// Returns `/v2/<name>/<rest>`.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.name)
    }

    pub(crate) fn blob_path(&self, digest: &str) -> String {
        self.path(&format!("blobs/{digest}"))
    }

    pub(crate) fn manifest_path(&self, reference: &str) -> String {
        self.path(&format!("manifests/{reference}"))
    }

    /// Sends a request on a connection of its own.
    #[track_caller]
    pub(crate) fn send(&self, request: Request) -> Response {
        self.client.send(request)
    }

    #[track_caller]
    pub(crate) fn get_blob(&self, digest: &str) -> Response {
        self.send(Request::get(self.blob_path(digest)))
    }

    /// Asks for a manifest, accepting every type that there is.
    #[track_caller]
    pub(crate) fn get_manifest(&self, reference: &str) -> Response {
        self.send(Request::get(self.manifest_path(reference)).header("accept", EVERY_TYPE))
    }

    /// Begins an upload; returns where it goes on.
    #[track_caller]
    pub(crate) fn start_upload(&self) -> String {
        self.send(Request::post(self.path("blobs/uploads/"))).expect(202).location()
    }

    /// Pushes `data` by `POST` and `PUT`; returns its digest.
    #[track_caller]
    pub(crate) fn push_blob(&self, data: &[u8]) -> String {
        let digest = sha256(data);
        self.send(finish(&self.start_upload(), &digest).body(data)).expect(201);
        digest
    }

    /// Returns the `PUT` of a manifest, to send or to change first.
    pub(crate) fn put_manifest(&self, reference: &str, manifest: &Manifest) -> Request {
        Request::put(self.manifest_path(reference))
            .header("content-type", &manifest.media_type)
            .body(manifest.bytes.clone())
    }

    /// Pushes a manifest under `reference`; returns its digest.
    #[track_caller]
    pub(crate) fn push_manifest(&self, reference: &str, manifest: &Manifest) -> String {
        self.send(self.put_manifest(reference, manifest)).expect(201);
        manifest.digest()
    }

    /// Pushes the image's blobs, not its manifest.
    #[track_caller]
    pub(crate) fn push_blobs(&self, image: &Image) {
        for blob in &image.blobs {
            self.push_blob(blob);
        }
    }

    /// Pushes a whole image under `reference`; returns its manifest's digest.
    #[track_caller]
    pub(crate) fn push_image(&self, reference: &str, image: &Image) -> String {
        self.push_blobs(image);
        self.push_manifest(reference, &image.manifest)
    }

    /// Pulls what `reference` means, with every blob that it names, and checks each digest. Returns the manifest's digest.
    #[track_caller]
    pub(crate) fn pull_image(&self, reference: &str) -> String {
        let response = self.get_manifest(reference).expect(200);
        let digest = sha256(&response.body);
        assert_eq!(response.required("docker-content-digest"), digest);
        let manifest = response.json();
        if manifest["mediaType"] == OCI_MANIFEST {
            let layers = manifest["layers"].as_array().into_iter().flatten();
            for blob in
                layers.chain([&manifest["config"]]).map(|descriptor| descriptor["digest"].as_str().expect("a digest"))
            {
                let body = self.get_blob(blob).expect(200).body;
                assert_eq!(sha256(&body), blob, "what was pulled is not what was asked for");
            }
        }
        digest
    }

    /// Returns one page of tags, by the query's text (`?n=2`).
    #[track_caller]
    pub(crate) fn tags(&self, query: &str) -> Vec<String> {
        strings(&self.send(Request::get(self.path(&format!("tags/list{query}")))).expect(200).json()["tags"])
    }
}

/// Returns the closing `PUT` of an upload at `location`.
pub(crate) fn finish(location: &str, digest: &str) -> Request {
    let joint = if location.contains('?') { '&' } else { '?' };
    Request::put(format!("{location}{joint}digest={digest}")).header("content-type", "application/octet-stream")
}

/// Returns a `PATCH` of an upload at `location` with the bytes from `offset` on.
pub(crate) fn chunk(location: &str, offset: usize, data: &[u8]) -> Request {
    Request::patch(location)
        .header("content-type", "application/octet-stream")
        .header("content-range", format!("{offset}-{}", offset + data.len() - 1))
        .body(data)
}

/// Returns the strings of a JSON array. Null counts as empty.
#[track_caller]
pub(crate) fn strings(value: &Value) -> Vec<String> {
    let entries = value.as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().map(|entry| entry.as_str().expect("a string").to_owned()).collect()
}
