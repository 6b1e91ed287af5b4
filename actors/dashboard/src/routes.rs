//! What is asked, and what is answered.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use actix_web::{
    Error, FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::Next,
    web,
};
use quorate_cluster::{ClusterHandle, Faults, LinkFaults, counters::NOBODY};
use quorate_protocol::{Name, NodeId, Role};
use quorate_rsm::Status;
use quorate_stage::CrashMode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    answer::{Refusal, json},
    metrics::{self, Scrape},
    server::{BODY_BYTES_MAX, BODY_TIMEOUT, HEADERS_BYTES_MAX, Sources, TARGET_BYTES_MAX},
    status::{Asker, NoStatus, NodeStatus},
};

const ENDPOINTS: [&str; 12] = [
    "GET /",
    "GET /debug/actors",
    "GET /debug/actors/{name}",
    "GET /debug/actors/{name}/mailbox",
    "POST /debug/actors/{name}/crash?mode=now|before|after",
    "GET /debug/status",
    "POST /debug/checkpoint",
    "GET /debug/faults",
    "POST /debug/faults",
    "GET /metrics",
    "GET /healthz",
    "GET /readyz",
];

const FAULTS_EXAMPLE: &str = concat!(
    r#"{"everywhere": {"drop_permille": 100}, "#,
    r#""links": [{"from": 1, "to": 2, "switches": {"cut": true}}]}"#
);

/// A file of the page, part of the program.
struct Page(&'static str, &'static str);

const INDEX: Page = Page("text/html; charset=utf-8", include_str!("page/index.html"));
const SCRIPT: Page = Page("text/javascript; charset=utf-8", include_str!("page/page.js"));
const STYLE: Page = Page("text/css; charset=utf-8", include_str!("page/page.css"));

impl Page {
    fn answer(&self) -> HttpResponse {
        HttpResponse::Ok().content_type(self.0).body(self.1)
    }
}

/// What the handlers share.
pub(crate) struct Inside {
    sources: Sources,
    asker: Asker,
    /// What was set last; the cluster actor cannot be asked.
    faults: Mutex<Faults>,
}

type Here = web::Data<Inside>;
type Answer = Result<HttpResponse, Refusal>;

pub(crate) fn configure(app: &mut web::ServiceConfig) {
    app.service(looking("/", async || INDEX.answer()))
        .service(looking("/page.js", async || SCRIPT.answer()))
        .service(looking("/page.css", async || STYLE.answer()))
        .service(looking("/debug/actors", actors))
        .service(looking("/debug/actors/{tail:.*}", actor).route(web::post().to(crash)))
        .service(looking("/debug/status", status))
        .service(looking("/debug/checkpoint", checkpointed).route(web::post().to(checkpoint)))
        .service(looking("/debug/faults", faults).route(web::post().to(set_faults)))
        .service(looking("/metrics", metrics))
        .service(looking("/healthz", healthz))
        .service(looking("/readyz", readyz))
        .default_service(web::to(async |request| Answer::Err(unknown_path(&request))));
}

/// A resource that can be looked at; for everything else it has words.
fn looking<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args> + Clone,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(handler.clone()))
        .route(web::head().to(handler))
        .default_service(web::to(async |request| Answer::Err(wrong_method(&request))))
}

/// H4, as far as actix-web leaves it to us: it reads at most 128 KiB of a head.
pub(crate) async fn bounded<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET_BYTES_MAX {
        let text = format!("a path of {target} bytes; at most {TARGET_BYTES_MAX}");
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, text).into());
    }
    let headers = request.headers().iter();
    let headers: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > HEADERS_BYTES_MAX {
        let text = format!("headers of {headers} bytes; at most {HEADERS_BYTES_MAX}");
        return Err(Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text).into());
    }
    next.call(request).await
}

async fn actors(inside: Here) -> HttpResponse {
    let mailboxes = inside.sources.node.mailboxes();
    json(mailboxes.iter().map(|stats| stats.actor()).collect::<Vec<_>>())
}

/// What follows `/debug/actors/`, its escaped slashes made plain: nothing else in a name needs to
/// be escaped.
fn tail(request: &HttpRequest) -> String {
    let tail = request.match_info().query("tail");
    tail.replace("%2F", "/").replace("%2f", "/").trim_matches('/').to_string()
}

async fn actor(request: HttpRequest, inside: Here) -> Answer {
    let tail = tail(&request);
    if tail.is_empty() {
        return Ok(actors(inside).await);
    }
    if tail.ends_with("/crash") {
        return Err(wrong_method(&request));
    }
    let (text, in_full) = match tail.strip_suffix("/mailbox") {
        Some(text) => (text, true),
        None => (tail.as_str(), false),
    };
    let mailbox = text.parse().ok().and_then(|name| inside.sources.node.mailbox(name));
    let mailbox = mailbox.ok_or_else(|| inside.no_actor(text))?;
    Ok(if in_full { json(mailbox.mailbox()) } else { json(mailbox.actor()) })
}

/// Whoever only looks is told where the last one stands.
async fn checkpointed(inside: Here) -> Answer {
    match inside.asker.status().await {
        Ok(NodeStatus { whole: Status { checkpointed, taken, applied, .. }, .. }) => {
            Ok(HttpResponse::Ok()
                .json(json!({ "checkpointed": checkpointed, "taken": taken, "applied": applied })))
        }
        Err(error) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}

/// Harms nothing: the node makes them by itself too, and one at a time.
async fn checkpoint(inside: Here) -> HttpResponse {
    let me = Name::of_node(inside.sources.node.id(), Role::Outside);
    inside.sources.take_checkpoint.send(me, ());
    HttpResponse::Accepted().json(json!({ "asked": true, "see": "GET /debug/checkpoint" }))
}

async fn crash(request: HttpRequest, inside: Here) -> Answer {
    inside.faults_allowed(&request)?;
    let tail = tail(&request);
    let Some(text) = tail.strip_suffix("/crash") else {
        return Err(wrong_method(&request));
    };
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    let query = web::Query::<BTreeMap<String, String>>::from_query(request.query_string());
    let query = query.map_err(|error| bad(format!("{error}; write ?mode=now|before|after")))?;
    let (mode, strikes) = match query.get("mode").map_or("now", String::as_str) {
        "now" => (CrashMode::Now, "at once, or when it has done with its present message"),
        "before" => (CrashMode::BeforeNext, "when it takes its next message, which is lost"),
        "after" => {
            (CrashMode::AfterNext, "when it has handled its next message, before it says a word")
        }
        other => {
            let text = format!("no mode `{other}`; there are now, before and after");
            return Err(bad(text));
        }
    };
    let name: Name = text.parse().map_err(|_| inside.no_actor(text))?;
    let node = &inside.sources.node;
    let mailbox = node.mailbox(name).ok_or_else(|| inside.no_actor(text))?;
    let restarts = mailbox.actor().restarts;
    node.crash(name, mode).map_err(|_| inside.no_actor(text))?;
    tracing::warn!(actor = %name, ?mode, "a crash was injected from the debug endpoints");
    let actor = name.to_string();
    let told = json!({ "actor": actor, "strikes": strikes, "restarts_so_far": restarts });
    Ok(HttpResponse::Accepted().json(told))
}

/// A status, and whose.
#[derive(Serialize)]
struct Named {
    node: NodeId,
    #[serde(flatten)]
    status: NodeStatus,
}

async fn status(inside: Here) -> Answer {
    let status = inside.status().await?;
    Ok(json(Named { node: inside.sources.node.id(), status }))
}

async fn faults(inside: Here) -> HttpResponse {
    json(&*inside.faults())
}

async fn set_faults(request: HttpRequest, body: web::Payload, inside: Here) -> Answer {
    inside.faults_allowed(&request)?;
    let Some(cluster) = &inside.sources.cluster else {
        let text = "this node has no links to other nodes, so there is nothing to cut or delay; \
                    crash an actor instead, with POST /debug/actors/{name}/crash";
        return Err(Refusal::new(StatusCode::CONFLICT, text));
    };
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    let read = timeout(BODY_TIMEOUT, body.to_bytes_limited(BODY_BYTES_MAX)).await;
    let read = read.map_err(|_| {
        let text = format!("the body has not come within {BODY_TIMEOUT:?}; send it again");
        Refusal::new(StatusCode::REQUEST_TIMEOUT, text)
    })?;
    let read = read.map_err(|_| {
        let text = format!("a body of more than {BODY_BYTES_MAX} bytes; send fewer links");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    })?;
    let read = read.map_err(|error| bad(format!("the body cannot be read: {error}")))?;
    let faults: Faults = serde_json::from_slice(&read).map_err(|error| {
        bad(format!("these are no faults: {error}. Write {FAULTS_EXAMPLE}; {{}} heals everything"))
    })?;
    known_nodes(&read, cluster).map_err(bad)?;
    // Kept and sent under one lock: what is shown is what was sent last.
    let mut shown = inside.faults();
    cluster.set_faults(faults.clone());
    *shown = faults;
    tracing::warn!(faults = ?*shown, "faults were set from the debug endpoints");
    Ok(json(&*shown))
}

/// A link to a node that does not exist is a slip, and would be cut in silence.
fn known_nodes(read: &[u8], cluster: &ClusterHandle) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Links {
        #[serde(default)]
        links: Vec<LinkFaults>,
    }
    let Links { links } = serde_json::from_slice(read).map_err(|error| error.to_string())?;
    let peers = cluster.counters().view().into_iter().map(|view| view.node);
    let known: Vec<NodeId> = peers.filter(|node| *node != NOBODY).collect();
    let mut named = links.iter().flat_map(|link| [link.from, link.to]);
    match named.find(|node| !known.contains(node)) {
        Some(strange) => {
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            Err(format!("no node {strange} in this cluster; there are {}", known.join(", ")))
        }
        None => Ok(()),
    }
}

async fn metrics(inside: Here) -> Answer {
    let rsm = inside.asker.status().await.ok().map(|status| status.whole);
    let sources = &inside.sources;
    let scrape = Scrape {
        node: sources.node.id(),
        version: sources.version.clone(),
        uptime: sources.node.uptime(),
        actors: sources.node.mailboxes().iter().map(|stats| stats.mailbox()).collect(),
        peers: sources.cluster.as_ref().map(|cluster| cluster.counters().view()),
        journal: (&sources.journal).into(),
        rsm,
    };
    let text = metrics::render(scrape).map_err(|_| {
        let text = "a number that the format cannot hold; /debug/actors and /debug/status have it";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    Ok(HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(text))
}

async fn healthz(inside: Here) -> HttpResponse {
    let (node, version) = (inside.sources.node.id(), &inside.sources.version);
    let uptime_s = inside.sources.node.uptime().as_secs_f64();
    json(json!({ "alive": true, "node": node, "version": version, "uptime_s": uptime_s }))
}

async fn readyz(inside: Here) -> Answer {
    let status = inside.status().await?.whole;
    let unready = |text: &str| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text);
    readiness(&status).map_err(unready)?;
    Ok(json(json!({ "ready": true, "node": inside.sources.node.id(), "leader": status.leader })))
}

/// See the crate's documentation: when a node is ready.
fn readiness(status: &Status) -> Result<(), &'static str> {
    if !status.ready {
        return Err("the state has not been recovered yet; wait, and see /debug/actors for who \
                    works on it");
    }
    if status.leader.is_none() && status.waiting > 0 {
        return Err(
            "commands wait and no leader is known: a majority of the nodes must be up and \
                    reach each other; ask them for /healthz, and see /debug/faults for cut links",
        );
    }
    Ok(())
}

fn wrong_method(request: &HttpRequest) -> Refusal {
    let text = format!("{} {} cannot be done; see `endpoints`", request.method(), request.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text).instead("endpoints", endpoints())
}

fn unknown_path(request: &HttpRequest) -> Refusal {
    let text = format!("nothing is at {}; see `endpoints`", request.path());
    Refusal::new(StatusCode::NOT_FOUND, text).instead("endpoints", endpoints())
}

fn endpoints() -> Vec<String> {
    ENDPOINTS.iter().map(ToString::to_string).collect()
}

impl Inside {
    pub(crate) fn new(sources: Sources) -> Self {
        let me = Name::of_node(sources.node.id(), Role::Outside);
        let asker = Asker::new(me, sources.ask_status.clone());
        let faults = Mutex::new(sources.faults.clone());
        Inside { sources, asker, faults }
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn status(&self) -> Result<NodeStatus, Refusal> {
        self.asker.status().await.map_err(|why| self.no_status(why))
    }

    fn no_status(&self, why: NoStatus) -> Refusal {
        let mailboxes = self.sources.node.mailboxes();
        let rsms = mailboxes.iter().filter(|stats| stats.name().role == Role::Rsm);
        let mut text = why.to_string();
        for view in rsms.map(|stats| stats.actor()) {
            text += &format!("; {} has {} messages waiting", view.name, view.depth);
            if let Some(busy) = view.busy {
                let ms = busy.age_ns / 1_000_000;
                text += &format!(" and has been at a {} for {ms} ms", busy.kind);
            }
            text += &format!(", see /debug/actors/{}/mailbox", view.name);
        }
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    fn no_actor(&self, text: &str) -> Refusal {
        let node = self.sources.node.id();
        let elsewhere = text.parse::<Name>().ok().filter(|name| name.node != node);
        let mut words = match elsewhere {
            Some(name) => format!("{name} lives on {}, and this is {node}; ask there", name.node),
            None => {
                let text: String = text.chars().take(64).collect();
                format!("no actor `{text}` on {node}; see `actors` for those that live here")
            }
        };
        words.truncate(256);
        let mailboxes = self.sources.node.mailboxes();
        let names = mailboxes.iter().map(|stats| stats.name().to_string()).collect();
        Refusal::new(StatusCode::NOT_FOUND, words).instead("actors", names)
    }

    /// H3: the switch is on, and no other site's page asks.
    fn faults_allowed(&self, request: &HttpRequest) -> Result<(), Refusal> {
        let forbidden = |text: &str| Err(Refusal::new(StatusCode::FORBIDDEN, text));
        if !self.sources.faults_allowed {
            return forbidden(
                "faults are not allowed on this node; to crash actors and cut links on purpose, \
                 write `faults = true` into its configuration and start it again",
            );
        }
        let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
        let origin = text(header::ORIGIN).map(|origin| {
            origin.strip_prefix("http://").or(origin.strip_prefix("https://")).unwrap_or(origin)
        });
        match origin {
            Some(origin) if text(header::HOST) != Some(origin) => forbidden(
                "the page of another site may not do this; use this node's own page, or curl",
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_when_recovered_and_led_or_idle() {
        for (ready, leader, waiting, expected) in [
            (false, None, 0, false),
            (false, Some(2), 0, false),
            (true, None, 0, true),
            (true, None, 1, false),
            (true, Some(2), 0, true),
            (true, Some(2), 9, true),
        ] {
            let status = Status { ready, leader, waiting, ..Status::default() };
            assert_eq!(readiness(&status).is_ok(), expected, "{status:?}");
        }
    }
}
