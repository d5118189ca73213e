//! `If-Match` and `If-None-Match` of a write.

use crate::support::client::Request;
use crate::support::content::Image;
use crate::support::repo::Repo;

fn a_write_whose_condition_does_not_hold_is_412_and_writes_nothing(repo: &Repo) {
    let [first, second, third] = [(); 3].map(|()| Image::new(&[10]));
    repo.push_image("t", &first);
    for image in [&second, &third] {
        repo.push_image("other", image);
    }
    let etag = repo.get_manifest("t").expect(200).required("etag").to_owned();
    let put = |tag: &str, image: &Image, name: &str, value: &str| {
        repo.send(repo.put_manifest(tag, &image.manifest).header(name, value))
    };
    put("t", &second, "if-match", &etag).expect(201);
    for (name, value) in [
        ("if-match", etag.as_str()),
        ("if-match", "\"x\""),
        ("if-match", ""),
        ("if-none-match", "*"),
        ("if-none-match", &format!("\"{}\"", second.manifest.digest())),
        ("if-none-match", &format!("W/\"{}\"", second.manifest.digest())),
        ("if-match", &format!("W/\"{}\"", second.manifest.digest())),
    ] {
        let errors = put("t", &third, name, value).expect_error(412, "DENIED");
        assert!(errors[0]["message"].as_str().unwrap().contains(&second.manifest.digest()), "{errors:?}");
        assert_eq!(repo.pull_image("t"), second.manifest.digest(), "{name}: {value}");
    }
    put("new", &third, "if-match", "*").expect_error(412, "DENIED");
    put("new", &third, "if-none-match", "*").expect(201);
    put("new", &first, "if-match", &format!("{etag}, \"{}\"", third.manifest.digest())).expect(201);
    let delete = |value: &str| repo.send(Request::delete(repo.manifest_path("new")).header("if-match", value));
    delete("\"x\"").expect_error(412, "DENIED");
    delete(&etag).expect(202);
    repo.get_manifest("new").expect(404);
}

crate::support::on_each_backend!(shared: a_write_whose_condition_does_not_hold_is_412_and_writes_nothing);
