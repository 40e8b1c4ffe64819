//! `…/proxy/PATH` of pods and Services: HTTP through the server to a port of a pod.

use std::{convert::Infallible, sync::Arc};

use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{body::Frame, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::port_forward::connect;
use crate::server::{
    Server,
    http::{Answer, Asked},
    kinds::find_kind,
    object_access,
    route::Target,
    run_blocking,
    status::Failure,
};

/// The port of a pod that names none.
const HTTP_PORT: u16 = 80;
/// Headers that are of one connection, and this one's credential.
const OWN_HEADERS: [header::HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Passes a request on to a pod, and its answer back as it comes.
///
/// # Errors
/// The pod or Service is not there, has no such port, or does not answer.
pub async fn answer_proxy(
    server: Arc<Server>,
    asked: Asked,
    target: &Target,
    path: &str,
) -> Result<Answer, Failure> {
    let (finding, meant) = (server.clone(), target.clone());
    let (handle, port) = run_blocking(move || {
        let (pod, port) = find_port(&finding, &meant)?;
        let namespace = meant.namespace.as_deref().unwrap_or_default();
        let handle = finding
            .engine
            .pod(namespace, &pod)
            .map_err(|e| object_access::to_failure(meant.kind, &pod, e))?;
        Ok((handle, port))
    })
    .await?;
    let unreachable = |why: String| Failure::unavailable(format!("error trying to reach service: {why}"));
    let stream = connect(Arc::new(handle), port).await.map_err(unreachable)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(e.to_string()))?;
    // It ends with the answer, or with the client, whose going drops the sender.
    tokio::spawn(connection);
    let query = asked.query.encode();
    let uri = if query.is_empty() { format!("/{path}") } else { format!("/{path}?{query}") };
    let mut request = Request::builder().method(asked.method).uri(uri);
    if let Some(headers) = request.headers_mut() {
        *headers = leave_own_headers(asked.headers);
        headers.insert(header::HOST, header::HeaderValue::from_static("localhost"));
    }
    let request =
        request.body(Full::new(asked.body)).map_err(|e| Failure::bad_request(format!("the path: {e}")))?;
    let answer = sender.send_request(request).await.map_err(|e| unreachable(e.to_string()))?;
    let (mut head, body) = answer.into_parts();
    let length = head.headers.get(header::CONTENT_LENGTH).cloned();
    head.headers = leave_own_headers(head.headers);
    if let Some(length) = length {
        head.headers.insert(header::CONTENT_LENGTH, length);
    }
    let mut body = body;
    let pieces = futures_util::stream::poll_fn(move |context| {
        use hyper::body::Body;
        // What breaks off ends: of a known length, the client sees that something is missing.
        std::pin::Pin::new(&mut body).poll_frame(context).map(|frame| {
            let bytes = frame?.ok()?.into_data().unwrap_or_default();
            Some(Ok::<_, Infallible>(Frame::data(bytes)))
        })
    });
    Ok(Answer::from_parts(head, StreamBody::new(pieces).boxed_unsync()))
}

fn leave_own_headers(mut headers: HeaderMap) -> HeaderMap {
    for name in OWN_HEADERS {
        headers.remove(name);
    }
    headers
}

/// Finds the pod, and its port, that a name leads to: `NAME`, `NAME:PORT`, `http:NAME:PORT`.
fn find_port(server: &Server, target: &Target) -> Result<(String, u16), Failure> {
    let whole = target.name.as_deref().unwrap_or_default();
    let words: Vec<&str> = whole.split(':').collect();
    let (name, port) = match words[..] {
        [name] => (name, ""),
        [name, port] | ["" | "http", name, port] => (name, port),
        _ => {
            let message = format!("invalid name {whole:?}: http:NAME:PORT is understood");
            return Err(Failure::bad_request(message));
        }
    };
    let port = Some(port).filter(|port| !port.is_empty());
    let one = Target { name: Some(name.to_owned()), subresource: None, ..target.clone() };
    let object = server.find_object_now(&one)?;
    match target.kind.kind {
        "Pod" => find_pod_port(&object, port).map(|port| (name.to_owned(), port)),
        _ => {
            let kind = find_kind("", "v1", "endpoints").unwrap_or(target.kind);
            let endpoints = server.find_object_now(&Target { kind, ..one }).unwrap_or_default();
            find_service_port(&object, &endpoints, name, port)
        }
    }
}

fn find_pod_port(pod: &Value, port: Option<&str>) -> Result<u16, Failure> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
    let number = |port: &Value| port["containerPort"].as_u64().and_then(|n| u16::try_from(n).ok());
    let Some(wanted) = port else { return Ok(ports.next().and_then(number).unwrap_or(HTTP_PORT)) };
    match wanted.parse::<u16>() {
        Ok(port) => Ok(port),
        Err(_) => {
            let named = ports.find(|port| port["name"] == wanted).and_then(number);
            named.ok_or_else(|| Failure::bad_request(format!("the pod has no port {wanted:?}")))
        }
    }
}

fn find_service_port(
    service: &Value,
    endpoints: &Value,
    name: &str,
    port: Option<&str>,
) -> Result<(String, u16), Failure> {
    let ports = service["spec"]["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let own = match (port, ports) {
        (None, [one]) => Some(one),
        (None, _) => None,
        (Some(wanted), all) => all.iter().find(|own| {
            own["name"] == wanted
                || own["port"].as_u64().is_some() && own["port"].as_u64() == wanted.parse().ok()
        }),
    };
    let nowhere = |why: &str| Failure::unavailable(format!("{why} for service {name:?}"));
    let own = own.ok_or_else(|| nowhere("no such port"))?;
    let subsets = endpoints["subsets"].as_array().into_iter().flatten();
    let mut ready = subsets.filter_map(|subset| {
        let ports = subset["ports"].as_array()?;
        let port = ports.iter().find(|port| port["name"] == own["name"])?["port"].as_u64()?;
        let pod = subset["addresses"].as_array()?.iter().find_map(|a| a["targetRef"]["name"].as_str())?;
        Some((pod.to_owned(), u16::try_from(port).ok()?))
    });
    ready.next().ok_or_else(|| nowhere("no endpoints available"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pods_port_is_its_first_or_the_one_that_is_named() {
        let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [
            {"containerPort": 8080}, {"containerPort": 9090, "name": "web"}]}]}});
        assert_eq!(find_pod_port(&pod, None).unwrap(), 8080);
        assert_eq!(find_pod_port(&pod, Some("web")).unwrap(), 9090);
        assert_eq!(find_pod_port(&pod, Some("81")).unwrap(), 81);
        assert!(find_pod_port(&pod, Some("none")).is_err() && find_pod_port(&pod, Some("99999")).is_err());
        assert_eq!(find_pod_port(&json!({}), None).unwrap(), HTTP_PORT);
    }

    #[test]
    fn a_services_port_leads_to_a_pod_that_is_ready() {
        let service =
            json!({"spec": {"ports": [{"port": 80, "name": "http"}, {"port": 81, "name": "more"}]}});
        let ports = json!([{"name": "http", "port": 8080}, {"name": "more", "port": 8081}]);
        let endpoints = json!({"subsets": [{"ports": ports, "notReadyAddresses": [{"targetRef": {"name": "a"}}]},
            {"ports": ports, "addresses": [{"targetRef": {"name": "b"}}]}]});
        let find = |port| find_service_port(&service, &endpoints, "s", port).map_err(|failure| failure.code);
        assert_eq!(find(Some("80")), Ok(("b".into(), 8080)));
        assert_eq!(find(Some("more")), Ok(("b".into(), 8081)));
        assert_eq!((find(Some("82")), find(None)), (Err(503), Err(503)));
        let one = json!({"spec": {"ports": [{"port": 80}]}});
        let endpoints =
            json!({"subsets": [{"ports": [{"port": 8080}], "addresses": [{"targetRef": {"name": "b"}}]}]});
        assert_eq!(find_service_port(&one, &endpoints, "s", None).unwrap(), ("b".into(), 8080));
        assert_eq!(find_service_port(&one, &Value::Null, "s", None).unwrap_err().code, 503);
    }
}
