//! `simple-registry policy explain --retention`: what becomes of the images of a repository, and why.

use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::json;

use super::{super::format::Format, Wrong};
use crate::{
    app,
    config::Config,
    oci::Name,
    policy::{Image, Policy},
    scrub,
};

/// Shows which rule keeps each tag, or that none does.
pub(super) fn run(config: &Config, policy: &Policy, repository: &Name, format: Format) -> Result<ExitCode, Wrong> {
    let images = images(config, repository)?;
    if images.is_empty() {
        return Err(Wrong::Sentence(format!(
            "error: {repository} has no tags in the {}; name a repository that was pushed to, as its clients name it",
            app::location(config).place()
        )));
    }
    let explanation = policy.explain_retention(repository, &images, Timestamp::now());
    match (format, explanation) {
        (Format::Text, Some(explanation)) => print!("{explanation}"),
        (Format::Text, None) => {
            println!("no retention rule covers {repository}: everything stays");
        }
        (Format::Json, Some(explanation)) => {
            println!("{}", json!({ "repository": repository, "covered": true, "retention": explanation }));
        }
        (Format::Json, None) => println!("{}", json!({ "repository": repository, "covered": false })),
    }
    Ok(ExitCode::SUCCESS)
}

fn images(config: &Config, repository: &Name) -> Result<Vec<Image>, Wrong> {
    let sentence = |error: &dyn std::fmt::Display| Wrong::Sentence(format!("error: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| sentence(&error))?.block_on(async {
        let store = app::open_store(config).await.map_err(|error| sentence(&error))?;
        scrub::images(&store, config, repository).await.map_err(|error| sentence(&error))
    })
}
