//! What the loop uses of the master and the agents: [`Client`], and in its tests a world without sockets.

use super::client::{Client, StreamNumber};
use super::operator::{self, OperatorError};
use super::sandbox;
use crate::config::Server;
use crate::core::{Agent, AgentKey, FrameworkId, TaskId};
use mesos_v1::scheduler::Call;

/// The way to the master that we are subscribed to, and to its agents.
pub trait Link: Clone + Send + Sync + 'static {
    /// Sends a call to the leader, in the subscription that it was decided for. It is dropped when that is over: whatever
    /// matters is sent again.
    fn send(&self, stream: StreamNumber, call: Call) -> impl Future<Output = ()> + Send;

    /// The leader, while we are subscribed.
    fn leader(&self) -> Option<Server>;

    /// The list of agents, as the master at `leader` has it.
    fn agents(&self, leader: &Server) -> impl Future<Output = Result<Vec<Agent>, OperatorError>> + Send;

    /// What a failed task said last, where its agent can be asked.
    fn last_words(
        &self,
        agent: &AgentKey,
        framework: &FrameworkId,
        task: &TaskId,
    ) -> impl Future<Output = Option<String>> + Send;
}

impl Link for Client {
    async fn send(&self, stream: StreamNumber, call: Call) {
        self.send(stream, call).await;
    }

    fn leader(&self) -> Option<Server> {
        self.leader().map(|leader| leader.server)
    }

    async fn agents(&self, leader: &Server) -> Result<Vec<Agent>, OperatorError> {
        operator::agents(self.access(), leader).await
    }

    async fn last_words(&self, agent: &AgentKey, framework: &FrameworkId, task: &TaskId) -> Option<String> {
        // Agents of a cluster speak TLS where its masters do.
        let server = Server { tls: self.leader()?.server.tls, authority: agent.to_string() };
        sandbox::last_words(self.access(), &server, framework, task).await
    }
}
