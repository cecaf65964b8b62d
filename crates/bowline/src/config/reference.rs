//! What the types of the configuration say of themselves: ranges, sections, and the reference in
//! `docs/configuration.md`.
//!
//! All of it is read from their JSON schema, which has the comments, the ranges and the defaults.

#[cfg(test)]
mod page;

use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::bail;
use serde_json::Value;

use super::Config;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(Config).to_value());

/// A field of the configuration, or a section of it.
struct Field<'a> {
    name: &'a str,
    /// What is said at the field itself: its comment, range and default.
    said: &'a Value,
    /// The type, looked up.
    kind: &'a Value,
    /// Whether there may be none or many: `Option`, a list of sections, or sections by name.
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    Optional,
    List,
    ByName,
}

impl<'a> Field<'a> {
    fn new(name: &'a str, said: &'a Value) -> Self {
        let alternatives = said["anyOf"].as_array();
        let (inner, shape) = match (&said["type"], alternatives.and_then(|any| any.first())) {
            (_, Some(first)) => (first, Shape::Optional),
            (Value::Array(_), _) => (said, Shape::Optional),
            (Value::String(kind), _) if kind == "array" && is_section(look_up(&said["items"])) => {
                (&said["items"], Shape::List)
            }
            (Value::String(kind), _) if kind == "object" && is_section(look_up(&said["additionalProperties"])) => {
                (&said["additionalProperties"], Shape::ByName)
            }
            _ => (said, Shape::One),
        };
        Field { name, said, kind: look_up(inner), shape }
    }

    fn is_section(&self) -> bool {
        is_section(self.kind)
    }

    /// Its comment, or that of its type.
    fn comment(&self) -> &'a str {
        self.said["description"].as_str().or_else(|| self.kind["description"].as_str()).unwrap_or_default()
    }

    /// Least and greatest, if they are stated; every type has a least and a greatest of its own.
    fn range(&self) -> Option<(u64, u64)> {
        let greatest = self.said["maximum"].as_u64()?;
        Some((self.said["minimum"].as_u64().unwrap_or(0), greatest))
    }
}

/// What a reference to a named type stands for.
fn look_up(schema: &Value) -> &Value {
    match schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
        Some(name) => &SCHEMA["$defs"][name],
        None => schema,
    }
}

fn is_section(kind: &Value) -> bool {
    kind["properties"].is_object()
}

fn fields(section: &Value) -> impl Iterator<Item = Field<'_>> {
    let properties = section["properties"].as_object().into_iter().flatten();
    properties.map(|(name, said)| Field::new(name, said))
}

/// The section that has a field of this name, if one has; the top is none.
pub(super) fn section_of(unknown: &str) -> Option<String> {
    fn find(section: &Value, path: &str, unknown: &str) -> Option<String> {
        fields(section).filter(Field::is_section).find_map(|field| {
            let path = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
            match fields(field.kind).any(|inner| inner.name == unknown) {
                true => Some(path),
                false => find(field.kind, &path, unknown),
            }
        })
    }
    find(&SCHEMA, "", unknown)
}

/// Refuses numbers that are not in the ranges stated at their fields.
pub(super) fn check_ranges(config: &Config) -> anyhow::Result<()> {
    fn check(section: &Value, values: &Value, path: &str) -> anyhow::Result<()> {
        for field in fields(section) {
            let path = format!("{path}{}", field.name);
            match (&values[field.name], field.shape) {
                (Value::Null, _) => {}
                (Value::Array(many), Shape::List) => {
                    for (index, value) in many.iter().enumerate() {
                        check(field.kind, value, &format!("{path}[{index}]."))?;
                    }
                }
                (Value::Object(many), Shape::ByName) => {
                    for (name, value) in many {
                        check(field.kind, value, &format!("{path}.{name}."))?;
                    }
                }
                (value, _) if field.is_section() => check(field.kind, value, &format!("{path}."))?,
                (value, _) => {
                    let Some((least, greatest)) = field.range() else { continue };
                    if !value.as_u64().is_some_and(|value| (least..=greatest).contains(&value)) {
                        let meaning = field.comment().lines().next().unwrap_or_default();
                        bail!("{path} = {value}: expected {least} to {greatest}. {meaning}");
                    }
                }
            }
        }
        Ok(())
    }
    // A path that is no text has no form in JSON, and this one may come from the command line.
    let config = Config { data: PathBuf::new(), ..config.clone() };
    check(&SCHEMA, &serde_json::to_value(config)?, "")
}
