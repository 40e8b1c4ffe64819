//! The types, asked which fields they have by a deserializer that has no data, only questions. Each struct tells it its name
//! and its fields; it walks into every one.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ServiceSpec};
use serde::de::{
    DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor,
    value::{Error, StrDeserializer},
};

use super::Field;

/// Returns the fields of Pod and of each type beneath its spec and a Service's, by the type's name.
pub fn ask_types() -> BTreeMap<&'static str, Vec<Field>> {
    let mut types = BTreeMap::new();
    let mut met = None;
    // What it makes of no data is of no interest, and it cannot fail: every question is answered.
    let _ = <PodSpec as serde::Deserialize>::deserialize(Walk { types: &mut types, met: &mut met });
    let _ = <ServiceSpec as serde::Deserialize>::deserialize(Walk { types: &mut types, met: &mut met });
    // It would not be read without its kind.
    types.insert("Pod", vec![("metadata", Some("ObjectMeta")), ("spec", Some("PodSpec"))]);
    types
}

struct Walk<'a> {
    types: &'a mut BTreeMap<&'static str, Vec<Field>>,
    /// The struct that was met last, for whoever asked.
    met: &'a mut Option<&'static str>,
}

impl<'de> Deserializer<'de> for Walk<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.met = Some(name);
        let known = self.types.contains_key(name);
        if !known {
            self.types.insert(name, Vec::new());
        }
        let left = if known { &[] } else { fields };
        visitor.visit_map(Fields { types: self.types, name, left: left.iter(), field: "" })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Once(Some(self)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Once(Some(self)))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(false)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // Points in time are read from a str; an error would end the walk.
        visitor.visit_str("2000-01-01T00:00:00Z")
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str("")
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum
        identifier
    }
}

/// The struct's fields, one by one.
struct Fields<'a> {
    types: &'a mut BTreeMap<&'static str, Vec<Field>>,
    name: &'static str,
    left: std::slice::Iter<'static, &'static str>,
    field: &'static str,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(field) = self.left.next() else { return Ok(None) };
        self.field = field;
        seed.deserialize(StrDeserializer::new(field)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let mut met = None;
        let value = seed.deserialize(Walk { types: self.types, met: &mut met });
        self.types.entry(self.name).or_default().push((self.field, met));
        value
    }
}

/// The list or the map of one.
struct Once<'a>(Option<Walk<'a>>);

impl<'de> SeqAccess<'de> for Once<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|walk| seed.deserialize(walk)).transpose()
    }
}

impl<'de> MapAccess<'de> for Once<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.0.is_none() {
            return Ok(None);
        }
        seed.deserialize(StrDeserializer::new("key")).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let walk = self.0.take().ok_or_else(|| serde::de::Error::custom("there is one value only"))?;
        seed.deserialize(walk)
    }
}
