use super::append;

#[test]
fn objects_are_joined() {
    for (object, more, joined) in [
        ("", r#"{"a":1}"#, r#"{"a":1}"#),
        ("{}", r#"{"a":1}"#, r#"{"a":1}"#),
        (r#"{"a":1}"#, "{}", r#"{"a":1}"#),
        (r#"{"a":1}"#, r#"{"b":"}","c":3}"#, r#"{"a":1,"b":"}","c":3}"#),
    ] {
        let mut text = object.to_owned();
        append(&mut text, more);
        assert_eq!(text, joined);
    }
}
