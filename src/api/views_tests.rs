//! Tests of the views: what other programs rely on in their JSON.

use super::*;

#[test]
fn an_action_is_told_by_its_type_field() {
    let action = ActionView::DeleteFile { file: "ab".into() };
    let text = serde_json::to_string(&action).expect("views are plain JSON");
    assert_eq!(text, r#"{"type":"delete_file","file":"ab"}"#);
    assert_eq!(serde_json::from_str::<ActionView>(&text).expect("the same JSON"), action);
}

#[test]
fn a_reader_ignores_fields_of_a_newer_node() {
    let text = r#"{"id":"a","balance":1,"nonce":2,"height":3,"staked":4}"#;
    assert_eq!(serde_json::from_str::<AccountView>(text).expect("known fields are enough").balance, 1);
}
