//! `/token`, and what a token is good for.

use simple_registry::credentials::hash_password;

use super::world::{PASSWORD, WORLD};
use crate::support::client::{Client, Request};
use crate::support::content::Image;
use crate::support::repo::Repo;
use crate::support::server::{Backend, Server};

#[test]
fn a_token_allows_only_its_scope() {
    let ana = WORLD.anonymous().with_password("ana", PASSWORD);
    let pull = ana.send(Request::get("/token?scope=repository:people/app:pull")).expect(200).json();
    let token = pull["token"].as_str().unwrap();
    let client = WORLD.anonymous().with_token(token);
    client.send(Request::get("/v2/people/app/tags/list")).expect(404);
    for (request, scope) in [
        (Request::post("/v2/people/app/blobs/uploads/"), "repository:people/app:pull,push"),
        (Request::get("/v2/people/other/tags/list"), "repository:people/other:pull"),
        (Request::get("/v2/_catalog"), "registry:catalog:*"),
        (
            Request::post(format!("/v2/people/app/blobs/uploads/?mount=sha256:{}&from=people/other", "0".repeat(64))),
            "repository:people/app:pull,push repository:people/other:pull",
        ),
    ] {
        let refused = client.send(request).expect(401);
        let challenge = refused.required("www-authenticate");
        assert!(challenge.contains(&format!("scope=\"{scope}\"")), "{refused:?}");
        assert!(challenge.contains("error=\"insufficient_scope\""), "{refused:?}");
    }
    // a token without the scope of a mount's source is good for the upload
    let push = ana.send(Request::get("/token?scope=repository:people/app:pull,push")).expect(200).json();
    let mount = format!("/v2/people/app/blobs/uploads/?mount=sha256:{}&from=people/other", "0".repeat(64));
    WORLD.anonymous().with_token(push["token"].as_str().unwrap()).send(Request::post(mount)).expect(202);
    // what everyone may do, one may do with any token
    client.send(Request::post("/v2/everyone/app/blobs/uploads/")).expect(202);
}

/// An answer to `HEAD` has no body, so a push goes on until a request is refused whose answer has one.
#[test]
fn a_look_of_a_push_that_is_refused_finds_nothing_and_the_write_is_refused_with_the_message() {
    let ana = WORLD.anonymous().with_password("ana", PASSWORD);
    let token = |scope: &str| {
        let answer = ana.send(Request::get(format!("/token?scope=repository:nobody/app:{scope}"))).expect(200).json();
        WORLD.anonymous().with_token(answer["token"].as_str().unwrap())
    };
    let (push, pull) = (token("pull,push"), token("pull"));
    let digest = format!("sha256:{}", "0".repeat(64));
    for kind in ["blobs", "manifests"] {
        let path = format!("/v2/nobody/app/{kind}/{digest}");
        push.send(Request::head(&path)).expect(404);
        push.send(Request::get(&path)).expect_error(403, "DENIED");
        let told = pull.send(Request::head(&path)).expect(403);
        assert!(told.required("warning").starts_with("299 - \"get-"), "{told:?}");
    }
    push.send(Request::head("/v2/nobody/app/manifests/v1")).expect(403);
    push.send(Request::post("/v2/nobody/app/blobs/uploads/")).expect_error(403, "DENIED");
}

#[test]
fn a_token_buys_no_other_token() {
    let ana = WORLD.anonymous().with_password("ana", PASSWORD);
    let narrow = ana.send(Request::get("/token?scope=repository:people/app:pull")).expect(200).json();
    let bearer = WORLD.anonymous().with_token(narrow["token"].as_str().unwrap());
    let wider = bearer.send(Request::get("/token?scope=repository:people/app:*")).expect(200).json();
    let wider = WORLD.anonymous().with_token(wider["token"].as_str().unwrap());
    wider.send(Request::get("/v2/people/app/tags/list")).expect(401);
    wider.send(Request::post("/v2/people/app/blobs/uploads/")).expect(401);
}

#[test]
fn a_narrow_token_does_not_widen_the_catalog() {
    let server = Server::start_plain(
        Backend::Directory,
        &format!(
            "access_policy.default_allow = true\nrepository.\"*\".access_policy.default_allow = false\n\
             repository.\"*\".access_policy.rules = [\"identity.username == 'ana'\"]\n\
             token.signing_key = {:?}\n[identity.ana]\nusername = \"ana\"\npassword = {:?}\n",
            tempfile::tempdir().unwrap().keep().join("token.key"),
            hash_password(PASSWORD).unwrap(),
        ),
    );
    let ana = server.client().with_password("ana", PASSWORD);
    Repo::new(ana.clone(), "secret").push_image("v1", &Image::new(&[10]));
    let listed = |client: Client| client.send(Request::get("/v2/_catalog")).expect(200).json().to_string();
    let token = |scope: &str| {
        let answer = ana.send(Request::get(format!("/token?scope={scope}"))).expect(200).json();
        server.client().with_token(answer["token"].as_str().unwrap())
    };
    assert!(listed(ana.clone()).contains("secret"));
    assert!(listed(token("registry:catalog:*")).contains("secret"));
    assert!(!listed(token("repository:a:pull")).contains("secret"));
    assert!(!listed(server.client()).contains("secret"));
}

#[test]
fn a_form_of_oauth_gets_a_token() {
    let client = WORLD.anonymous();
    let form = |body: &str| {
        let request = Request::post("/token").header("content-type", "application/x-www-form-urlencoded");
        client.send(request.body(body))
    };
    let password = PASSWORD.replace(' ', "+");
    let scope = "scope=repository%3Apeople%2Fapp%3Apull+repository%3Apeople%2Fother%3Apull";
    let answer =
        form(&format!("grant_type=password&service=x&client_id=test&username=ana&password={password}&{scope}"));
    let answer = answer.expect(200);
    assert_eq!(answer.required("cache-control"), "no-store");
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    for repository in ["app", "other"] {
        let list = Request::get(format!("/v2/people/{repository}/tags/list"));
        WORLD.anonymous().with_token(&token).send(list).expect(404);
    }
    form("grant_type=password&username=ana&password=wrong").expect(401);
    form("grant_type=refresh_token&refresh_token=x").expect(400);
    form("").expect(400);
    form(&"a=b&".repeat(1000)).expect(400);
    form(&format!("grant_type=password&x={}", "y".repeat(100_000))).expect(413);
    let scope = |query: &str| client.send(Request::get(format!("/token?{query}"))).expect(200).json()["scope"].clone();
    assert_eq!(scope("scope=nonsense"), "");
    let mixed = "scope=repository:localhost:5000/a:pull+repository:people/app:pull+pull&scope=repository:A:push";
    assert_eq!(scope(mixed), "repository:people/app:pull", "what cannot be read is left out");
    let form_of_nobody = form("grant_type=password&username=&password=&scope=repository:everyone/app:pull").expect(200);
    assert_eq!(form_of_nobody.json()["scope"], "repository:everyone/app:pull");
    client.send(Request::delete("/token")).expect(405);
}
