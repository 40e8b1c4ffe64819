"""What no good client does over a connection: nothing, half of it, too slowly, thousands of times, or nonsense in a WebSocket.
Each is answered with a refusal or closed, and whoever asks meanwhile is answered."""

import base64
import os
import random
import resource
import socket
import ssl
import time

from kubernetes import client, config

config.load_kube_config()
api = client.CoreV1Api()
configuration = client.Configuration.get_default_copy()
host, port = configuration.host.removeprefix("https://").split(":")
token = configuration.auth_settings()["BearerToken"]["value"]
context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
# Each wait below ends with an error after so many seconds.
PATIENCE = 60

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
connections = min(1000, hard - 100)


def connect(secure=True):
    plain = socket.create_connection((host, int(port)), timeout=PATIENCE)
    return context.wrap_socket(plain, server_hostname=host) if secure else plain


def head(method, path, *headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: {token}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def read_all(stream):
    """All that comes until the other side closes; a reset is an end as well."""
    said = b""
    try:
        while piece := stream.recv(65536):
            said += piece
    except (OSError, ssl.SSLError):
        pass
    return said


def ask():
    """Somebody else's question."""
    assert api.list_namespaced_pod("default", _request_timeout=PATIENCE).items is not None


# A thousand that say nothing, and some that stop within TLS, within their headers, within their body.
silent = [connect(secure=False) for _ in range(connections)]
ask()
halves = []
for said in [b"", b"GET /api/v1/pods HTTP/1.1\r\nHost: local", head("POST", "/api/v1/namespaces/default/pods", "Content-Length: 100") + b"{"]:
    # A body is waited for longer than all else.
    for ends in [True] if said.startswith(b"POST") else [False, True]:
        stream = connect()
        stream.sendall(said)
        if ends:
            # The write side alone.
            socket.socket.shutdown(stream, socket.SHUT_WR)
        halves.append(stream)
tls = connect(secure=False)
tls.sendall(b"\x16\x03\x01\x02\x00\x01")
tls.shutdown(socket.SHUT_WR)
halves.append(tls)
ask()

# Without a token, each is refused whatever it asks for.
for path in ["/api/v1/pods?watch=true", "/api/v1/namespaces/default/pods/p/exec?command=sh", "/openapi/v3"]:
    stream = connect()
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert read_all(stream).startswith(b"HTTP/1.1 401"), path

# Headers without end, and a body that is longer than it says.
stream = connect()
said = b""
try:
    stream.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50000)
    said = read_all(stream)
except (OSError, ssl.SSLError):
    pass
assert said == b"" or said.startswith(b"HTTP/1.1 4"), said
stream = connect()
stream.sendall(head("POST", "/api/v1/namespaces/default/pods", "Content-Length: 2", "Connection: close") + b"{}{}{}")
assert read_all(stream).startswith(b"HTTP/1.1 4")
ask()

# WebSockets that begin well.
pod = {"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [
    {"name": "c", "image": "busybox:1.36", "command": ["sleep", "1000"]}]}}
api.create_namespaced_pod("default", pod)
deadline = time.monotonic() + PATIENCE
while not (statuses := api.read_namespaced_pod("p", "default").status.container_statuses) or not statuses[0].ready:
    assert time.monotonic() < deadline, "the pod does not become ready"
    time.sleep(0.1)
seed = int(os.environ.get("PODCTL_MUTATION_SEED", "1"))
print(f"PODCTL_MUTATION_SEED={seed}")
numbers = random.Random(seed)
for attempt in range(int(os.environ.get("PODCTL_HOSTILE_SOCKETS", "40"))):
    below, protocol = numbers.choice([
        ("exec?command=cat&stdin=true&stdout=true", "v5.channel.k8s.io"),
        ("exec?command=sh&stdin=true&stdout=true&tty=true", "v4.channel.k8s.io"),
        ("attach?stdout=true", "v4.channel.k8s.io"),
        ("portforward?ports=80", "v4.channel.k8s.io"),
        ("portforward", "SPDY/3.1+portforward.k8s.io"),
    ])
    key = base64.b64encode(numbers.randbytes(16)).decode()
    stream = connect()
    stream.sendall(head("GET", f"/api/v1/namespaces/default/pods/p/{below}", "Connection: Upgrade", "Upgrade: websocket",
                        "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", f"Sec-WebSocket-Protocol: {protocol}"))
    answer = stream.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101"), (below, answer)
    nonsense = b""
    for _ in range(numbers.randrange(6)):
        payload = numbers.randbytes(numbers.randrange(120))
        opcode = numbers.choice([0, 1, 2, 2, 2, 8, 9, 15])
        nonsense += bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload
    # The last one ends in the middle, or has no mask, or is said to be enormous.
    nonsense += numbers.choice([b"\x82\xfe", b"\x82\x05hello", b"\x82\xff\x7f" + b"\xff" * 11, b"\xf0\x80", b"\x88\x80\0\0\0\0"])
    try:
        stream.sendall(nonsense)
        socket.socket.shutdown(stream, socket.SHUT_WR)
    except OSError:
        # It is closed already.
        pass
    read_all(stream)
    stream.close()
ask()
api.delete_namespaced_pod("p", "default", grace_period_seconds=0)

# Those that said half of something are refused or closed by themselves.
for stream in halves:
    said = read_all(stream)
    assert said == b"" or said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 504", b"\x15\x03")), said
for stream in silent:
    stream.close()
ask()
print("done")
