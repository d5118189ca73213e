//! The values that retention rules see: an image, and the tags of its repository in their order.
//!
//! At evaluation a time is a number of microseconds, and so is a duration: what the two can do is checked before.
//! A loop over the tags of a repository says the same for each image of it, since it cannot name one: it is evaluated
//! once for a rule and a repository, so that what a rule costs does not grow with the square of the repository.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use cel::{
    ExecutionError,
    common::{
        traits::{self, Container, Indexer, Iterable, Sizer},
        types::{CelBool, CelInt, CelList, CelString, LIST_TYPE, MAP_TYPE, Type},
        value::{CowVal, StaticVal, Val},
    },
    context::VariableResolver,
};
use jiff::Timestamp;

use super::{
    Condition,
    evaluate::{Facts, value_of},
    types::IMAGES,
};
use crate::policy::retention::Image;

/// Microseconds of a day, an hour, a minute.
pub(super) const DAY: i64 = 24 * HOUR;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const MINUTE: i64 = 60_000_000;

/// The name of the time at which the rules are asked.
pub(super) const NOW: &str = "$now";

/// Tags in an order, each of which is found without a search.
#[derive(Clone, Debug)]
pub(super) struct Tags(Arc<Order>);

#[derive(Debug)]
struct Order {
    tags: Vec<CelString<'static>>,
    places: HashMap<CelString<'static>, usize, foldhash::fast::RandomState>,
}

impl Tags {
    fn new(tags: impl Iterator<Item = String>) -> Self {
        let tags: Vec<CelString<'static>> = tags.map(CelString::from).collect();
        let mut places = HashMap::with_capacity_and_hasher(tags.len(), foldhash::fast::RandomState::default());
        for (place, tag) in tags.iter().enumerate() {
            places.entry(tag.clone()).or_insert(place);
        }
        Self(Arc::new(Order { tags, places }))
    }

    /// Tags of images by a time, the newest first, and by name where two have one time; those without it are left out.
    fn by(images: &[Image], time: impl Fn(&Image) -> Option<Timestamp>) -> Self {
        let tagged = images.iter().filter(|image| !image.tag.is_empty());
        let mut tags: Vec<(Timestamp, &str)> =
            tagged.filter_map(|image| Some((time(image)?, image.tag.as_str()))).collect();
        tags.sort_unstable_by(|(one, this), (two, that)| two.cmp(one).then_with(|| this.cmp(that)));
        Self::new(tags.into_iter().map(|(_, tag)| tag.to_owned()))
    }

    /// Where a tag stands, from 0.
    pub(super) fn place(&self, tag: &CelString<'_>) -> Option<usize> {
        self.0.places.get(tag).copied()
    }
}

impl Val for Tags {
    fn get_type(&self) -> &Type {
        &LIST_TYPE
    }

    fn cel_type() -> &'static Type {
        &LIST_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Tags {}

impl Container for Tags {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(value.downcast_ref::<CelString<'_>>().is_some_and(|tag| self.place(tag).is_some()))
    }
}

impl Sizer for Tags {
    fn size(&self) -> CelInt {
        CelInt::from(i64::try_from(self.0.tags.len()).unwrap_or(i64::MAX))
    }
}

impl Indexer for Tags {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let index = index.downcast_ref::<CelInt>().map(|index| *index.inner());
        let tag = index.and_then(|index| self.0.tags.get(usize::try_from(index).ok()?));
        tag.map(|tag| CowVal::Borrowed(tag as &dyn Val))
            .ok_or_else(|| ExecutionError::IndexOutOfBounds(index.unwrap_or(-1).into()))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl Iterable for Tags {
    fn iter<'b, 'v>(&'b self) -> Box<dyn traits::Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Iter(self.0.tags.iter()))
    }
}

struct Iter<'b>(std::slice::Iter<'b, CelString<'static>>);

impl<'b, 'v> traits::Iterator<'b, 'v> for Iter<'b> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|tag| tag as &dyn Val)
    }
}

/// Annotations, of which one that is not there is empty.
#[derive(Clone, Copy, Debug)]
struct Annotations<'a>(&'a BTreeMap<String, String>);

impl Val for Annotations<'_> {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl Container for Annotations<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(value.downcast_ref::<CelString<'_>>().is_some_and(|key| self.0.contains_key(key.inner())))
    }
}

impl Sizer for Annotations<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(i64::try_from(self.0.len()).unwrap_or(i64::MAX))
    }
}

impl Indexer for Annotations<'_> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let key = key.downcast_ref::<CelString<'_>>();
        let value = key.and_then(|key| self.0.get(key.inner())).map_or("", String::as_str);
        Ok(CowVal::owned(CelString::from(value)))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

/// `top(tag, list, count)` of a list that is no list of the repository's tags.
pub(super) fn among_first(tag: &CelString<'_>, list: &CelList<'_>, count: i64) -> bool {
    let count = usize::try_from(count).unwrap_or(0);
    list.inner().iter().take(count).any(|entry| entry.downcast_ref::<CelString<'_>>() == Some(tag))
}

/// What is the same for all images of a repository.
pub(in crate::policy) struct Tagged {
    now: CelInt,
    last_pushed: Tags,
    last_pulled: Tags,
}

impl Tagged {
    pub(in crate::policy) fn new(images: &[Image], now: Timestamp) -> Self {
        Self {
            now: CelInt::from(now.as_microsecond()),
            last_pushed: Tags::by(images, |image| image.pushed_at),
            last_pulled: Tags::by(images, |image| image.last_pulled_at),
        }
    }

    /// Where a tag stands among those pushed last, and among those pulled last, from 0.
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
            "image.pushed_at" => self.pushed_at.as_ref()?,
            "image.last_pulled_at" => self.last_pulled_at.as_ref()?,
            "image.annotations" => &self.annotations,
            "image.immutable" => &self.immutable,
            _ => return None,
        })
    }
}

/// What a loop over tags yields.
#[derive(Debug)]
enum Shared {
    Tags(Tags),
    Bool(CelBool),
}

/// A condition that is asked about the images of one repository.
pub(in crate::policy) struct Asked<'r> {
    condition: &'r Condition,
    tagged: &'r Tagged,
    shared: Vec<OnceLock<Result<Shared, &'static str>>>,
}

impl<'r> Asked<'r> {
    pub(in crate::policy) fn new(condition: &'r Condition, tagged: &'r Tagged) -> Self {
        Self { condition, tagged, shared: condition.shared.iter().map(|_| OnceLock::new()).collect() }
    }

    /// Whether the condition holds for an image; the error says shortly why that cannot be known.
    pub(in crate::policy) fn holds(&self, image: &Values<'_>) -> Result<bool, &'static str> {
        let facts = About { asked: self, image: Some(image) };
        let holds = || {
            value_of(&self.condition.expression, &facts, |value| value.downcast_ref::<CelBool>().map(|it| *it.inner()))
        };
        // what is not foreseen keeps, and stops nothing else
        catch_unwind(AssertUnwindSafe(holds)).unwrap_or(Err("it cannot be evaluated"))
    }

    fn shared(&self, index: usize) -> Option<&Result<Shared, &'static str>> {
        let (cell, expression) = self.shared.get(index).zip(self.condition.shared.get(index))?;
        let facts = About { asked: self, image: None };
        Some(cell.get_or_init(|| {
            let value = || value_of(expression, &facts, shared);
            catch_unwind(AssertUnwindSafe(value)).unwrap_or(Err("it cannot be evaluated"))
        }))
    }
}

fn shared(value: &dyn Val) -> Option<Shared> {
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        let text =
            |entry: &Box<dyn Val + '_>| entry.downcast_ref::<CelString<'_>>().map(|text| text.inner().to_owned());
        let texts: Option<Vec<String>> = list.inner().iter().map(text).collect();
        return texts.map(|texts| Shared::Tags(Tags::new(texts.into_iter())));
    }
    value.downcast_ref::<CelBool>().map(|it| Shared::Bool(*it))
}

/// The variables of a condition, for an image or, in loops over tags, for none.
struct About<'r, 'a> {
    asked: &'r Asked<'r>,
    image: Option<&'r Values<'a>>,
}

impl VariableResolver for About<'_, '_> {
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

impl Facts for About<'_, '_> {
    fn missing(&self, variable: &str) -> Option<&'static str> {
        let (kind, index) = variable.split_at_checked(2)?;
        let index: usize = index.parse().ok()?;
        match kind {
            "$i" => match IMAGES.get(index)?.0 {
                "image.pushed_at" => Some("when the image was pushed is not known"),
                "image.last_pulled_at" => Some("when the image was last pulled is not known"),
                _ => None,
            },
            "$s" => self.asked.shared(index)?.as_ref().err().copied(),
            _ => None,
        }
    }
}
