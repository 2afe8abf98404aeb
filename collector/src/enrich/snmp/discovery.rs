//! Asks an agent of SNMPv3 for the name and the clock of its engine (RFC 3414 section 4).
//!
//! The client's own way to do so takes an engine id of any length, with which it writes past the
//! end of its buffer, and so panics; and what comes late or from elsewhere ends it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use snmp2::AsnReader;
use snmp2::asn1::TYPE_SEQUENCE;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::error::PollError;

/// An agent's engine, as it says itself. Nobody has signed it: with a wrong one no answer is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// `snmpEngineID`, 5 to 32 bytes.
    pub id: Vec<u8>,
    /// `snmpEngineBoots`; 0 when it does not say.
    pub boots: i64,
    /// `snmpEngineTime`, seconds.
    pub time: i64,
}

/// Asks `agent`, `1 + retries` times at most.
///
/// # Errors
/// When it does not answer, or calls itself something impossible.
pub async fn discover(
    agent: SocketAddr,
    timeout: Duration,
    retries: usize,
) -> Result<Engine, PollError> {
    let socket = connect(agent).await.map_err(PollError::Unreachable)?;
    let mut unreachable = None;
    let mut buffer = vec![0; 65_536];
    for _ in 0..=retries {
        let deadline = Instant::now() + timeout;
        let number = rand::random::<u32>() & 0x3fff_ffff | 0x4000_0000;
        unreachable = socket.send(&question(number)).await.err();
        while let Ok(received) = timeout_at(deadline, socket.recv(&mut buffer)).await {
            let bytes = match received {
                Ok(length) => buffer.get(..length).unwrap_or_default(),
                Err(error) => {
                    unreachable = Some(error);
                    continue;
                }
            };
            // What is no answer to this question is passed over.
            if let Ok((engine, answered)) = answer(bytes)
                && answered == i64::from(number)
            {
                return checked(engine);
            }
        }
    }
    Err(unreachable.map_or(PollError::Timeout, PollError::Unreachable))
}

async fn connect(agent: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match agent {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(agent).await?;
    Ok(socket)
}

/// RFC 3411 section 5: an engine id has 5 to 32 bytes.
fn checked(engine: Engine) -> Result<Engine, PollError> {
    match engine.id.len() {
        5..=32 => Ok(engine),
        other => Err(PollError::EngineId(other)),
    }
}

/// A GetRequest for nothing, of nobody, to an unknown engine. `number` has its highest bits 01, so
/// that it takes four bytes.
fn question(number: u32) -> Vec<u8> {
    let [a, b, c, d] = number.to_be_bytes();
    [
        [0x30, 0x3e].as_slice(),
        // msgVersion
        &[0x02, 0x01, 0x03],
        // msgGlobalData: msgID, msgMaxSize, msgFlags (reportable), msgSecurityModel (USM)
        &[0x30, 0x11, 0x02, 0x04, a, b, c, d],
        &[0x02, 0x03, 0x00, 0xff, 0xe3],
        &[0x04, 0x01, 0x04],
        &[0x02, 0x01, 0x03],
        // msgSecurityParameters: engine id, boots, time, user, authentication, privacy
        &[0x04, 0x10, 0x30, 0x0e, 0x04, 0x00, 0x02, 0x01, 0x00],
        &[0x02, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00, 0x04, 0x00],
        // ScopedPDU: context engine id, context name, GetRequest
        &[0x30, 0x14, 0x04, 0x00, 0x04, 0x00],
        // request-id, error-status, error-index, no variable
        &[0xa0, 0x0e, 0x02, 0x04, a, b, c, d],
        &[0x02, 0x01, 0x00, 0x02, 0x01, 0x00, 0x30, 0x00],
    ]
    .concat()
}

/// The engine that an answer names, and the number of the question.
fn answer(bytes: &[u8]) -> Result<(Engine, i64), snmp2::Error> {
    let within = |bytes: &mut AsnReader<'_>| bytes.read_raw(TYPE_SEQUENCE).map(<[u8]>::to_vec);
    let message = within(&mut AsnReader::from_bytes(bytes))?;
    let mut message = AsnReader::from_bytes(&message);
    if message.read_asn_integer()? != 3 {
        return Err(snmp2::Error::UnsupportedVersion);
    }
    let global = within(&mut message)?;
    let number = AsnReader::from_bytes(&global).read_asn_integer()?;
    let security = message.read_asn_octetstring()?;
    let security = within(&mut AsnReader::from_bytes(security))?;
    let mut security = AsnReader::from_bytes(&security);
    let engine = Engine {
        id: security.read_asn_octetstring()?.into(),
        boots: security.read_asn_integer()?,
        time: security.read_asn_integer()?,
    };
    // RFC 3414 section 2.2: both are 0 to 2147483647.
    let is_count = |count: i64| (0..=i64::from(i32::MAX)).contains(&count);
    if !is_count(engine.boots) || !is_count(engine.time) {
        return Err(snmp2::Error::ValueOutOfRange);
    }
    Ok((engine, number))
}
