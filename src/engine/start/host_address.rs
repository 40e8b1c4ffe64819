//! The address that this machine is known by.

/// The address from which this machine would reach the outside. Nothing is sent.
pub fn find_host_ip() -> Option<std::net::IpAddr> {
    let route = |from: &str, to: &str| {
        let socket = std::net::UdpSocket::bind((from, 0)).ok()?;
        // Addresses of documentation: any that the default route leads to would do.
        socket.connect((to, 9)).ok()?;
        socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_unspecified())
    };
    route("0.0.0.0", "192.0.2.1").or_else(|| route("::", "2001:db8::1"))
}
