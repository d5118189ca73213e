//! Checks the shape of a manifest's JSON, so that every reader reads the same out of its bytes.
//!
//! Readers differ where JSON is loose. Go's decoder takes `Layers` for `layers`. Of a key that is there twice, some readers
//! take the first value and some the last. Some parsers read an array as an object. This check refuses all of these in the
//! fields that the registry reads, and leaves other fields alone. It keeps nothing of the manifest.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The shape that a value of a manifest has to have.
#[derive(Clone, Copy)]
enum Shape {
    Manifest,
    Descriptor,
    Descriptors,
    Annotations,
    Texts,
    Text,
    Number,
}

/// A field that the registry reads.
struct Field {
    name: &'static str,
    shape: Shape,
    /// True if `null` counts as absent.
    is_optional: bool,
}

const fn optional(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, is_optional: true }
}

const fn required(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, is_optional: false }
}

const OF_MANIFEST: &[Field] = &[
    optional("schemaVersion", Shape::Number),
    optional("mediaType", Shape::Text),
    optional("config", Shape::Descriptor),
    optional("layers", Shape::Descriptors),
    optional("blobs", Shape::Descriptors),
    optional("manifests", Shape::Descriptors),
    optional("subject", Shape::Descriptor),
    optional("artifactType", Shape::Text),
    optional("annotations", Shape::Annotations),
];

const OF_DESCRIPTOR: &[Field] = &[
    required("mediaType", Shape::Text),
    required("digest", Shape::Text),
    required("size", Shape::Number),
    optional("artifactType", Shape::Text),
    optional("annotations", Shape::Annotations),
    optional("urls", Shape::Texts),
];

/// Checks the shape of a manifest's text.
///
/// # Errors
/// The first fault, with line and column.
pub(super) fn check(text: &str) -> serde_json::Result<()> {
    let mut reading = serde_json::Deserializer::from_str(text);
    Value { shape: Shape::Manifest, is_optional: false }.deserialize(&mut reading)?;
    reading.end()
}

/// Returns a key as readers that ignore case see it. Go's decoder also takes the long s and the sign for Kelvin for letters.
fn folded(key: &str) -> impl Iterator<Item = char> {
    key.chars().map(|letter| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    })
}

#[derive(Clone, Copy)]
struct Value {
    shape: Shape,
    is_optional: bool,
}

impl Value {
    fn fields<'de, A: MapAccess<'de>>(mut map: A, fields: &[Field]) -> Result<(), A::Error> {
        let mut seen = 0_u32;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if let Some(at) = fields.iter().position(|field| field.name == key) {
                if seen & (1 << at) != 0 {
                    return Err(A::Error::custom(format_args!("the field {key:?} is there twice")));
                }
                seen |= 1 << at;
                map.next_value_seed(Self { shape: fields[at].shape, is_optional: fields[at].is_optional })?;
                continue;
            }
            if let Some(field) = fields.iter().find(|field| folded(field.name).eq(folded(&key))) {
                let says =
                    format_args!("the field {key:?} differs from {:?} in case alone; write the latter", field.name);
                return Err(A::Error::custom(says));
            }
            map.next_value::<IgnoredAny>()?;
        }
        let absent = fields.iter().enumerate().find(|(at, field)| !field.is_optional && seen & (1 << at) == 0);
        match absent {
            Some((_, field)) => Err(A::Error::custom(format_args!("a descriptor has no field {:?}", field.name))),
            None => Ok(()),
        }
    }

    fn annotations<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
        let mut seen: HashSet<Cow<'de, str>> = HashSet::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if seen.contains(&key) {
                return Err(A::Error::custom(format_args!("the annotation {key:?} is there twice")));
            }
            seen.insert(key);
            map.next_value_seed(Self { shape: Shape::Text, is_optional: true })?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.shape {
            Shape::Manifest => "one JSON object",
            Shape::Descriptor => "a descriptor, which is a JSON object",
            Shape::Descriptors => "a list of descriptors",
            Shape::Annotations => "a JSON object of texts",
            Shape::Texts => "a list of texts",
            Shape::Text => "a text",
            Shape::Number => "a whole number that is not negative",
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        match self.shape {
            Shape::Manifest => Self::fields(map, OF_MANIFEST),
            Shape::Descriptor => Self::fields(map, OF_DESCRIPTOR),
            Shape::Annotations => Self::annotations(map),
            _ => Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let shape = match self.shape {
            Shape::Descriptors => Shape::Descriptor,
            Shape::Texts => Shape::Text,
            _ => return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self)),
        };
        while list.next_element_seed(Self { shape, is_optional: false })?.is_some() {}
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        match self.shape {
            Shape::Text => Ok(()),
            _ => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        match self.shape {
            Shape::Number => Ok(()),
            _ => Err(E::invalid_type(serde::de::Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        if self.is_optional { Ok(()) } else { Err(E::invalid_type(serde::de::Unexpected::Unit, &self)) }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, de::value::Error, forward_to_deserialize_any};

    use super::{super::Document, *};
    use crate::oci::Descriptor;

    /// Learns the fields that a type reads.
    struct Fields<'a>(&'a mut Vec<&'static str>);

    impl<'de> Deserializer<'de> for Fields<'_> {
        type Error = Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            *self.0 = fields.to_vec();
            Err(Error::custom("the fields are known"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(Error::custom("no struct"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn read_by<T: for<'de> Deserialize<'de>>() -> Vec<&'static str> {
        let mut fields = Vec::new();
        assert!(T::deserialize(Fields(&mut fields)).is_err());
        fields.sort_unstable();
        fields
    }

    #[test]
    fn the_shape_has_exactly_the_fields_that_are_read() {
        let checked = |fields: &[Field]| {
            let mut names: Vec<_> = fields.iter().map(|field| field.name).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(checked(OF_MANIFEST), read_by::<Document>());
        assert_eq!(checked(OF_DESCRIPTOR), read_by::<Descriptor>());
    }
}
