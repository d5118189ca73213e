//! Lists and maps of retention rules: of the tags of a repository, and of annotations.

use std::{any::Any, collections::BTreeMap, sync::Arc};

use cel::{
    ExecutionError,
    common::{
        traits::{self, Container, Indexer, Iterable, Sizer},
        types::{CelInt, CelList, CelString, LIST_TYPE, MAP_TYPE, Type},
        value::{CowVal, StaticVal, Val},
    },
};
use jiff::Timestamp;

use crate::policy::image::Image;

/// Tags in an order, or some of them, each of which is found without going over all. Picked tags are known by
/// their places, so that a rule which picks many does not hold them once more.
#[derive(Clone, Debug)]
pub(super) struct Tags {
    order: Arc<Order>,
    /// The places of those that were picked, ascending; none: all of them.
    picked: Option<Arc<[usize]>>,
}

#[derive(Debug)]
struct Order {
    tags: Vec<CelString<'static>>,
    /// The places in the order of the tags' names.
    by_name: Vec<usize>,
}

impl Tags {
    fn new(tags: impl Iterator<Item = String>) -> Self {
        let tags: Vec<CelString<'static>> = tags.map(CelString::from).collect();
        let mut by_name: Vec<usize> = (0..tags.len()).collect();
        by_name.sort_by_key(|place| tags[*place].inner());
        Self { order: Arc::new(Order { tags, by_name }), picked: None }
    }

    /// Orders the tags of images by a time, the newest first, and by name if two have one time. Leaves out tags without it.
    pub(super) fn by(images: &[Image], time: impl Fn(&Image) -> Option<Timestamp>) -> Self {
        let tagged = images.iter().filter(|image| !image.tag.is_empty());
        let mut tags: Vec<(Timestamp, &str)> =
            tagged.filter_map(|image| Some((time(image)?, image.tag.as_str()))).collect();
        tags.sort_unstable_by(|(one, this), (two, that)| two.cmp(one).then_with(|| this.cmp(that)));
        Self::new(tags.into_iter().map(|(_, tag)| tag.to_owned()))
    }

    /// Returns the tags that a list has, in this order. None: the list has something else.
    pub(super) fn pick(&self, list: &CelList<'_>) -> Option<Self> {
        let place = |entry: &dyn Val| self.order.place(entry.downcast_ref::<CelString<'_>>()?);
        let places: Option<Vec<usize>> = list.inner().iter().map(|entry| place(entry.as_ref())).collect();
        Some(Self { order: Arc::clone(&self.order), picked: Some(places?.into()) })
    }

    fn len(&self) -> usize {
        self.picked.as_ref().map_or(self.order.tags.len(), |picked| picked.len())
    }

    fn tag(&self, place: usize) -> Option<&CelString<'static>> {
        let place = match &self.picked {
            Some(picked) => *picked.get(place)?,
            None => place,
        };
        self.order.tags.get(place)
    }

    /// Returns the place of a tag, from 0.
    pub(super) fn place(&self, tag: &CelString<'_>) -> Option<usize> {
        let place = self.order.place(tag)?;
        self.picked.as_ref().map_or(Some(place), |picked| picked.binary_search(&place).ok())
    }
}

impl Order {
    fn place(&self, tag: &CelString<'_>) -> Option<usize> {
        let first = self.by_name.partition_point(|place| self.tags[*place].inner() < tag.inner());
        self.by_name.get(first).copied().filter(|place| self.tags[*place].inner() == tag.inner())
    }
}

/// Implements the parts that lists and maps share: a type, and the ways to look into them.
macro_rules! of_many {
    ($type:ident) => {
        fn get_type(&self) -> &Type {
            &$type
        }

        fn cel_type() -> &'static Type {
            &$type
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
    };
}

impl Val for Tags {
    of_many!(LIST_TYPE);

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
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
        CelInt::from(i64::try_from(self.len()).unwrap_or(i64::MAX))
    }
}

impl Indexer for Tags {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let index = index.downcast_ref::<CelInt>().map(|index| *index.inner());
        let tag = index.and_then(|index| self.tag(usize::try_from(index).ok()?));
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
        Box::new(Iter { tags: self, next: 0 })
    }
}

struct Iter<'b> {
    tags: &'b Tags,
    next: usize,
}

impl<'b, 'v> traits::Iterator<'b, 'v> for Iter<'b> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.next += 1;
        self.tags.tag(self.next - 1).map(|tag| tag as &dyn Val)
    }
}

/// Annotations, of which one that is not there is empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Annotations<'a>(pub(super) &'a BTreeMap<String, String>);

impl Val for Annotations<'_> {
    of_many!(MAP_TYPE);

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

/// Returns `top(tag, list, count)` of a list that is no list of the repository's tags.
pub(super) fn among_first(tag: &CelString<'_>, list: &CelList<'_>, count: i64) -> bool {
    let count = usize::try_from(count).unwrap_or(0);
    list.inner().iter().take(count).any(|entry| entry.downcast_ref::<CelString<'_>>() == Some(tag))
}
