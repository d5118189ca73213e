//! Clients that ask as if this registry were another one: those that name it, and docker, which does not.

use simple_registry::credentials::hash_password;

use crate::support::client::{Client, Request, Response};
use crate::support::content::{Image, sha256};
use crate::support::server::{Backend, Server};

const OPEN: &str = "[repository.'*'.access_policy]\ndefault_allow = true\n";
const SERVES: &str = "[repository.hub]\nserves = ['docker.io']\n";
const MIRROR: &str = "mirror_of = 'hub'\n[repository.hub]\n[repository.'team.example']\n";

fn get(client: &Client, target: &str) -> Response {
    client.send(Request::get(target))
}

#[test]
fn a_client_that_names_a_registry_reads_its_namespace_under_its_own_name() {
    let server = Server::start_plain(Backend::Directory, &format!("{SERVES}{OPEN}"));
    let (client, image) = (server.client(), Image::new(&[5]));
    let digest = server.repo("hub/library/nginx").push_image("v1", &image);
    server.repo("hub/library/nginx").push_image("v2", &Image::new(&[6]));
    for method in [Request::get, Request::head] {
        let manifest = client.send(method("/v2/library/nginx/manifests/v1?ns=docker.io".to_owned())).expect(200);
        assert_eq!(manifest.required("docker-content-digest"), digest);
        assert_eq!(manifest.required("oci-namespace"), "docker.io");
    }
    let layer = sha256(&image.blobs[1]);
    assert_eq!(get(&client, &format!("/v2/library/nginx/blobs/{layer}?ns=Docker.IO")).expect(200).body.len(), 5);
    let tags = get(&client, "/v2/library/nginx/tags/list?n=1&ns=docker.io").expect(200);
    assert_eq!(tags.json()["name"], "library/nginx");
    let next = tags.required("link").trim_start_matches('<').split('>').next().unwrap().to_owned();
    assert_eq!(next, "/v2/library/nginx/tags/list?last=v1&n=1&ns=docker%2Eio");
    assert_eq!(get(&client, &next).expect(200).json()["tags"][0], "v2");
    let history = get(&client, "/v2/library/nginx/_history/v1?ns=docker.io").expect(200);
    assert_eq!(history.json()["name"], "library/nginx");
    let absent = get(&client, "/v2/library/nginx/manifests/v9?ns=docker.io");
    assert_eq!(absent.required("oci-namespace"), "docker.io");
    absent.expect_error(404, "MANIFEST_UNKNOWN");
    let direct = get(&client, "/v2/hub/library/nginx/manifests/v1").expect(200);
    assert_eq!((direct.required("docker-content-digest"), direct.header("oci-namespace")), (digest.as_str(), None));
}

#[test]
fn a_registry_that_no_namespace_serves_is_unknown_and_without_any_the_parameter_says_nothing() {
    let server = Server::start_plain(Backend::Directory, &format!("{SERVES}{OPEN}"));
    server.repo("app").push_image("v1", &Image::new(&[5]));
    let refused = get(&server.client(), "/v2/app/manifests/v1?ns=ghcr.io");
    assert_eq!(refused.header("oci-namespace"), None);
    let errors = refused.expect_error(404, "NAME_UNKNOWN");
    let message = "this registry is no mirror of ghcr.io, which the query parameter ns names; ask that registry itself";
    assert_eq!(errors[0]["message"], message);
    server.wait_for_line(0, &[message, "the configuration serves docker.io"]);
    get(&server.client(), "/v2/app/manifests/v1?ns=docker.io&ns=ghcr.io").expect(400);
    // a push keeps its name
    server.client().send(Request::post("/v2/app/blobs/uploads/?ns=ghcr.io")).expect(202);

    let plain = Server::start_plain(Backend::Directory, OPEN);
    plain.repo("app").push_image("v1", &Image::new(&[5]));
    assert_eq!(get(&plain.client(), "/v2/app/manifests/v1?ns=ghcr.io").expect(200).header("oci-namespace"), None);
}

#[test]
fn docker_reads_the_mirrored_namespace_and_nothing_that_is_pushed_shadows_it() {
    let mut server = Server::start_plain(Backend::Directory, OPEN);
    for pushed in ["library/nginx", "team/app"] {
        server.repo(pushed).push_image("v1", &Image::new(&[5]));
    }
    let lines = server.log().len();
    server.edit(&format!("{MIRROR}{OPEN}"));
    server.wait_for_line(lines, &["reloaded:"]);
    let client = server.client();
    get(&client, "/v2/library/nginx/manifests/v1").expect_error(404, "MANIFEST_UNKNOWN");
    let digest = server.repo("hub/library/nginx").push_image("v1", &Image::new(&[6]));
    for name in ["library/nginx", "hub/library/nginx"] {
        let found = get(&client, &format!("/v2/{name}/manifests/v1")).expect(200);
        assert_eq!((found.required("docker-content-digest"), found.header("oci-namespace")), (digest.as_str(), None));
    }
    let named = get(&client, "/v2/library/nginx/manifests/v1?ns=docker.io").expect(200);
    assert_eq!(named.required("oci-namespace"), "docker.io");
    get(&client, "/v2/library/nginx/manifests/v1?ns=ghcr.io").expect_error(404, "NAME_UNKNOWN");
    assert_eq!(get(&client, "/v2/library/nginx/tags/list").expect(200).json()["name"], "library/nginx");
    let refused = client.send(Request::post("/v2/team/app/blobs/uploads/")).expect_error(405, "UNSUPPORTED");
    let message = "team/app is a name of Docker Hub, and readers of such names get hub/team/app (mirror_of); push to a name \
                   whose first part has a dot, such as team.example/app";
    assert_eq!(refused[0]["message"], message);
    for pushed in ["team.example/app", "app"] {
        server.repo(pushed).push_image("v1", &Image::new(&[5]));
        server.repo(pushed).pull_image("v1");
    }
    // what was pushed before can be removed
    client.send(Request::delete("/v2/team/app/manifests/v1")).expect(202);
}

fn token(client: &Client, scope: &str) -> String {
    get(client, &format!("/token?scope={scope}")).expect(200).json()["token"].as_str().expect("a token").to_owned()
}

#[test]
fn a_token_for_the_name_that_the_client_knows_counts_and_policy_sees_the_name_here() {
    let hash = hash_password("secret").expect("a hash");
    let server = Server::start_plain(
        Backend::Directory,
        &format!(
            "mirror_of = 'hub'\n[identity.ana]\nusername = 'ana'\npassword = '{hash}'\n\
             [repository.hub.access_policy]\nrules = [\"identity.username == 'ana' && request.namespace == 'hub/library/nginx'\"]\n"
        ),
    );
    let ana = server.client().with_password("ana", "secret");
    let digest = crate::support::repo::Repo::new(ana.clone(), "hub/library/nginx").push_image("v1", &Image::new(&[5]));
    let target = "/v2/library/nginx/manifests/v1";
    let asked = "repository:library/nginx:pull";
    let refused = get(&server.client(), target);
    assert!(refused.required("www-authenticate").contains(&format!("scope=\"{asked}\"")));
    refused.expect_error(401, "UNAUTHORIZED");
    for scope in [asked, "repository:hub/library/nginx:pull"] {
        let found = get(&server.client().with_token(&token(&ana, scope)), target).expect(200);
        assert_eq!(found.required("docker-content-digest"), digest);
    }
    let other = get(&server.client().with_token(&token(&ana, "repository:library/other:pull")), target);
    assert!(other.required("www-authenticate").contains(&format!("scope=\"{asked}\"")));
    let errors = other.expect_error(401, "UNAUTHORIZED");
    assert!(errors[0]["message"].as_str().expect("text").contains(asked));
    // the rights of a token for one name do not reach the repository of another one
    let direct = get(&server.client().with_token(&token(&ana, asked)), "/v2/hub/library/nginx/manifests/v1");
    direct.expect_error(401, "UNAUTHORIZED");
    get(&ana, "/v2/library/other/manifests/v1").expect_error(403, "DENIED");
}
