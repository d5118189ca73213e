//! The configuration: the meaning of its files, the messages about wrong files, and the truth of its reference.

mod access;
mod changes;
mod errors;
mod meaning;
mod properties;
mod reference;
mod schema;
mod secrets;
mod several;
mod upstreams;

use simple_registry::{
    config::Config,
    diagnostics::{Problems, Source},
};

/// Hashes of the right form. No password is known to have them.
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$AAECAwQFBgcICQoLDA0ODxAREhM";
const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuuBg5HxTkSPEUbfTuYbCYdkJ5pP9O3Lfu";

/// Reads texts as files called `config.toml`, `second.toml` and `third.toml`.
fn read(texts: &[&str]) -> Result<Config, Problems> {
    let names = ["config.toml", "second.toml", "third.toml"];
    let source = |(text, name): (&&str, &str)| Source::new(name, *text);
    Config::from_sources(&texts.iter().zip(names).map(source).collect::<Vec<_>>())
}

/// Returns the message about a wrong file.
fn told(text: &str) -> String {
    match read(&[text]) {
        Ok(_) => panic!("this is valid, and should not be:\n{text}"),
        Err(error) => error.to_string(),
    }
}
