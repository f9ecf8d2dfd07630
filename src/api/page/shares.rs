//! Sharing: with whom a file is shared, what others share, and capabilities.

use axum::Json;
use axum::extract::{Form, Path, Query};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Redirect, Response};
use maud::Markup;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Failed, address, name, user, view};
use crate::api::caller::{Caller, Scope};
use crate::api::files;
use crate::api::problem::Problem;
use crate::api::sharing::{self, CAPABILITY_HEADER, CapRequest, ShareRequest, SharedQuery};
use crate::files::Capability;

/// Shared files on one page.
const PAGE: usize = 100;

/// Where a form about a file came from: the file's own page, or that of the path that holds it.
fn back(id: &str, path: Option<&str>) -> String {
    match path {
        Some(path) => address("/folders/file", path),
        None => format!("/files/{id}"),
    }
}

#[derive(Deserialize)]
pub(super) struct ShareForm {
    account: String,
    /// Seconds; empty: until the file ends.
    #[serde(default)]
    lasts: String,
    path: Option<String>,
}

pub(super) async fn share(
    caller: Option<Caller>,
    Path(id): Path<String>,
    Form(form): Form<ShareForm>,
) -> Result<Redirect, Failed> {
    let caller = user(caller, Scope::Share)?;
    let expires_s = match form.lasts.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| Problem::bad(format!("{text:?} is no number of seconds")))?),
    };
    let request = ShareRequest { expires_s, ..ShareRequest::default() };
    let to = form.account.trim().to_owned();
    let Json(_) = sharing::put(caller, Path((id.clone(), to)), Some(Json(Some(request)))).await?;
    Ok(Redirect::to(&back(&id, form.path.as_deref())))
}

#[derive(Deserialize)]
pub(super) struct UnshareForm {
    account: String,
    path: Option<String>,
}

pub(super) async fn unshare(
    caller: Option<Caller>,
    Path(id): Path<String>,
    Form(form): Form<UnshareForm>,
) -> Result<Redirect, Failed> {
    let caller = user(caller, Scope::Share)?;
    let Json(_) = sharing::delete(caller, Path((id.clone(), form.account))).await?;
    Ok(Redirect::to(&back(&id, form.path.as_deref())))
}

#[derive(Deserialize)]
pub(super) struct CapabilityForm {
    kind: CapabilityKind,
    path: Option<String>,
}

/// Which capability a button asks for.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum CapabilityKind {
    Read,
    Verify,
}

pub(super) async fn capability(
    caller: Option<Caller>,
    Path(id): Path<String>,
    Form(form): Form<CapabilityForm>,
) -> Result<Markup, Failed> {
    let caller = user(caller, Scope::Share)?;
    let request = CapRequest { verify: matches!(form.kind, CapabilityKind::Verify) };
    let name = name(&caller);
    let Json(made) = sharing::cap(caller, Path(id.clone()), Some(Json(Some(request)))).await?;
    Ok(view::shares::capability(&name, &made, &back(&id, form.path.as_deref())))
}

#[derive(Deserialize)]
pub(super) struct SharedPageQuery {
    after: Option<String>,
}

pub(super) async fn shared(caller: Option<Caller>, Query(query): Query<SharedPageQuery>) -> Result<Markup, Failed> {
    let caller = user(caller, Scope::Read)?;
    let (name, account, later) = (name(&caller), caller.account()?.to_string(), query.after.is_some());
    let wanted = SharedQuery { after: query.after, limit: Some(PAGE) };
    let Json(page) = sharing::shared(caller, Query(wanted)).await?;
    Ok(view::shares::shared(&name, &account, &page, later))
}

#[derive(Deserialize)]
pub(super) struct DeclineForm {
    file: String,
}

/// Takes a file off the list of what is shared with the caller.
pub(super) async fn decline(caller: Option<Caller>, Form(form): Form<DeclineForm>) -> Result<Redirect, Failed> {
    let caller = user(caller, Scope::Share)?;
    let me = caller.account()?.to_string();
    let Json(_) = sharing::delete(caller, Path((form.file, me))).await?;
    Ok(Redirect::to("/shared"))
}

#[derive(Deserialize)]
pub(super) struct UseForm {
    capability: String,
    #[serde(rename = "do")]
    what: Use,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Use {
    Download,
    Check,
}

/// Downloads or checks the file of a capability. It comes in the body, because addresses are kept in histories.
pub(super) async fn use_capability(caller: Option<Caller>, Form(form): Form<UseForm>) -> Result<Response, Failed> {
    let caller = user(caller, Scope::Read)?;
    let text = Zeroizing::new(form.capability);
    let capability = text.trim().parse::<Capability>().map_err(|error| Problem::bad(error.to_string()))?;
    let id = capability.file().to_string();
    let mut headers = HeaderMap::new();
    let value = HeaderValue::try_from(capability.text().as_str());
    headers.insert(CAPABILITY_HEADER, value.map_err(|error| Problem::bad(error.to_string()))?);
    match form.what {
        Use::Download => Ok(files::get(caller, Path(id), headers).await?),
        Use::Check => {
            let name = name(&caller);
            let Json(found) = sharing::verify(caller, Path(id), headers, None).await?;
            Ok(view::shares::checked(&name, &found).into_response())
        }
    }
}
