//! One DNS question to one resolver over UDP.
//!
//! Must never: accept an answer that is not to this question, or wait for longer than the timeout.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::problem;
use leafboot_core::probe::ProbeProblem;

const PORT: u16 = 53;
/// A resolver of the partition answers in milliseconds; a machine's own resolver waits for 5 s.
const TIMEOUT: Duration = Duration::from_secs(2);
/// RFC 1035 4.2.1: an answer over UDP has at most 512 bytes, for a question without EDNS.
const ANSWER_MAX: usize = 512;

/// Asks `server` for the IPv6 addresses of `name`, from `device`. There is at least one.
pub(super) async fn aaaa(server: Ipv6Addr, name: &str, device: &str) -> Result<Vec<Ipv6Addr>, ProbeProblem> {
    let asking = async {
        let socket = socket(device)?;
        socket.connect(SocketAddr::from((server, PORT))).await?;
        let question = question(name)?;
        socket.send(&question.to_vec().map_err(io::Error::other)?).await?;
        let mut buffer = [0; ANSWER_MAX];
        loop {
            let length = socket.recv(&mut buffer).await?;
            let answer = Message::from_vec(buffer.get(..length).unwrap_or_default());
            if let Ok(answer) = answer
                && is_answer(&answer, &question)
            {
                return Ok(answer);
            }
        }
    };
    let answer = timeout(TIMEOUT, asking).await.map_err(|_| ProbeProblem::TimedOut)?;
    let answer = answer.map_err(|error: io::Error| problem(&error))?;
    let address =
        |record: &Record| if let RData::AAAA(address) = &record.data { Some(address.0) } else { None };
    let addresses: Vec<Ipv6Addr> = answer.answers.iter().filter_map(address).collect();
    let code = answer.metadata.response_code;
    if code != ResponseCode::NoError {
        return Err(ProbeProblem::NoAddress(code.to_string()));
    }
    if addresses.is_empty() {
        return Err(ProbeProblem::NoAddress("no AAAA record".to_owned()));
    }
    Ok(addresses)
}

fn socket(device: &str) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(device.as_bytes()))?;
    // The kernel chooses a random port.
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0).into())?;
    UdpSocket::from_std(socket.into())
}

fn question(name: &str) -> io::Result<Message> {
    let mut name = Name::from_ascii(name).map_err(io::Error::other)?;
    name.set_fqdn(true);
    let mut question = Message::query();
    question.metadata.id = fastrand::u16(..);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name, RecordType::AAAA));
    Ok(question)
}

fn is_answer(answer: &Message, question: &Message) -> bool {
    answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        && answer.queries == question.queries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_id_and_the_question() {
        let question = question("images.example").unwrap();
        let mut answer = question.clone();
        assert!(!is_answer(&answer, &question), "the question itself");
        answer.metadata.message_type = MessageType::Response;
        assert!(is_answer(&answer, &question));
        answer.metadata.id = !answer.metadata.id;
        assert!(!is_answer(&answer, &question));
    }
}
