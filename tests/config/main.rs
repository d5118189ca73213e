//! The configuration.

use simple_registry::config::{Config, Source};

#[test]
fn show() {
    for t in ["port = 50 00\nx = 1\n", "[server\nport = 1\n", "[storage.s3]\nsecret_key: \"hunter2\"\n", "[server]\nport=1\nport=2\n[server]\nport=3\n", "[server]\nport = \n", "root_dir = 'x'\n", "[sevrer]\n", "[server]\nprot=1\nport='x'\nclient_ca_bundel=1\n", "[storage.s3]\nsecert_key='hunter2'\nsecret_key=[\n'hunter2']\nendpoint='http://a:hunter2@b'", "server=1", "storage=[]", "[observability.logs]\nformat='josn'\nlevel='inof'\n", "[repository.\"A/b\"]\nx=1", "[access_policy]\nrules=['a == \"b\"']", "verify_pulls='x'\nmax_blob_size='4MX'\ncache_ttl='1.5h'\nmax_concurrent_requests=0", "[observability.metrics]\nlisten='0.0.0.0:5000'", "[storage.fs]\n[storage.s3]"] {
        println!("==== {t}");
        match Config::from_sources(&[Source { name: "config.toml".into(), text: t.into() }]) {
            Ok(_) => println!("OK"),
            Err(e) => println!("{e}\n"),
        }
    }
}
