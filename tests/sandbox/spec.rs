//! Answers against the OpenAPI file.

use std::sync::OnceLock;

use serde_json::{Value, json};

/// The OpenAPI file, with `nullable` as JSON Schema says it and with no fields beyond the documented ones.
fn spec() -> &'static Value {
    static SPEC: OnceLock<Value> = OnceLock::new();
    SPEC.get_or_init(|| {
        let mut spec: Value = serde_json::from_str(include_str!("../fixtures/portone-v1.openapi.json")).unwrap();
        convert(&mut spec["components"]["schemas"]);
        spec
    })
}

fn convert(value: &mut Value) {
    match value {
        Value::Array(parts) => parts.iter_mut().for_each(convert),
        Value::Object(schema) => {
            if schema.get("nullable") == Some(&json!(true)) {
                if let Some(kind) = schema.get("type").filter(|kind| kind.is_string()).cloned() {
                    schema.insert("type".to_owned(), json!([kind, "null"]));
                }
                if let Some(Value::Array(values)) = schema.get_mut("enum") {
                    values.push(Value::Null);
                }
            }
            if schema.get("type") == Some(&json!("object")) && schema.get("properties").is_some() {
                schema.insert("additionalProperties".to_owned(), json!(false));
            }
            schema.values_mut().for_each(convert);
        }
        _ => {}
    }
}

/// What is wrong with an answer of this call; `None` if it is as documented.
pub fn fault_of(method: &str, path: &str, status: u16, answer: &Value) -> Option<String> {
    let documented = &spec()["paths"];
    let path = path.split('?').next().unwrap();
    let fits = |template: &str| {
        let (a, b): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.starts_with('{') || a == b)
    };
    let mut templates: Vec<&String> = documented.as_object().unwrap().keys().filter(|template| fits(template)).collect();
    templates.sort_by_key(|template| template.matches('{').count());
    let Some(template) = templates.first() else { return Some(format!("{path} is not documented")) };
    let answers = &documented[template.as_str()][method.to_lowercase()]["responses"];
    let schema = &answers[status.to_string()]["content"]["application/json"]["schema"];
    if schema.is_null() {
        return Some(format!("{method} {template} has no documented answer {status}"));
    }
    let schema = json!({ "$ref": schema["$ref"], "components": spec()["components"] });
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(answer).map(|error| format!("{}: {error}", error.instance_path())).collect();
    (!errors.is_empty()).then(|| format!("{method} {path} {status}: {errors:?} in {answer}"))
}

#[test]
fn a_broken_answer_is_refused() {
    let payment = json!({"imp_uid": "imps_1", "merchant_uid": "m", "amount": 1, "cancel_amount": 0, "currency": "KRW",
        "status": "paid", "sandbox": true, "fail_reason": null});
    let envelope = |payment: &Value| json!({"code": 0, "message": null, "response": payment});
    let again = |answer: &Value| fault_of("POST", "/subscribe/payments/again", 200, answer);
    assert_eq!(again(&envelope(&payment)), None);
    assert_eq!(again(&json!({"code": 1, "message": "no", "response": null})), None);
    for (field, wrong) in [
        ("imp_uid", json!(null)),
        ("amount", json!("1")),
        ("status", json!("maybe")),
        ("merchant_uid", json!("m".repeat(41))),
        ("surprise", json!(1)),
    ] {
        let mut broken = payment.clone();
        broken[field] = wrong;
        assert!(again(&envelope(&broken)).is_some(), "{field}");
    }
    let mut missing = payment.clone();
    missing.as_object_mut().unwrap().remove("sandbox");
    assert!(again(&envelope(&missing)).is_some());
    assert!(again(&json!({"message": null, "response": payment})).is_some(), "no code");
    assert!(fault_of("GET", "/nowhere", 200, &envelope(&payment)).is_some());
    assert!(fault_of("POST", "/subscribe/payments/again", 418, &envelope(&payment)).is_some());
}
