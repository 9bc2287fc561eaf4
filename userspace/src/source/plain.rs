//! What the reader of values says of a wrong one, in words of YAML and not of the program's types.

/// Of an enumeration that is given something else than a text; which texts it takes is not said.
pub(super) const NO_TEXT: &str = "a Value::Tagged enum";

/// The message, in plain words.
pub(super) fn plain(message: &str) -> String {
    if message.starts_with("data did not match any variant") {
        return "not in any form that this field may have".to_owned();
    }
    let (found, wanted) = match message.split_once(", expected ") {
        Some((found, wanted)) => (found, Some(expected(wanted))),
        None => (message, None),
    };
    let found = found
        .replacen("type: unit value", "type: null", 1)
        .replacen("type: map", "type: mapping", 1)
        .replacen("type: sequence", "type: list", 1)
        .replacen("unknown variant", "unknown value", 1);
    match wanted {
        Some(wanted) => format!("{found}, expected {wanted}"),
        None => found,
    }
}

fn expected(text: &str) -> &str {
    match text {
        "a map" => "a mapping",
        "a sequence" => "a list",
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" => "an integer",
        "f32" | "f64" => "a number",
        "IntOrString" => "an integer or a string",
        // How many fields that type has is nobody's business.
        _ if text.starts_with("struct ") || is_type(text) => "a mapping",
        _ => text,
    }
}

/// Whether it is the name of a type, as `k8s-openapi` says what it expects.
fn is_type(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase()) && text.chars().all(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_the_program_are_in_no_message() {
        for (message, expected) in [
            (
                "invalid type: string \"x\", expected struct Metadata",
                "invalid type: string \"x\", expected a mapping",
            ),
            (
                "invalid length 1, expected struct Spec with 7 elements",
                "invalid length 1, expected a mapping",
            ),
            (
                "invalid type: unit value, expected ObjectMeta",
                "invalid type: null, expected a mapping",
            ),
            ("invalid type: map, expected a sequence", "invalid type: mapping, expected a list"),
            ("invalid type: sequence, expected i32", "invalid type: list, expected an integer"),
            (
                "invalid type: map, expected IntOrString",
                "invalid type: mapping, expected an integer or a string",
            ),
            ("unknown variant `A`, expected `B` or `C`", "unknown value `A`, expected `B` or `C`"),
            (
                "data did not match any variant of untagged enum Foo",
                "not in any form that this field may have",
            ),
            ("unknown field `a`, expected `b`", "unknown field `a`, expected `b`"),
            ("something else", "something else"),
        ] {
            assert_eq!(plain(message), expected);
        }
    }
}
