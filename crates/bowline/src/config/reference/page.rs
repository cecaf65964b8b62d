//! Writes the reference in `docs/configuration.md`, and fails where it is not what the types say.

use serde_json::Value;

use super::{Field, SCHEMA, Shape, check_ranges, fields, look_up};
use crate::config::Config;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");

impl<'a> Field<'a> {
    /// What may be chosen from, with what is said of it.
    fn choices(&self) -> Vec<(&'a str, &'a str)> {
        let kind = match &self.kind["items"] {
            Value::Null => self.kind,
            items => look_up(items),
        };
        let one_of = kind["oneOf"].as_array().into_iter().flatten();
        one_of
            .filter_map(|one| Some((one["const"].as_str()?, one["description"].as_str().unwrap_or_default())))
            .collect()
    }
}

/// The configuration file with every field, its comment and its default.
fn reference() -> String {
    let mut text = String::new();
    write_section(&mut text, &SCHEMA, "", "");
    text
}

/// Writes the fields of a section, then the sections in it. `mark` is `# ` where all of it is an example.
fn write_section(text: &mut String, section: &Value, path: &str, mark: &str) {
    for (at, field) in fields(section).filter(|field| !field.is_section()).enumerate() {
        if at > 0 && path.is_empty() {
            text.push('\n');
        }
        for line in field.comment().lines() {
            text.push_str(format!("# {line}").trim_end());
            text.push('\n');
        }
        for (choice, meaning) in field.choices() {
            text.push_str(&format!("#   {choice:?}: {}\n", meaning.replace('\n', " ")));
        }
        if let Some((least, greatest)) = field.range() {
            text.push_str(&format!("# {least} to {greatest}.\n"));
        }
        match &field.said["default"] {
            Value::Null => text.push_str(&format!("# {} = {}\n", field.name, example(&field))),
            default => text.push_str(&format!("{mark}{} = {}\n", field.name, toml_value(default))),
        }
    }
    for field in fields(section).filter(Field::is_section) {
        let path = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
        let (mark, head) = match field.shape {
            Shape::One => (mark, format!("[{path}]")),
            Shape::Optional => ("# ", format!("[{path}]")),
            Shape::List => ("# ", format!("[[{path}]]")),
            Shape::ByName => ("# ", format!("[{path}.NAME]")),
        };
        text.push('\n');
        if fields(field.kind).any(|inner| !inner.is_section()) {
            for line in field.comment().lines() {
                text.push_str(format!("# {line}").trim_end());
                text.push('\n');
            }
            text.push_str(&format!("{mark}{head}\n"));
        }
        write_section(text, field.kind, &path, mark);
    }
}

/// A value for a field that has no default: the one given at the field (`#[schemars(example = …)]`).
fn example(field: &Field<'_>) -> String {
    match field.said["examples"].get(0).or_else(|| field.kind["examples"].get(0)) {
        Some(example) => toml_value(example),
        None => match field.said["type"].as_str().or_else(|| field.said["type"][0].as_str()) {
            Some("integer") => field.range().map_or(0, |(least, _)| least).to_string(),
            Some("boolean") => "false".to_owned(),
            Some("array") => "[]".to_owned(),
            _ => "\"…\"".to_owned(),
        },
    }
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let pair = |(name, value): (&String, &Value)| format!("{name} = {}", toml_value(value));
            let pairs = fields.iter().map(pair).collect::<Vec<_>>().join(", ");
            if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {pairs} }}") }
        }
        // Strings, numbers and booleans are the same in both.
        scalar => scalar.to_string(),
    }
}

fn each_field(section: &Value, path: &str, tell: &mut dyn FnMut(&str, &Field<'_>)) {
    for field in fields(section) {
        let path = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
        tell(&path, &field);
        each_field(field.kind, &path, tell);
    }
}

/// `cargo xtask docs` runs this with the variable set, and the page is written.
#[test]
fn the_reference_is_that_of_the_types() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once("```toml\n").expect("the page has a block of toml");
    let (_, after) = rest.split_once("```").expect("the block ends");
    let wanted = format!("{before}```toml\n{}```{after}", reference());
    if std::env::var_os("BOWLINE_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &wanted).unwrap();
    } else {
        assert!(page == wanted, "docs/configuration.md is not what the types say: `cargo xtask docs` writes it");
    }
}

#[test]
fn every_field_and_every_choice_has_a_comment() {
    each_field(&SCHEMA, "", &mut |path, field| {
        assert!(!field.comment().is_empty(), "{path} has no comment");
        for (choice, meaning) in field.choices() {
            assert!(!meaning.is_empty(), "{choice:?} of {path} has no comment");
        }
        assert!(field.kind["enum"].is_null(), "some choices of {path} have no comments: {}", field.kind["enum"]);
    });
}

#[test]
fn every_number_has_a_range() {
    each_field(&SCHEMA, "", &mut |path, field| {
        let number = |kind: &Value| kind == "integer" || kind == "number";
        let kind = &field.said["type"];
        if number(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(number)) {
            assert!(field.range().is_some(), "{path} has no #[schemars(range(min = …, max = …))]");
        }
    });
}

#[test]
fn a_number_out_of_its_range_is_refused_and_says_so() {
    let check = |text: &str| check_ranges(&Config::parse(text).unwrap());
    let error = check("[link]\ntimeout_ms = 99").unwrap_err().to_string();
    assert!(error.starts_with("link.timeout_ms = 99: expected 100 to 3600000. The timeout the boards"), "{error}");
    assert!(check("[link]\ntimeout_ms = 100").is_ok() && check("[link]\ntimeout_ms = 3600000").is_ok());
    assert!(check("[link]\ntimeout_ms = 3600001").is_err());
}

#[cfg(unix)]
#[test]
fn a_folder_whose_name_is_no_text_is_no_problem() {
    use std::os::unix::ffi::OsStringExt;
    let data = std::ffi::OsString::from_vec(vec![b'd', 0xff]).into();
    assert!(check_ranges(&Config { data, ..Config::default() }).is_ok());
}

/// Sections that come by name or in lists, as they may be one day.
#[test]
fn what_has_no_default_is_shown_as_an_example() {
    let section = serde_json::json!({ "properties": {
        "port": { "type": ["integer", "null"], "description": "A port.", "minimum": 1, "maximum": 9 },
        "apps": { "type": "array", "default": [], "description": "Apps.", "items": { "properties": {
            "ident": { "type": "integer", "description": "Its ident.", "examples": [7] },
            "window": { "type": "integer", "description": "How many.", "default": 8 },
        } } },
    } });
    let mut text = String::new();
    write_section(&mut text, &section, "", "");
    assert_eq!(
        text,
        "# A port.\n# 1 to 9.\n# port = 1\n\n# Apps.\n# [[apps]]\n# Its ident.\n# ident = 7\n# How many.\n# window = 8\n"
    );
}
