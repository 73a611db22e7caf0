//! Why a request is not answered, as the wire says it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use forwhy_engine::error::EngineError;
use forwhy_model::wire::openai::{ErrorBody, ErrorDetail};

/// A refusal with its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// HTTP status.
    pub(super) status: u16,
    /// What is said.
    pub(super) detail: ErrorDetail,
    /// Seconds after which to try again.
    pub(super) retry_after_secs: Option<u64>,
}

pub(super) fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl Refusal {
    fn new(status: u16, message: impl Into<String>) -> Self {
        let kind = match status {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let (message, kind) = (message.into(), kind.into());
        let detail = ErrorDetail { message, kind, param: None, code: None };
        Refusal { status, detail, retry_after_secs: None }
    }

    fn code(mut self, code: &str) -> Self {
        self.detail.code = Some(code.into());
        self
    }

    /// A field that cannot be honoured.
    pub(super) fn field(name: &str, why: impl std::fmt::Display) -> Self {
        let mut refusal = Refusal::new(400, format!("{name}: {why}"));
        refusal.detail.param = Some(name.into());
        refusal
    }

    /// A body that is no request.
    pub(super) fn body(why: impl Into<String>) -> Self {
        Refusal::new(400, why)
    }

    pub(super) fn too_large(most: usize) -> Self {
        Refusal::new(413, format!("the body has more than {most} bytes")).code("body_too_large")
    }

    pub(super) fn too_slow() -> Self {
        Refusal::new(408, "the body did not come")
    }

    pub(super) fn no_token() -> Self {
        Refusal::new(401, "this server wants its token: Authorization: Bearer ..")
            .code("invalid_api_key")
    }

    pub(super) fn forbidden(why: &str) -> Self {
        Refusal::new(403, why)
    }

    pub(super) fn not_found(why: &str) -> Self {
        Refusal::new(404, why)
    }

    pub(super) fn wrong_method() -> Self {
        Refusal::new(405, "this path takes another method")
    }

    pub(super) fn no_model(name: &str, names: &[&str]) -> Self {
        let mut refusal =
            Refusal::new(404, format!("no model {name:?} here; there are {}", names.join(", ")));
        refusal.detail.param = Some("model".into());
        refusal.code("model_not_found")
    }

    pub(super) fn full(retry_after_secs: u64) -> Self {
        let why = format!("all places are taken; try again in {retry_after_secs} s");
        let refusal = Refusal::new(429, why).code("queue_full");
        Refusal { retry_after_secs: Some(retry_after_secs), ..refusal }
    }

    pub(super) fn stopping() -> Self {
        Refusal::new(503, "this server is being stopped")
    }

    pub(super) fn gone() -> Self {
        Refusal::new(500, "the model failed; the server must be started anew")
    }

    pub(super) fn too_long(tokens: usize, limit: usize) -> Self {
        Refusal::new(400, EngineError::TooLong { tokens, limit }.to_string())
            .code("context_length_exceeded")
    }

    pub(super) fn engine(error: &EngineError) -> Self {
        match error {
            EngineError::TooLong { tokens, limit } => Refusal::too_long(*tokens, *limit),
            EngineError::Pack(why) => Refusal::new(400, why.as_str()),
            other => Refusal::new(500, other.to_string()),
        }
    }

    /// As JSON.
    pub(super) fn body_json(&self) -> ErrorBody {
        ErrorBody { error: self.detail.clone() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (status(self.status), axum::Json(self.body_json())).into_response();
        let headers = response.headers_mut();
        if let Some(secs) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
