//! Runs `simple-registry policy explain --retention`: the images of a repository that would stay or go, with reasons.

use std::process::ExitCode;

use indicatif::HumanDuration;
use serde_json::json;

use super::{
    super::{format::Format, print},
    Wrong, tables,
};
use crate::{
    app,
    config::Config,
    oci::Name,
    policy::{ImageExplanation, Policy},
    scrub::{self, Tags},
};

/// Shows which rule keeps each tag, or that none does, or why none is asked.
pub(super) fn run(config: &Config, policy: &Policy, repository: &Name, format: Format) -> Result<ExitCode, Wrong> {
    let Tags { images, settles, others, lease, now, skew } = tags(config, policy, repository)?;
    if let Some(skew) = skew {
        print::error_line(format_args!("warning: {skew}"));
    }
    if images.is_empty() && others.is_empty() {
        return Err(Wrong::Sentence(format!(
            "error: {repository} has no tags in the {}; name a repository that was pushed to, as its clients name it",
            app::location(config).place()
        )));
    }
    let mut explanation = policy.explain_retention(repository, &images, now);
    if let Some(explanation) = &mut explanation {
        let expiry = HumanDuration(lease);
        for (image, settles) in explanation.images.iter_mut().zip(settles) {
            if let Some(from) = settles.filter(|_| explanation.enforced && !image.keep) {
                image.later = Some(format!("pushed less than {expiry} ago, so a run from {from:.0} on removes it"));
            }
        }
        let others = others.into_iter();
        let others = others.map(|other| ImageExplanation::not_judged(other.tag, other.digest, other.keep, other.why));
        explanation.images.extend(others);
        explanation.images.sort_by(|one, other| one.tag.cmp(&other.tag));
    }
    if format == Format::Json {
        let mut told = json!({
            "repository": repository,
            "covered": explanation.is_some(),
            "tables": tables::json(config, repository.as_str()),
        });
        if let Some(explanation) = explanation {
            told["retention"] = json!(explanation);
        }
        print::json(&told);
    } else {
        match explanation {
            Some(explanation) => print::text(explanation),
            None => print::line(format_args!("no retention rule covers {repository}: everything stays")),
        }
        print::text(format_args!("\n{}", tables::text(config, repository.as_str())));
    }
    Ok(ExitCode::SUCCESS)
}

fn tags(config: &Config, policy: &Policy, repository: &Name) -> Result<Tags, Wrong> {
    let sentence =
        |error: &dyn std::fmt::Display| Wrong::Sentence(format!("error: {}", print::one_line(&error.to_string())));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| sentence(&error))?.block_on(async {
        let store = app::open_store(config).await.map_err(|error| sentence(&error))?;
        scrub::tags(&store, config, policy, repository).await.map_err(|error| sentence(&error))
    })
}
