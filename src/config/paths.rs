//! Checks texts of the configuration: paths, names of buckets, levels of the log.

use std::{
    env,
    path::{Component, PathBuf},
};

/// Accepts a path that is not empty, without the one character that no path has.
pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
}

/// Returns the place of something that the server writes. A relative path begins at the directory that systemd gives a
/// service (`StateDirectory=`), and without one at the working directory.
pub(super) fn written(path: PathBuf) -> PathBuf {
    let given = env::var_os("STATE_DIRECTORY").unwrap_or_default();
    // systemd names several with colons between
    match env::split_paths(&given).next().filter(|state| state.is_absolute()) {
        Some(state) => state.join(path).components().filter(|part| *part != Component::CurDir).collect(),
        None => path,
    }
}

pub(super) fn one_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

pub(super) fn bucket(text: &str) -> Option<String> {
    (one_word(text) && !text.contains('/') && text.len() <= 255).then(|| text.to_owned())
}

/// Accepts the name of a host without a port.
pub(super) fn host(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

/// Accepts a path of segments. The slash at its end may be written or not.
pub(super) fn key_prefix(text: &str) -> Option<String> {
    let prefix = text.strip_suffix('/').unwrap_or(text);
    let is_segment = |part: &str| one_word(part) && !matches!(part, "." | "..");
    (text.is_empty() || prefix.split('/').all(is_segment) && prefix.len() <= 255).then(|| prefix.to_owned())
}

/// Accepts a list of levels, each for the whole log or for one target.
pub(super) fn levels(text: &str) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_target = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
    let valid = text.split(',').all(|directive| match directive.split_once('=') {
        None => LEVELS.contains(&directive),
        Some((target, level)) => LEVELS.contains(&level) && !target.is_empty() && target.chars().all(is_target),
    });
    valid.then(|| text.to_owned())
}
