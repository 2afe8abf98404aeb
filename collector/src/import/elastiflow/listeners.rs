//! Inputs of Logstash become listeners.

use std::net::IpAddr;

use super::environment::Variables;
use super::found::Found;
use super::{At, Making};

/// A kind of input: how its variables and files are called.
struct Input {
    variables: &'static str,
    file: &'static str,
    port: u16,
    table: &'static str,
}

const UDP: &str = "receive.listeners";
const TCP: &str = "receive.tcp.listeners";
const INPUTS: [Input; 4] = [
    Input {
        variables: "NETFLOW",
        file: "netflow",
        port: 2055,
        table: UDP,
    },
    Input {
        variables: "SFLOW",
        file: "sflow",
        port: 6343,
        table: UDP,
    },
    Input {
        variables: "IPFIX_UDP",
        file: "ipfix",
        port: 4739,
        table: UDP,
    },
    Input {
        variables: "IPFIX_TCP",
        file: "ipfix",
        port: 4739,
        table: TCP,
    },
];
/// What ElastiFlow adds to a port for IPv6 when no variable says another one.
const IPV6_PORT_OFFSET: u16 = 50_000;

struct Socket {
    table: &'static str,
    address: IpAddr,
    port: u16,
    at: At,
    said: String,
}

pub(super) fn import(found: &Found, variables: &Variables, making: &mut Making) {
    let has_inputs = !found.inputs_on.is_empty() || !found.inputs_off.is_empty();
    if !variables.is_there && !has_inputs {
        making.report.left.push(
            "listeners: no file with variables (elastiflow.conf) and no conf.d was found, so the \
             ports are the defaults of this collector: 2055, 4739, 6343 and 9995, IPv4 and IPv6"
                .into(),
        );
        return;
    }
    let mut sockets = Vec::new();
    for input in &INPUTS {
        for (family, host) in [("IPV4", "0.0.0.0"), ("IPV6", "::")] {
            let name = format!("{}_{}", input.file, family.to_lowercase());
            let key = format!("ELASTIFLOW_{}_{family}", input.variables);
            let host_key = format!("{key}_HOST");
            let port_key = format!("{key}_PORT");
            let is_set = [&host_key, &port_key]
                .iter()
                .any(|key| variables.get(key).is_some());
            // The files say which inputs are on; without them, what somebody wrote down counts.
            let is_on = if has_inputs {
                found.inputs_on.contains(&name)
            } else {
                family == "IPV4" || is_set
            };
            if !is_on {
                off(variables, &[host_key, port_key], &name, making);
                continue;
            }
            let port = input.port
                + if family == "IPV6" {
                    IPV6_PORT_OFFSET
                } else {
                    0
                };
            sockets.extend(socket(
                input,
                variables,
                (&host_key, host),
                (&port_key, port),
                making,
            ));
        }
    }
    for socket in merged(sockets) {
        let Socket {
            table,
            address,
            port,
            at,
            said,
        } = socket;
        let lines = vec![format!("address = \"{address}\""), format!("port = {port}")];
        making.document.table(table, &at, lines);
        let text = format!(
            "{said} -> {table}: {}",
            std::net::SocketAddr::new(address, port)
        );
        making.report.taken(&at, text);
    }
}

/// Says of variables that their input is off.
fn off(variables: &Variables, keys: &[String], input: &str, making: &mut Making) {
    for key in keys {
        if let Some(variable) = variables.get(key) {
            let text = format!("{key}: not needed: the input {input} is off in conf.d");
            making.report.left(&variable.at, text);
        }
    }
}

fn socket(
    input: &Input,
    variables: &Variables,
    (host_key, host): (&str, &str),
    (port_key, port): (&str, u16),
    making: &mut Making,
) -> Option<Socket> {
    let host_set = variables.get(host_key);
    let port_set = variables.get(port_key);
    let host_text = host_set.map_or(host, |it| it.value.as_str());
    let plain = host_text.trim_start_matches('[').trim_end_matches(']');
    let Ok(address) = plain.parse::<IpAddr>() else {
        let text = format!("{host_key}={host_text} is no address; write one such as 0.0.0.0");
        making.report.odd(&host_set?.at, text);
        return None;
    };
    let port = match port_set {
        None => port,
        Some(variable) => match variable.value.parse() {
            Ok(port) if port > 0 => port,
            _ => {
                let text = format!("{port_key}={} is no port; write 1 to 65535", variable.value);
                making.report.odd(&variable.at, text);
                return None;
            }
        },
    };
    let set = port_set.or(host_set);
    let at = set.map_or_else(
        || At {
            file: "ElastiFlow's default".into(),
            line: 0,
        },
        |variable| variable.at.clone(),
    );
    let said = format!("{port_key}={port}");
    Some(Socket {
        table: input.table,
        address,
        port,
        at,
        said,
    })
}

/// Any port takes any protocol, and "::" takes IPv4, too: what says the same is one socket.
fn merged(sockets: Vec<Socket>) -> Vec<Socket> {
    let mut merged: Vec<Socket> = Vec::new();
    for socket in sockets {
        let same = merged.iter_mut().find(|other| {
            let both_any = other.address.is_unspecified() && socket.address.is_unspecified();
            (other.table, other.port) == (socket.table, socket.port)
                && (both_any || other.address == socket.address)
        });
        match same {
            Some(other) => {
                if socket.address.is_ipv6() {
                    other.address = socket.address;
                }
                other.said = format!("{}, {}", other.said, socket.said);
            }
            None => merged.push(socket),
        }
    }
    merged
}
