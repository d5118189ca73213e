//! The messages about wrong files, word for word.

use super::{HASH, read, told};

#[test]
fn an_unknown_key_is_refused_with_a_close_one() {
    let expected = r"
error: `server.prot` is not a known key
 --> config.toml:3:1
  |
3 | prot = 5001
  | ^^^^
help: did you mean `port`?";
    assert_eq!(told("[server]\nbind_address = \"::\"\nprot = 5001\n"), expected.trim_start());
}

#[test]
fn a_misspelt_key_that_is_like_no_other_does_not_pass() {
    let expected = r"
error: `server.client_ca_bundel` is not a known key
 --> config.toml:2:1
  |
2 | client_ca_bundel = [hidden]
  | ^^^^^^^^^^^^^^^^
help: did you mean `client_ca_bundle`, which belongs to `[server.tls]`?";
    assert_eq!(told("[server]\nclient_ca_bundel = \"/etc/ca.pem\""), expected.trim_start());
    let expected = r"
error: `server.certificates` is not a known key
 --> config.toml:2:1
  |
2 | certificates = [hidden]
  | ^^^^^^^^^^^^
help: remove it; `[server]` knows bind_address, hosts, port, query_timeout, query_timeout_grace_period, streaming_chunk_size, tls, trusted_proxies";
    assert_eq!(told("[server]\ncertificates = \"/etc/ca.pem\""), expected.trim_start());
}

#[test]
fn a_key_in_the_wrong_table_is_refused_naming_its_own() {
    let expected = r#"
error: `storage.root_dir` is not a known key
 --> config.toml:2:3
  |
2 |   root_dir = "/srv"
  |   ^^^^^^^^
help: `root_dir` belongs to `[storage.fs]`"#;
    assert_eq!(told("[storage]\n\troot_dir = \"/srv\"\r\n".replace('\t', "  ").as_str()), expected.trim_start());
}

#[test]
fn an_unknown_table_is_refused_with_a_close_one() {
    let expected = r"
error: `observability.log` is not a known key
 --> config.toml:1:16
  |
1 | [observability.log]
  |                ^^^
help: did you mean `logs`?";
    assert_eq!(told("[observability.log]\nlevel = \"info\""), expected.trim_start());
}

#[test]
fn a_value_of_a_wrong_type_is_refused() {
    let expected = r#"
error: `server.port` must be an integer from 0 to 65535; this is text
  --> config.toml:10:8
   |
10 | port = "5000" # the usual one
   |        ^^^^^^
help: remove the quotes"#;
    assert_eq!(told(&format!("{}[server]\nport = \"5000\" # the usual one", "\n".repeat(8))), expected.trim_start());
}

#[test]
fn a_value_in_place_of_a_table_is_refused() {
    let expected = r"
error: `server` must be a table; this is an integer
 --> config.toml:1:10
  |
1 | server = 5000
  |          ^^^^
help: write `[server]` on a line of its own, and its keys below it";
    assert_eq!(told("server = 5000"), expected.trim_start());
}

#[test]
fn a_value_beyond_its_limits_is_refused() {
    let expected = r"
error: `max_concurrent_requests` must be an integer from 1 to 1000000
 --> config.toml:1:27
  |
1 | max_concurrent_requests = 0
  |                           ^
help: write for example `max_concurrent_requests = 50`";
    assert_eq!(told("max_concurrent_requests = 0"), expected.trim_start());
}

#[test]
fn a_rule_that_is_no_text_is_refused() {
    let expected = r#"
error: `repository."team/app".access_policy.rules[1]` must be a rule in CEL; this is a boolean
 --> config.toml:2:18
  |
2 | rules = ["true", true]
  |                  ^^^^
help: write for example `rules = []`"#;
    let text = "[repository.\"team/app\".access_policy]\nrules = [\"true\", true]";
    assert_eq!(told(text), expected.trim_start());
    let error = told("access_policy.rules = \"true\"");
    let expected = "`access_policy.rules` must be a list of up to 1000 rules in CEL of up to 4 KiB each; this is text";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn rules_beyond_the_limits_are_refused() {
    let longest = "1".repeat(4096);
    assert!(read(&[&format!("access_policy.rules = ['{longest}']")]).is_ok());
    let error = told(&format!("access_policy.rules = ['1', '{longest}1']"));
    assert!(error.contains("`access_policy.rules[1]` is a rule of 4097 bytes, and may have 4096"), "{error}");
    let rules = |count: usize| format!("access_policy.rules = [{}]", "'true',".repeat(count));
    assert_eq!(read(&[&rules(1000)]).expect("it is valid").access_policy.rules.len(), 1000);
    assert!(told(&rules(1001)).contains("has 1001 entries, and may have 1000"));
}

#[test]
fn a_password_that_is_no_hash_is_refused_unseen() {
    let expected = r"
error: `identity.ana.password` is not a hash of a password: an argon2 PHC string, or bcrypt
 --> config.toml:3:12
  |
3 | password = [hidden]
  |            ^^^^^^^^
help: make one with `simple-registry hash-password`, and write it between quotes";
    let text = "[identity.ana]\nusername = \"ana\"\npassword = \"correct horse\"";
    assert_eq!(told(text), expected.trim_start());
}

#[test]
fn two_identities_of_one_username_are_refused_at_the_later() {
    let one = format!("[identity.ana]\nusername = \"ana\"\npassword = '{HASH}'");
    let two = format!("[identity.a-second]\npassword = '{HASH}'\nusername = \"ana\"");
    let expected = r#"
error: `identity.a-second.username` is "ana", as is `identity.ana.username` (config.toml:2): no two identities have one username
 --> second.toml:3:12
  |
3 | username = "ana"
  |            ^^^^^
help: give one of the two another username"#;
    let error = read(&[&one, &two]).expect_err("two of one name").to_string();
    assert_eq!(error, expected.trim_start());
    assert!(read(&[&one, &two, "identity.ana.username = \"Ana\""]).is_ok(), "a later file made them two");
}

#[test]
fn half_of_the_tls_table_is_refused_naming_the_other_half() {
    let error = told("[server.tls]\nclient_auth = \"required\"\nclient_crl = \"a.crl\"");
    for key in ["server_certificate_bundle", "server_private_key"] {
        assert!(error.contains(&format!("error: `server.tls.{key}` is missing: `[server.tls]` needs it")), "{error}");
    }
    let expected = r#"
error: `server.tls.client_auth` is given without `server.tls.client_ca_bundle`: no certificate would be asked for
 --> config.toml:2:15
  |
2 | client_auth = "required"
  |               ^^^^^^^^^^
help: add `client_ca_bundle`, the authorities whose client certificates are accepted"#;
    assert!(error.contains(expected.trim_start()), "{error}");
    assert!(error.contains("error: `server.tls.client_crl` is given without"), "{error}");
    let whole = "[server.tls]\nserver_certificate_bundle = \"a\"\nserver_private_key = \"b\"\nclient_auth = ";
    assert!(read(&[&format!("{whole}\"optional\"")]).is_ok());
    assert!(read(&[&format!("{whole}\"required\"")]).is_err());
    assert!(read(&[&format!("{whole}\"required\""), "server.tls.client_ca_bundle = \"c\""]).is_ok());
    assert!(told("server.tls = true").contains("`server.tls` must be a table"));
}

#[test]
fn a_proxy_that_is_no_address_is_refused() {
    let expected = r#"
error: `server.trusted_proxies[1]` is an address inside of the network 10.0.0.0/8
 --> config.toml:1:39
  |
1 | server.trusted_proxies = ["10.1.2.3", "10.1.2.3/8"]
  |                                       ^^^^^^^^^^^^
help: write "10.1.2.3" for the one, "10.0.0.0/8" for the whole"#;
    let error = told("server.trusted_proxies = [\"10.1.2.3\", \"10.1.2.3/8\"]");
    assert_eq!(error, expected.trim_start());
    let error = told("server.trusted_proxies = [\"proxy.example.com\"]");
    assert!(error.contains("help: write addresses, not names"), "{error}");
}

#[test]
fn a_table_whose_name_is_no_namespace_is_refused() {
    let expected = r#"
error: `repository."Team/app"` is not a namespace: it consists of lower-case letters, digits, `.`, `_`, `-` and `/`
 --> config.toml:1:13
  |
1 | [repository."Team/app"]
  |             ^^^^^^^^^^
help: write `[repository."team/app"]`, or `[repository."*"]` for every repository that no other table covers"#;
    assert_eq!(told("[repository.\"Team/app\"]"), expected.trim_start());
}

#[test]
fn a_missing_value_is_refused_at_its_key() {
    let expected = r"
error: not valid TOML, at `server.port`: the value is missing
 --> config.toml:2:8
  |
2 | port =
  |       ^
help: a line is `key = value`, with text in quotes, or `[table]`";
    assert_eq!(told("[server]\nport = \nquery_timeout = 1"), expected.trim_start());
}

#[test]
fn a_line_that_stops_being_toml_is_refused_where_it_stops() {
    let expected = r#"
error: not valid TOML, at `max_blob_size`: unexpected key or value, expected newline, `#`
 --> config.toml:1:26
  |
1 | max_blob_size = "100GiB" oops
  |                          ^
help: a line is `key = value`, with text in quotes, or `[table]`"#;
    assert_eq!(told("max_blob_size = \"100GiB\" oops\n"), expected.trim_start());
}

#[test]
fn a_key_given_twice_is_refused_at_the_second() {
    let expected = r"
error: `server.port` is given twice in one file, first in line 2
 --> config.toml:4:1
  |
4 | port = 2
  | ^^^^
help: keep one of the two

error: `server` is given twice in one file, first in line 1
 --> config.toml:5:2
  |
5 | [server]
  |  ^^^^^^
help: keep one of the two";
    assert_eq!(told("[server]\nport = 1\n\nport = 2\n[server]\n"), expected.trim_start());
}

#[test]
fn a_bucket_without_its_keys_is_refused_naming_each() {
    let error = told("[storage.s3]\nregion = \"eu\"\nbucket = \"b\"");
    let expected = r#"
error: `storage.s3.access_key_id` is missing: `[storage.s3]` needs it
 --> config.toml:1:10
  |
1 | [storage.s3]
  |          ^^
help: add `access_key_id = "<id>"` to `[storage.s3]`"#;
    assert!(error.starts_with(expected.trim_start()), "{error}");
    for key in ["secret_key", "endpoint"] {
        assert!(error.contains(&format!("error: `storage.s3.{key}` is missing")), "{error}");
    }
    assert!(!error.contains("storage.s3.bucket"), "{error}");
}

#[test]
fn a_long_line_is_cut_around_the_caret() {
    let error = told(&format!("max_blob_size = \"{}\"{}", "9".repeat(500), " # x".repeat(100)));
    assert!(error.lines().all(|line| line.chars().count() < 220), "{error}");
    let error = told(&format!("rules = [{} ä = 1", "1,".repeat(300)));
    let lines: Vec<&str> = error.lines().collect();
    let caret = lines[4].chars().position(|c| c == '^').expect("a caret");
    assert_eq!(lines[3].chars().nth(caret), Some('='), "{error}");
}
