//! The schema's rules, each with something that it must refuse and something that it must let through.
//!
//! kube-cel evaluates the rules; the plain parts of the schema that our specs meet (types, enums, ranges,
//! lengths, patterns) are walked here. The same table goes to a real API server in tests/e2e.

use super::{crd, specs};
use kube_cel::Validator;
use regex::Regex;
use serde_json::{Map, Value};

#[test]
fn refuses_what_can_never_be_right() {
    let schema = schema();
    for case in specs::refused() {
        let errors = errors(&schema, &case.cluster, case.before.as_ref());
        assert!(!errors.is_empty(), "{}: accepted", case.case);
        let text = errors.join("\n");
        for word in case.says {
            assert!(text.contains(word), "{}: does not say {word:?}:\n{text}", case.case);
        }
    }
}

#[test]
fn accepts_what_stands_next_to_each_rule() {
    let schema = schema();
    for (case, cluster) in specs::accepted() {
        assert_eq!(errors(&schema, &cluster, None), Vec::<String>::new(), "{case}");
    }
    for (case, before, after) in specs::accepted_changes() {
        assert_eq!(errors(&schema, &after, Some(&before)), Vec::<String>::new(), "{case}");
    }
}

/// A rule that no case meets would be a rule that nobody has seen work.
#[test]
fn every_rule_refuses_something() {
    let schema = schema();
    let mut seen: Vec<String> = Vec::new();
    for case in specs::refused() {
        let found = Validator::new().validate(&schema, &case.cluster, case.before.as_ref());
        seen.extend(
            found.err().into_iter().flat_map(kube_cel::ValidationErrors::into_vec).map(|error| error.message),
        );
    }
    let mut rules = Vec::new();
    collect_messages(&schema, &mut rules);
    assert!(rules.len() > 20, "only {} rules found", rules.len());
    for rule in rules {
        assert!(seen.contains(&rule), "no case makes this rule refuse: {rule}");
    }
}

/// The API server estimates a rule's cost from these; without them it may refuse the whole definition.
#[test]
fn what_rules_walk_over_is_bounded() {
    fn walk(path: &str, schema: &Value) {
        let properties = schema["properties"].as_object().cloned().unwrap_or_default();
        if schema.get("x-kubernetes-validations").is_some() {
            let bound = match schema["type"].as_str() {
                Some("string") => "maxLength",
                Some("array") => "maxItems",
                Some("object") if schema.get("additionalProperties").is_some() => "maxProperties",
                _ => "type",
            };
            assert!(schema.get(bound).is_some() || path.is_empty(), "{path} has a rule and no {bound}");
        }
        for (name, property) in &properties {
            walk(&format!("{path}.{name}"), property);
        }
        if let Some(items) = schema.get("items") {
            walk(&format!("{path}[]"), items);
        }
    }
    walk("", &schema());
}

pub fn schema() -> Value {
    serde_json::to_value(crd::definition()).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        .take()
}

fn collect_messages(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            for rule in map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                found.push(rule["message"].as_str().expect("a rule has a message").to_owned());
            }
            map.values().for_each(|value| collect_messages(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| collect_messages(value, found)),
        _ => {}
    }
}

pub fn errors(schema: &Value, object: &Value, before: Option<&Value>) -> Vec<String> {
    let mut errors = Vec::new();
    plain(schema, object, "", &mut errors);
    if let Err(found) = Validator::new().validate(schema, object, before) {
        errors.extend(found.iter().map(ToString::to_string));
    }
    errors
}

/// The part of a schema that is no rule, in the words of the API server.
fn plain(schema: &Value, value: &Value, path: &str, errors: &mut Vec<String>) {
    let length = value.as_str().map(|text| text.chars().count() as u64);
    let int_or_string = schema["x-kubernetes-int-or-string"] == true;
    let fits = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => !int_or_string || value.is_string() || value.is_i64(),
    };
    let refused = [
        (!fits, format!("must be of type {}", schema["type"])),
        (
            schema["enum"].as_array().is_some_and(|values| !values.contains(value)),
            format!("Unsupported value: supported values: {}", schema["enum"]),
        ),
        (
            schema["pattern"].as_str().is_some_and(|pattern| {
                value.as_str().is_some_and(|text| !Regex::new(pattern).unwrap().is_match(text))
            }),
            format!("should match {}", schema["pattern"]),
        ),
        (above(length, &schema["maxLength"]), format!("may not be longer than {}", schema["maxLength"])),
        (
            schema["minLength"].as_u64().zip(length).is_some_and(|(least, length)| length < least),
            format!("should be at least {} chars long", schema["minLength"]),
        ),
        (
            schema["minimum"].as_f64().zip(value.as_f64()).is_some_and(|(least, value)| value < least),
            format!("should be greater than or equal to {}", schema["minimum"]),
        ),
        (
            schema["maximum"].as_f64().zip(value.as_f64()).is_some_and(|(most, value)| value > most),
            format!("should be less than or equal to {}", schema["maximum"]),
        ),
        (
            above(value.as_array().map(|list| list.len() as u64), &schema["maxItems"]),
            format!("must have at most {} items", schema["maxItems"]),
        ),
    ];
    errors.extend(
        refused.into_iter().filter(|(refused, _)| *refused).map(|(_, says)| format!("{path}: {says}")),
    );

    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    for (name, value) in value.as_object().unwrap_or(&none) {
        let below = properties.get(name).or_else(|| schema.get("additionalProperties"));
        match below {
            Some(below) => plain(below, value, format!("{path}.{name}").trim_start_matches('.'), errors),
            None if path.is_empty() || path == "metadata" => {}
            None => errors.push(format!("{path}: unknown field {name}")),
        }
    }
    for (i, value) in value.as_array().into_iter().flatten().enumerate() {
        plain(&schema["items"], value, &format!("{path}[{i}]"), errors);
    }
}

fn above(length: Option<u64>, most: &Value) -> bool {
    length.zip(most.as_u64()).is_some_and(|(length, most)| length > most)
}
