//! An answer to `GET_AGENTS`, read as it arrives: that of 50,000 agents is 70 MB long, of which little is kept.

use bytes::{Buf as _, BytesMut};
use mesos_v1::master::{AgentHead, agent_head};
use prost::{DecodeError, Message as _, decode_length_delimiter};

use super::{OperatorError, agent};
use crate::core::{Agent, Standing};

/// `Response.get_agents`.
const GET_AGENTS: usize = 10;
/// `Response.GetAgents.agents`.
const AGENTS: usize = 1;
/// `Response.GetAgents.recovered_agents`.
const RECOVERED_AGENTS: usize = 2;
/// In bytes, of what is said of one agent.
const LONGEST: usize = 16 * 1024 * 1024;

/// What has arrived of the answer.
#[derive(Default)]
pub(super) struct AgentList {
    /// What is not read yet: less than one agent.
    buffer: BytesMut,
    /// Whether `get_agents` has begun.
    begun: bool,
    /// How many bytes of `get_agents` are not read yet; none outside of it.
    inside: Option<usize>,
    agents: Vec<Agent>,
}

/// How a field's value is laid out.
enum Layout {
    Varint,
    Bytes(usize),
}

impl AgentList {
    /// Takes the next piece of the body.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), OperatorError> {
        self.buffer.extend_from_slice(piece);
        while self.field()? {}
        Ok(())
    }

    /// The agents, when the body has ended.
    pub fn end(self) -> Result<Vec<Agent>, OperatorError> {
        if !self.buffer.is_empty() || self.inside.is_some() {
            return Err(OperatorError::Answer("it ends within a field".to_owned()));
        }
        if !self.begun {
            return Err(OperatorError::Answer("it names no agents".to_owned()));
        }
        Ok(self.agents)
    }

    /// Reads the next field. False when it has not arrived whole.
    fn field(&mut self) -> Result<bool, OperatorError> {
        let mut rest = &self.buffer[..];
        let Some((number, layout)) = head(&mut rest)? else { return Ok(false) };
        let begins = self.buffer.len() - rest.len();
        if let (None, GET_AGENTS, Layout::Bytes(length)) = (self.inside, number, &layout) {
            self.begun = true;
            self.inside = (*length > 0).then_some(*length);
            self.buffer.advance(begins);
            return Ok(true);
        }
        let length = match layout {
            Layout::Varint if varint(&mut rest)?.is_none() => return Ok(false),
            Layout::Varint => 0,
            Layout::Bytes(length) if length > LONGEST => {
                return Err(OperatorError::Answer(format!("a field of it has {length} bytes")));
            }
            Layout::Bytes(length) => length,
        };
        let ends = self.buffer.len() - rest.len() + length;
        let left = self.inside.map(|left| left.checked_sub(ends));
        if left == Some(None) {
            return Err(OperatorError::Answer("a field is longer than what it is in".to_owned()));
        }
        let Some(value) = rest.get(..length) else { return Ok(false) };
        let read = match number {
            AGENTS if left.is_some() => AgentHead::decode(value).map(agent),
            RECOVERED_AGENTS if left.is_some() => recovered(value),
            _ => Ok(None),
        };
        self.agents.extend(read?);
        self.inside = left.flatten().filter(|left| *left > 0);
        self.buffer.advance(ends);
        Ok(true)
    }
}

/// One that was registered with the master before.
fn recovered(info: &[u8]) -> Result<Option<Agent>, DecodeError> {
    let agent_info = agent_head::Info::decode(info)?;
    let head = AgentHead { agent_info, ..Default::default() };
    Ok(agent(head).map(|agent| Agent { standing: Standing::Recovering, ..agent }))
}

/// A field's number, and the layout of its value; none when they have not arrived whole.
fn head(rest: &mut &[u8]) -> Result<Option<(usize, Layout)>, OperatorError> {
    let Some(key) = varint(rest)? else { return Ok(None) };
    // As protobuf has it: what the lowest three bits say.
    let layout = match key & 7 {
        0 => Layout::Varint,
        1 => Layout::Bytes(8),
        2 => match varint(rest)? {
            Some(length) => Layout::Bytes(length),
            None => return Ok(None),
        },
        5 => Layout::Bytes(4),
        other => return Err(OperatorError::Answer(format!("a field of it has the wire type {other}"))),
    };
    Ok(Some((key >> 3, layout)))
}

/// A number; none when it has not arrived whole.
fn varint(rest: &mut &[u8]) -> Result<Option<usize>, OperatorError> {
    let is_there = rest.len() >= 10 || rest.iter().any(|byte| byte & 0x80 == 0);
    Ok(is_there.then(|| decode_length_delimiter(rest)).transpose()?)
}

impl From<DecodeError> for OperatorError {
    fn from(error: DecodeError) -> Self {
        Self::Answer(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use mesos_v1::AgentInfo;
    use mesos_v1::master::{Response, response};
    use proptest::prelude::*;

    use super::*;

    fn answer(agents: usize, recovered: usize) -> Vec<u8> {
        let info = |n: usize| AgentInfo {
            hostname: format!("h{n}"),
            id: Some(format!("S{n}").as_str().into()),
            ..Default::default()
        };
        let agent = |n| response::get_agents::Agent {
            agent_info: info(n),
            active: true,
            version: "1.11.0".to_owned(),
            ..Default::default()
        };
        let get_agents = response::GetAgents {
            agents: (0..agents).map(agent).collect(),
            recovered_agents: (agents..agents + recovered).map(info).collect(),
        };
        let answer = Response {
            r#type: Some(response::Type::GetAgents.into()),
            get_agents: Some(get_agents),
            ..Default::default()
        };
        answer.encode_to_vec()
    }

    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Agent>, OperatorError> {
        let mut list = AgentList::default();
        for piece in pieces {
            list.take(piece)?;
        }
        list.end()
    }

    #[test]
    fn fields_that_nobody_asked_for_are_passed_over_and_a_list_in_two_parts_is_one() {
        let mut answer = [answer(2, 0), answer(0, 1)].concat();
        // Numbers 1000 to 1003: a varint of two bytes, eight bytes, four, and a text.
        answer.extend(b"\xc0\x3e\x80\x01\xc9\x3eeightbyt\xd5\x3efour\xda\x3e\x04text");
        let agents = read([&answer[..]].into_iter()).unwrap();
        assert_eq!(agents.iter().map(|agent| &*agent.id.0).collect::<Vec<_>>(), ["S0", "S1", "S0"]);
    }

    #[test]
    fn an_answer_that_is_cut_off_or_does_not_fit_together_is_an_error_that_says_so() {
        let whole = answer(3, 1);
        for length in 0..whole.len() {
            let error = read([&whole[..length]].into_iter()).unwrap_err().to_string();
            assert!(error.contains("it ends within a field") || error.contains("names no agents"), "{error}");
        }
        for (bytes, words) in [
            (&b"\x52\x03\x0a\x05hello"[..], "longer than what it is in"),
            (b"\x53", "wire type 3"),
            (b"\x52\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "varint"),
            (b"\x0a\xff\xff\xff\xff\x0f", "4294967295 bytes"),
        ] {
            let error = read([bytes].into_iter()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_list_is_the_same_in_whatever_pieces_it_arrives(
            agents in 0_usize..5, recovered in 0_usize..3, sizes in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let whole = answer(agents, recovered);
            let mut rest = &whole[..];
            let pieces = sizes.iter().cycle().map_while(|size| {
                let (piece, after) = rest.split_at(rest.len().min(*size));
                rest = after;
                (!piece.is_empty()).then_some(piece)
            });
            let listed = read(pieces).unwrap();
            prop_assert_eq!(listed.len(), agents + recovered);
            prop_assert_eq!(listed, read([&whole[..]].into_iter()).unwrap());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read([&bytes[..]].into_iter());
        }
    }
}
