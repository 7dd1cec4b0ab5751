//! Members of JSON arrays.

use std::collections::BTreeSet;

use serde_json::value::RawValue;

/// Whether `value` is a JSON array with one of `wanted` among its members: texts as they are meant,
/// numbers, `true`, `false` and `null` as they are written. Arrays and objects in it are no members.
pub(super) fn array_holds(value: &str, wanted: &BTreeSet<String>) -> bool {
    if !value.trim_ascii_start().starts_with('[') || wanted.is_empty() {
        return false;
    }
    let Ok(members) = serde_json::from_str::<Vec<&RawValue>>(value) else {
        return false;
    };
    members.iter().map(|member| member.get()).any(|member| match member.as_bytes().first() {
        Some(b'"') => {
            serde_json::from_str::<String>(member).is_ok_and(|text| wanted.contains(&text))
        }
        Some(b'[' | b'{') => false,
        _ => wanted.contains(member),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_texts_and_plain_values() {
        let holds = |value: &str, wanted: &str| array_holds(value, &[wanted.to_owned()].into());
        assert!(holds(r#"["prod","eu"]"#, "eu"));
        assert!(holds(" [ \"a\\\"b\" , 12.50 ]\n", "a\"b"));
        assert!(holds("[12.50,true,null]", "12.50"));
        assert!(holds("[12,true,null]", "null"));
        assert!(holds(r#"["a","",3]"#, ""));
        for value in [r#"["production"]"#, "prod", r#"{"a":"prod"}"#, r#"[["prod"]]"#, "", "["] {
            assert!(!holds(value, "prod"), "{value}");
        }
        assert!(!holds(r#"[["a"]]"#, r#"["a"]"#));
    }
}
