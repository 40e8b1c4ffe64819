//! The channels of `exec`, `attach` and the older `port-forward` within a WebSocket: the first byte of a message says
//! which. PURE.

use serde_json::{Value, json};

/// Client to container.
pub const STDIN: u8 = 0;
/// Container to client.
pub const STDOUT: u8 = 1;
/// Container to client.
pub const STDERR: u8 = 2;
/// Tells how it ended: a Status.
pub const ERROR: u8 = 3;
/// The client's terminal: `{"Width":…,"Height":…}`.
pub const RESIZE: u8 = 4;
/// Version 5: a channel that has no more, named by the next byte.
pub const CLOSE: u8 = 255;

/// The protocols that are spoken, the best first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// Port-forward through SPDY within a WebSocket.
pub const TUNNELLED_SPDY: &str = "SPDY/3.1+portforward.k8s.io";

/// The best of those protocols that a client offers; `forwards` adds SPDY. Python's client offers several headers' worth
/// in one, separated by commas.
pub fn choose_protocol<'a>(offered: &[&'a str], forwards: bool) -> Option<&'a str> {
    let find = |wanted: &str| offered.iter().copied().find(|word| *word == wanted);
    let spdy = if forwards { find(TUNNELLED_SPDY) } else { None };
    spdy.or_else(|| PROTOCOLS.iter().find_map(|wanted| find(wanted)))
}

/// Names what a client says over a channel.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Goes to the container's standard input.
    Input(&'a [u8]),
    /// Nothing more comes for it.
    InputEnds,
    /// The terminal has these rows and columns.
    Resize(u16, u16),
    /// Has no meaning.
    Other,
}

/// Reads a message of exec or attach.
pub fn read_message(message: &[u8]) -> Message<'_> {
    match message.split_first() {
        Some((&STDIN, bytes)) => Message::Input(bytes),
        Some((&CLOSE, [STDIN])) => Message::InputEnds,
        Some((&RESIZE, text)) => {
            let size: Value = serde_json::from_slice(text).unwrap_or_default();
            let number = |name: &str| size[name].as_u64().and_then(|n| u16::try_from(n).ok());
            match (number("Height"), number("Width")) {
                (Some(rows), Some(columns)) => Message::Resize(rows, columns),
                _ => Message::Other,
            }
        }
        _ => Message::Other,
    }
}

/// Tells how a command ended, as the error channel says it: its exit code is a cause.
pub fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

/// Says that something could not be done, as the error channel says it.
pub fn failure_status(message: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_protocol_that_both_speak_is_chosen() {
        let both = ["v4.channel.k8s.io", "v5.channel.k8s.io"];
        assert_eq!(choose_protocol(&both, false), Some("v5.channel.k8s.io"));
        assert_eq!(choose_protocol(&both[..1], true), Some("v4.channel.k8s.io"));
        assert_eq!(choose_protocol(&[TUNNELLED_SPDY, "v4.channel.k8s.io"], true), Some(TUNNELLED_SPDY));
        assert_eq!(choose_protocol(&[TUNNELLED_SPDY], false), None);
        assert_eq!(choose_protocol(&["base64.channel.k8s.io"], true), None);
    }

    #[test]
    fn messages_are_read_and_damaged_ones_mean_nothing() {
        assert_eq!(read_message(b"\x00ls\n"), Message::Input(b"ls\n"));
        assert_eq!(read_message(&[CLOSE, STDIN]), Message::InputEnds);
        assert_eq!(read_message(b"\x04{\"Width\":80,\"Height\":24}"), Message::Resize(24, 80));
        for other in [&b""[..], b"\x04{", b"\x04{\"Width\":-1,\"Height\":24}", b"\x09x", b"\xff\x01"] {
            assert_eq!(read_message(other), Message::Other);
        }
    }

    #[test]
    fn an_exit_code_is_a_cause() {
        assert_eq!(exit_status(0)["status"], "Success");
        assert_eq!(exit_status(3)["details"]["causes"][0]["message"], "3");
    }
}
