//! The values that retention rules see: an image, and the tags of its repository in their order.
//!
//! Evaluation knows times and durations as numbers of microseconds, since their types were checked before. A loop over the
//! tags of a repository cannot name an image, so its result is the same for each. It is evaluated once for a rule and a
//! repository, so the cost of a rule does not grow with the square of the repository.

use std::sync::OnceLock;

use cel::{
    common::{
        types::{CelBool, CelInt, CelList, CelString},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use jiff::Timestamp;

use super::{
    condition::Condition,
    evaluate::{NOW, VariableSource, boolean, value_of},
    tags::{Annotations, Tags},
    types::{IMAGES, LAST_PULLED_AT, PUSHED_AT},
};
use crate::policy::image::Image;

/// Microseconds of a day, an hour, a minute.
pub(super) const DAY: i64 = 24 * HOUR;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const MINUTE: i64 = 60_000_000;

/// The values that are the same for all images of a repository: the time, and its tags in their orders.
pub(in crate::policy) struct RepositoryTags {
    now: CelInt,
    last_pushed: Tags,
    last_pulled: Tags,
}

impl RepositoryTags {
    pub(in crate::policy) fn new(images: &[Image], now: Timestamp) -> Self {
        Self {
            now: CelInt::from(now.as_microsecond()),
            last_pushed: Tags::by(images, |image| image.pushed_at),
            last_pulled: Tags::by(images, |image| image.last_pulled_at),
        }
    }

    /// Returns the place of a tag among those pushed last, and among those pulled last, from 0.
    pub(in crate::policy) fn places(&self, tag: &str) -> (Option<usize>, Option<usize>) {
        let tag = CelString::from(tag);
        (self.last_pushed.place(&tag), self.last_pulled.place(&tag))
    }
}

/// The values of one image.
pub(in crate::policy) struct Values<'a> {
    tag: CelString<'a>,
    digest: CelString<'a>,
    media_type: CelString<'a>,
    size: CelInt,
    pushed_at: Option<CelInt>,
    last_pulled_at: Option<CelInt>,
    annotations: Annotations<'a>,
    immutable: CelBool,
}

impl<'a> Values<'a> {
    pub(in crate::policy) fn new(image: &'a Image) -> Self {
        let time = |time: Option<Timestamp>| time.map(|time| CelInt::from(time.as_microsecond()));
        Self {
            tag: CelString::from(image.tag.as_str()),
            digest: CelString::from(image.digest.as_str()),
            media_type: CelString::from(image.media_type.as_str()),
            size: CelInt::from(i64::try_from(image.size).unwrap_or(i64::MAX)),
            pushed_at: time(image.pushed_at),
            last_pulled_at: time(image.last_pulled_at),
            annotations: Annotations(&image.annotations),
            immutable: CelBool::from(image.immutable),
        }
    }

    fn get(&self, path: &str) -> Option<&dyn Val> {
        Some(match path {
            "image.tag" => &self.tag,
            "image.digest" => &self.digest,
            "image.media_type" => &self.media_type,
            "image.size" => &self.size,
            PUSHED_AT => self.pushed_at.as_ref()?,
            LAST_PULLED_AT => self.last_pulled_at.as_ref()?,
            "image.annotations" => &self.annotations,
            "image.immutable" => &self.immutable,
            _ => return None,
        })
    }
}

/// The result of a loop over tags.
#[derive(Debug)]
enum Shared {
    Tags(Tags),
    Bool(CelBool),
}

/// A condition about the images of one repository.
pub(in crate::policy) struct ImageQuery<'r> {
    condition: &'r Condition,
    tagged: &'r RepositoryTags,
    shared: Vec<OnceLock<Result<Shared, &'static str>>>,
}

impl<'r> ImageQuery<'r> {
    pub(in crate::policy) fn new(condition: &'r Condition, tagged: &'r RepositoryTags) -> Self {
        Self { condition, tagged, shared: condition.shared.iter().map(|_| OnceLock::new()).collect() }
    }

    /// Returns whether the condition holds for an image. The error says shortly why that cannot be known.
    pub(in crate::policy) fn holds(&self, image: &Values<'_>) -> Result<bool, &'static str> {
        value_of(&self.condition.expression, &ImageVariables { asked: self, image: Some(image) }, boolean)
    }

    fn shared(&self, index: usize) -> Option<&Result<Shared, &'static str>> {
        let (cell, (expression, by)) = self.shared.get(index).zip(self.condition.shared.get(index))?;
        let tags = if *by == PUSHED_AT { &self.tagged.last_pushed } else { &self.tagged.last_pulled };
        let facts = ImageVariables { asked: self, image: None };
        let take = |value: &dyn Val| match value.downcast_ref::<CelList<'_>>() {
            Some(list) => tags.pick(list).map(Shared::Tags),
            None => value.downcast_ref::<CelBool>().map(|value| Shared::Bool(*value)),
        };
        Some(cell.get_or_init(|| value_of(expression, &facts, take)))
    }
}

/// The variables of a condition, for an image or, in loops over tags, for none.
struct ImageVariables<'r, 'a> {
    asked: &'r ImageQuery<'r>,
    image: Option<&'r Values<'a>>,
}

impl VariableResolver for ImageVariables<'_, '_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let tagged = self.asked.tagged;
        if variable == NOW {
            return Some(CowVal::Borrowed(&tagged.now));
        }
        let (kind, index) = variable.split_at_checked(2)?;
        let index: usize = index.parse().ok()?;
        match kind {
            "$i" => match IMAGES.get(index)?.0 {
                "last_pushed" => Some(CowVal::Borrowed(&tagged.last_pushed)),
                "last_pulled" => Some(CowVal::Borrowed(&tagged.last_pulled)),
                path => self.image?.get(path).map(CowVal::Borrowed),
            },
            "$p" => self.asked.condition.patterns.get(index).map(|pattern| CowVal::Borrowed(pattern)),
            "$s" => match self.asked.shared(index)?.as_ref().ok()? {
                Shared::Tags(tags) => Some(CowVal::Borrowed(tags)),
                Shared::Bool(value) => Some(CowVal::Borrowed(value)),
            },
            _ => None,
        }
    }
}

impl VariableSource for ImageVariables<'_, '_> {
    fn missing(&self, variable: &str) -> Option<&'static str> {
        let (kind, index) = variable.split_at_checked(2)?;
        let index: usize = index.parse().ok()?;
        match kind {
            "$i" => match IMAGES.get(index)?.0 {
                PUSHED_AT => Some("when the image was pushed is not known"),
                LAST_PULLED_AT => Some("when the image was last pulled is not known"),
                _ => None,
            },
            "$s" => self.asked.shared(index)?.as_ref().err().copied(),
            _ => None,
        }
    }
}
