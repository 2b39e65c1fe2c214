//! HTTP: what a node tells monitors. Nothing here changes anything.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::metrics;
use crate::node::{Node, NodeStatus};

/// Returns the routes of a node: `/metrics`, `/healthz` and `/status`.
pub(crate) fn routes(node: Arc<Node>) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(healthz)).route("/status", get(status)).with_state(node)
}

async fn metrics(State(node): State<Arc<Node>>) -> Response {
    match status_of(node).await {
        Ok(status) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(status)).into_response(),
        Err(response) => response,
    }
}

async fn healthz(State(node): State<Arc<Node>>) -> Response {
    match status_of(node).await.map(|status| ailment(&status)) {
        Ok(None) => "ok\n".into_response(),
        Ok(Some(reason)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
        Err(response) => response,
    }
}

async fn status(State(node): State<Arc<Node>>) -> Response {
    status_of(node).await.map_or_else(|response| response, |status| Json(status).into_response())
}

/// The flushers answer between two turns: that may take a moment, and must not hold up other requests.
async fn status_of(node: Arc<Node>) -> Result<NodeStatus, Response> {
    let asked = tokio::task::spawn_blocking(move || node.status()).await;
    asked.map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response())
}

/// Why the node is not healthy, if it is not.
fn ailment(status: &NodeStatus) -> Option<String> {
    let sick = status.pchannels.iter().find(|p| p.state != "working")?;
    let reason = sick.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
    Some(format!("pchannel {} is {}{reason}", sick.pchannel, sick.state))
}

#[cfg(test)]
mod tests {
    use tidegate_core::calls::Caller;
    use tidegate_core::pchannel::{Limits, Pchannel, Status};

    use super::*;
    use crate::node::Syncs;

    #[test]
    fn a_node_is_healthy_while_every_pchannel_works_and_says_what_is_wrong_else() {
        let pchannel = |state: &str| {
            let caller = Caller { node_id: 1, pchannel: "p_0".into(), term: 1 };
            Status { state: state.into(), reason: Some("a reason".into()), ..Pchannel::new(caller, Limits::default()).status() }
        };
        let node = |pchannels| NodeStatus {
            dir: "/n".into(),
            component_digest: "d".into(),
            component_bytes: 1,
            swaps: Vec::new(),
            budget_bytes: 100,
            wal_name: "rocksmq".into(),
            syncs: Syncs::default(),
            pchannels,
        };
        assert_eq!(ailment(&node(vec![pchannel("working")])), None);
        for state in
            ["dead", "scan failing", "dead letters failing", "not answering", "stopped", "fenced", "recovering again", "in_recovery"]
        {
            let said = ailment(&node(vec![pchannel("working"), pchannel(state)]));
            assert_eq!(said, Some(format!("pchannel p_0 is {state}: a reason")));
        }
    }
}
