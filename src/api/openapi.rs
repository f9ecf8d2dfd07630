//! The OpenAPI document, made of the routes' own annotations: a route cannot be added without one. What every route may answer
//! besides, as problem JSON, is added by rule.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response as Answer, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::server::routes;
use super::views::ProblemView;

const KIND: &str = "application/problem+json";

#[derive(OpenApi)]
#[openapi(
    info(title = "trullo", description = "The HTTP interface of a trullo node, for its owner and its users. Errors are problem JSON (RFC 9457). Answers to GET and HEAD below /v1 have the header Trullo-Stale, in seconds, while the node cannot know whether more is final elsewhere."),
    modifiers(&Bearer),
    security(("bearer" = [])),
    components(schemas(ProblemView)),
)]
pub(super) struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let mut http = Http::new(HttpAuthScheme::Bearer);
        http.description = Some("A token of `POST /v1/auth/login`, or the node's own in `api.token`".to_owned());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(http));
    }
}

static TEXT: LazyLock<String> = LazyLock::new(|| {
    let mut document = routes().split_for_parts().1;
    document.paths.paths.values_mut().for_each(|path| {
        let operations = [&mut path.get, &mut path.head, &mut path.post, &mut path.put, &mut path.delete];
        operations.into_iter().flatten().for_each(add_problems);
    });
    // Plain data; nothing in it can fail to be written.
    document.to_pretty_json().unwrap_or_default() + "\n"
});

/// The document's text.
pub fn text() -> &'static str {
    &TEXT
}

/// What this route answers when it cannot do what was asked.
fn add_problems(operation: &mut Operation) {
    let is_open = operation.security.as_ref().is_some_and(|all| all.iter().any(|one| *one == Default::default()));
    let parameters = operation.parameters.iter().flatten();
    let inside: Vec<_> = parameters
        .filter_map(|parameter| match parameter {
            RefOr::T(parameter) => Some(parameter.parameter_in.clone()),
            RefOr::Ref(_) => None,
        })
        .collect();
    let in_path = inside.iter().any(|at| matches!(at, ParameterIn::Path));
    let has_body = operation.request_body.is_some();
    let answers = operation.responses.responses.keys().map(String::as_str).collect::<Vec<_>>();
    let changes = has_body || !answers.iter().any(|status| *status == "200" && operation.is_a_look());
    let rules: [(&str, bool, &str); 15] = [
        ("400", true, "The request cannot be understood"),
        ("401", !is_open || has_body, "No token, or one that does not hold; or a wrong name or password"),
        ("403", true, "This caller may not, or the request comes from another web page"),
        ("404", in_path, "Not there, or not the caller's"),
        ("408", has_body, "The body did not come in time"),
        ("409", changes, "In conflict with what is there"),
        ("413", has_body, "The body is too large"),
        ("415", has_body, "Not a type that is taken here"),
        ("422", has_body, "The request asks for what cannot be"),
        ("429", true, "Too many requests; `Retry-After` says when to come again"),
        ("500", true, "This node's store failed"),
        ("502", changes, "Bytes from other nodes are not what they must be"),
        ("503", true, "Not possible just now"),
        ("504", changes, "Not final in time"),
        ("507", changes, "This node's disk is full"),
    ];
    for (status, applies, description) in rules {
        if applies && !operation.responses.responses.contains_key(status) {
            operation.responses.responses.insert(status.to_owned(), RefOr::T(problem(description)));
        }
    }
}

trait Looks {
    fn is_a_look(&self) -> bool;
}

impl Looks for Operation {
    /// Whether it changes nothing: such operations have names that say so, or no body.
    fn is_a_look(&self) -> bool {
        self.request_body.is_none() && !self.operation_id.as_deref().is_some_and(|id| id.starts_with("delete"))
    }
}

fn problem(description: &str) -> Answer {
    let schema = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemView"))).build();
    ResponseBuilder::new().description(description).content(KIND, schema).build()
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "node", security(()), operation_id = "openapi",
    responses((status = 200, content_type = "application/json", body = serde_json::Value, description = "OpenAPI 3.1")))]
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_that_others_build_on_is_the_one_that_is_served() {
        expect_test::expect_file![concat!(env!("CARGO_MANIFEST_DIR"), "/schema/openapi.json")].assert_eq(text());
    }

    #[test]
    fn each_route_is_told_with_its_problems_and_its_guard() {
        let document: serde_json::Value = serde_json::from_str(text()).expect("JSON");
        let mut open = Vec::new();
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                let place = format!("{method} {path}");
                assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{place} says nothing");
                let answers = operation["responses"].as_object().expect("answers");
                assert!(answers.keys().any(|status| status.starts_with('2')), "{place} never succeeds");
                assert!(answers.contains_key("429"), "{place}");
                if operation.get("security").is_some() {
                    open.push(place);
                }
            }
        }
        let expected = ["get /livez", "get /metrics", "get /openapi.json", "get /readyz", "get /status"];
        let expected: Vec<_> = expected.into_iter().chain(["post /v1/auth/login", "post /v1/auth/register"]).collect();
        assert_eq!(open, expected, "only these need no token");
    }

    /// `routes!` takes its path from the annotation; any other way to add a route has none.
    #[test]
    fn no_route_is_added_past_the_document() {
        let api = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api");
        for entry in std::fs::read_dir(api).expect("the sources").flatten() {
            // A light node is another server, with routes that the document of this one does not have.
            if entry.file_name() == "light.rs" {
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            assert!(!code.contains(concat!(".rou", "te(\"")), "{}", entry.path().display());
        }
    }
}
