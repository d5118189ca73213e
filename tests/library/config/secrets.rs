//! Secrets are never shown.

use super::{HASH, read, told};

const SECRET: &str = "hunter2";

#[test]
fn debug_output_has_no_secret_key() {
    let text =
        "[storage.s3]\naccess_key_id = \"id\"\nsecret_key = \"hunter2\"\nendpoint = \"http://a\"\nbucket = \"b\"";
    let shown = format!("{:?}", read(&[text]).expect("it is valid"));
    assert!(shown.contains("secret_key") && !shown.contains(SECRET), "{shown}");
}

#[test]
fn a_line_with_a_secret_is_shown_without_it() {
    let expected = r#"
error: not valid TOML, at `storage.s3.secret_key`: invalid basic string, expected `"`
 --> config.toml:2:22
  |
2 | secret_key = [hidden]
  |                      ^
help: a line is `key = value`, with text in quotes, or `[table]`"#;
    assert_eq!(told("[storage.s3]\nsecret_key = \"hunter2"), expected.trim_start());
}

/// Each of these is wrong in the line of the secret, or after it.
#[test]
fn no_error_shows_a_secret_key() {
    let wrong = [
        "secret_key = hunter2",
        "secret_key = 'hunter2",
        "secret_key = \"hunter2\" \"x\"",
        "secret_key \"hunter2\"",
        "secret_key hunter2",
        "secret_key: hunter2",
        "secret_key:hunter2",
        "secret_key == \"hunter2\"",
        "secret_key => \"hunter2\"",
        "secret_key = [\"hunter2\"]",
        "secret_key = [\n\"hunter2\"\n]",
        "secret_key = [\n1 2, \"hunter2\"\n]",
        "secret_key = { a = \"hunter2\" }",
        "secret_key = \"\"\"\nhunter2\n",
        "secret_key = '''\nhunter2 ''' x",
        "secret_key =\n\"hunter2\"",
        "secret_key\n= \"hunter2\"",
        "secret_key = \"a hunter2\"",
        "secret_key = \"\\q hunter2\"",
        "\"secret_key\" = hunter2",
        "\"secret\\u005fkey\" = hunter2",
        "secret_key = \"hunter2\"\nsecret_key = \"hunter2\"",
        "secert_key = \"hunter2\"",
        "Secret_Key = \"hunter2\"",
        "secret-key = \"hunter2\"",
        "secretkey = \"hunter2\"",
        "aws_secret_access_key = \"hunter2\"",
        "something_else = \"hunter2\"",
        "region = 5 # secret_key = \"hunter2\"",
        "region = 5 # the secret is hunter2",
        "region = \"x\" secret_key = \"hunter2\"",
        "s3 = { secret_key = \"hunter2\" }",
        "endpoint = \"http://user:hunter2@127.0.0.1\"",
        "endpoint = \"http://user:hunter2/x@127.0.0.1\"",
        "endpoint = \"http://:hunter2@127.0.0.1\"",
        "endpoint = http://user:hunter2@127.0.0.1",
    ];
    for line in wrong {
        for text in
            [format!("[storage.s3]\n{line}"), format!("storage.s3.{line}"), format!("storage.s3 = {{ {line} }}")]
        {
            let error = match read(&[&text]) {
                Ok(_) => panic!("this is valid, and should not be:\n{text}"),
                Err(error) => format!("{error}\n{error:?}"),
            };
            assert!(!error.contains(SECRET), "{text}\n{error}");
        }
    }
}

#[test]
fn debug_output_has_no_hash_of_a_password() {
    let text = format!("[identity.ana]\nusername = \"ana\"\npassword = '{HASH}'");
    let shown = format!("{:?}", read(&[&text]).expect("it is valid"));
    assert!(shown.contains("username: \"ana\"") && !shown.contains("argon2"), "{shown}");
}

/// A password in the place of a hash, spelt and placed in many ways.
#[test]
fn no_error_shows_a_password() {
    let wrong = [
        "password = \"hunter2\"",
        "password = 'hunter2'",
        "password = '''hunter2'''",
        "password = hunter2",
        "password: hunter2",
        "password \"hunter2\"",
        "password = [\"hunter2\"]",
        "password = { plain = \"hunter2\" }",
        "password = \"$argon2id$hunter2\"",
        "password = \"$2y$10$hunter2\"",
        "\"password\" = \"hunter2\"",
        "Password = \"hunter2\"",
        "passwd = \"hunter2\"",
        "pass = \"hunter2\"",
        "pw = \"hunter2\"",
        "password_hash = \"hunter2\"",
        "username = \"ana:hunter2\"",
        "username = 'ana:hunter2",
        "groups = 5 # password hunter2",
    ];
    for line in wrong {
        for text in [
            format!("[identity.ana]\n{line}"),
            format!("identity.ana.{line}"),
            format!("identity.ana = {{ {line} }}"),
            format!("identity = {{ ana = {{ {line} }} }}"),
            format!("[identity]\nana.{line}"),
        ] {
            let error = match read(&[&text]) {
                Ok(_) => panic!("this is valid, and should not be:\n{text}"),
                Err(error) => format!("{error}\n{error:?}"),
            };
            assert!(!error.contains(SECRET), "{text}\n{error}");
        }
    }
    let error = told("identity.ana = \"hunter2\"");
    assert!(!error.contains(SECRET), "{error}");
}

#[test]
fn the_table_of_tokens_is_no_secret() {
    let error = told("token.ttl = 5\n[audit]\nmax_size = -1");
    assert!(error.contains("1 | token.ttl = 5\n"), "{error}");
    assert!(told("[token]\nttl = 5").contains("2 | ttl = 5\n"));
    assert!(!told("token.hunter2").contains(SECRET));
    assert!(!told("token = \"hunter2\"").contains(SECRET));
}

#[test]
fn a_line_without_a_secret_is_shown() {
    let error = told("[repository.\"token-service\"]\nx = 1");
    assert!(error.contains("2 | x = 1"), "{error}");
    let error = told("[repository.\"token-service_\"]");
    assert!(error.contains("1 | [repository.\"token-service_\"]\n"), "{error}");
    let error = told("[storage.s3]\nsecret_key = \"hunter2\"\n\nprot = 5\n# more\n[sevrer]\n[server]\nprot = 6");
    for line in ["4 | prot = 5\n", "6 | [sevrer]\n", "8 | prot = 6\n"] {
        assert!(error.contains(line), "{error}");
    }
    let error = told("storage.s3.endpoint = \"127.0.0.1:9000\"");
    assert!(error.contains("1 | storage.s3.endpoint = \"127.0.0.1:9000\"\n"), "{error}");
}
