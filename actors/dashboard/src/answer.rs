//! What is answered: JSON, and errors in words.

use std::fmt;

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use serde::Serialize;

/// An error answer: what is wrong, and what to do next.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    text: String,
    /// What there is instead, if that helps.
    instead: Option<(&'static str, Vec<String>)>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Refusal { status, text: text.into(), instead: None }
    }

    /// With a list of what there is, under a key of its own.
    pub(crate) fn instead(self, key: &'static str, list: Vec<String>) -> Self {
        Refusal { instead: Some((key, list)), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut body = serde_json::json!({ "error": self.text });
        if let Some((key, list)) = &self.instead {
            body[*key] = list.as_slice().into();
        }
        let mut response = HttpResponse::build(self.status);
        if [StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE].contains(&self.status) {
            // What is left of the request is not waited for.
            response.force_close();
        }
        response.json(body)
    }
}

/// 200, as JSON.
pub(crate) fn json(body: impl Serialize) -> HttpResponse {
    HttpResponse::Ok().json(body)
}
