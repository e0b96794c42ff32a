//! SUBSCRIBE, `UPDATE_FRAMEWORK`, TEARDOWN, and what becomes of a framework that is away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesos_v1::scheduler::{Event, OfferConstraints, call, event};
use mesos_v1::{FrameworkInfo, MasterInfo, master_info};

use crate::calls::error;
use crate::constraints::{self, Constraints};
use crate::state::{Framework, Link, roles, seconds};
use crate::world::{Answer, Timer, ToAgent, World};

impl World {
    pub(crate) fn subscribe(&mut self, subscribe: &call::Subscribe) -> Answer {
        let stream: Arc<str> = self.random.uuid_text().into();
        let answer = Answer { status: 200, body: String::new(), stream: Some(Arc::clone(&stream)) };
        if let Err(fault) = self.subscribe_with(&stream, subscribe) {
            self.emit(&stream, error(fault));
            self.close(&stream);
        }
        answer
    }

    fn subscribe_with(&mut self, stream: &Arc<str>, subscribe: &call::Subscribe) -> Result<(), String> {
        let mut info = subscribe.framework_info.clone();
        self.validate_framework(&info)?;
        let suppressed = suppressed_roles(&info, &subscribe.suppressed_roles)?;
        let constraints = constraints_of(subscribe.offer_constraints.as_ref())?;
        let id = info.id.as_ref().map(|id| id.value.clone()).filter(|id| !id.is_empty());
        let Some(id) = id else {
            let id = format!("{}-{:04}", self.master.id, self.master.next_framework);
            self.master.next_framework += 1;
            info.id = Some(id.as_str().into());
            let id: Arc<str> = id.into();
            self.add_framework(&id, info.into(), Link::Connected(Arc::clone(stream)));
            self.set_options(&id, suppressed, constraints);
            self.subscribed(&id, stream);
            return Ok(());
        };
        let id: Arc<str> = id.into();
        if !self.master.frameworks.contains_key(&id) {
            // From another master's time, and none of its tasks is here.
            self.add_framework(&id, info.clone().into(), Link::Recovered);
        }
        let now = self.now;
        let framework = self.framework(&id);
        // These two cannot change: a subscription with other ones keeps what was.
        info.user.clone_from(&framework.info.user);
        info.checkpoint = framework.info.checkpoint;
        validate_update(&framework.info, &info)?;
        let before = std::mem::replace(&mut framework.link, Link::Connected(Arc::clone(stream)));
        if before == Link::Recovered {
            framework.registered = now;
        }
        framework.reregistered = Some(now);
        framework.connections += 1;
        self.update_info(&id, info.into(), suppressed, constraints);
        if let Link::Connected(old) = before {
            self.emit(&old, error("Framework failed over"));
            self.close(&old);
            self.discard_offers(&id);
        } else {
            self.allocate_everywhere();
        }
        self.subscribed(&id, stream);
        let info = Arc::clone(&self.framework(&id).info);
        self.tell_agents_of(&info);
        Ok(())
    }

    /// SUBSCRIBED and the first HEARTBEAT.
    fn subscribed(&mut self, id: &Arc<str>, stream: &Arc<str>) {
        let subscribed = event::Subscribed {
            framework_id: (&**id).into(),
            heartbeat_interval_seconds: Some(self.settings.heartbeat.as_secs_f64()),
            master_info: Some(self.master_info()),
        };
        let event = Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(subscribed),
            ..Default::default()
        };
        self.emit(stream, event);
        let connection = self.framework(id).connections;
        self.heartbeat(id, connection);
    }

    pub(crate) fn heartbeat(&mut self, id: &Arc<str>, connection: u64) {
        let Some(framework) = self.master.frameworks.get(id) else { return };
        let Link::Connected(stream) = &framework.link else { return };
        if framework.connections != connection {
            return;
        }
        let stream = Arc::clone(stream);
        self.emit(&stream, Event { r#type: Some(event::Type::Heartbeat.into()), ..Default::default() });
        let framework = Arc::clone(id);
        self.after(self.settings.heartbeat, Timer::Heartbeat { framework, connection });
    }

    /// How the master names itself.
    pub fn master_info(&self) -> MasterInfo {
        let (ip, port) = self.settings.address;
        let text = std::net::Ipv4Addr::from(ip).to_string();
        let capabilities =
            [master_info::capability::Type::AgentUpdate, master_info::capability::Type::AgentDraining];
        MasterInfo {
            id: self.master.id.clone(),
            ip: u32::from_le_bytes(ip),
            port: port.into(),
            pid: Some(format!("master@{text}:{port}")),
            hostname: Some(text.clone()),
            version: Some("1.11.0".to_owned()),
            address: Some(mesos_v1::Address {
                hostname: Some(text.clone()),
                ip: Some(text),
                port: port.into(),
            }),
            domain: self.settings.domain.clone(),
            capabilities: capabilities
                .map(i32::from)
                .into_iter()
                // QUOTA_V2, which our messages do not name.
                .chain([3])
                .map(|kind| master_info::Capability { r#type: Some(kind) })
                .collect(),
        }
    }

    /// A framework that is there: callers have found it, or have just added it.
    pub(crate) fn framework(&mut self, id: &Arc<str>) -> &mut Framework {
        #[expect(clippy::expect_used, reason = "said above")]
        self.master.frameworks.get_mut(id).expect("the framework is there")
    }

    pub(crate) fn add_framework(&mut self, id: &Arc<str>, info: Arc<FrameworkInfo>, link: Link) {
        let framework = Framework {
            id: Arc::clone(id),
            roles: roles(&info),
            info,
            link,
            suppressed: BTreeSet::new(),
            constraints: Constraints::default(),
            filters: BTreeMap::new(),
            inverse_filters: BTreeMap::new(),
            tasks: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            offers: BTreeSet::new(),
            inverse_offers: BTreeSet::new(),
            registered: self.now,
            reregistered: None,
            connections: 1,
        };
        self.master.frameworks.insert(Arc::clone(id), framework);
        self.adopt_tasks(id);
        if self.framework(id).is_connected() {
            self.allocate_everywhere();
        }
    }

    fn validate_framework(&self, info: &FrameworkInfo) -> Result<(), String> {
        constraints::validate_roles(info)?;
        if info.failover_timeout() < 0.0 {
            return Err(format!("The framework failover_timeout ({}) is invalid", info.failover_timeout()));
        }
        match &info.id {
            Some(id) if self.master.completed.contains_key(id.value.as_str()) => {
                Err("Framework has been removed".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn set_options(&mut self, id: &Arc<str>, suppressed: BTreeSet<Arc<str>>, constraints: Constraints) {
        let framework = self.framework(id);
        framework.suppressed = suppressed;
        framework.constraints = constraints;
    }

    /// As the allocator's `updateFramework`: roles that come and go, are suppressed and revived.
    fn update_info(
        &mut self,
        id: &Arc<str>,
        info: Arc<FrameworkInfo>,
        suppressed: BTreeSet<Arc<str>>,
        constraints: Constraints,
    ) {
        let new = roles(&info);
        let framework = self.framework(id);
        framework.roles.clone_from(&new);
        framework.info = info;
        // The filters of roles that are revived go; so do those of roles that were left.
        let revived: Vec<_> =
            framework.suppressed.difference(&suppressed).filter(|r| new.contains(*r)).cloned().collect();
        framework.filters.retain(|(role, _), _| new.contains(role) && !revived.contains(role));
        if !revived.is_empty() {
            framework.inverse_filters.clear();
        }
        self.set_options(id, suppressed, constraints);
        let offers = self.framework(id).offers.clone();
        for number in offers {
            if self.master.offers.get(&number).is_some_and(|offer| !new.contains(&offer.role)) {
                self.rescind(number);
            }
        }
        self.forget_shares();
        // Seen by the next allocation.
        self.master.allocator.all_dirty = true;
        self.allocation_follows();
    }

    pub(crate) fn update_framework(&mut self, id: &Arc<str>, update: &call::UpdateFramework) -> Answer {
        let info = update.framework_info.clone();
        if let Err(fault) = self.validate_framework(&info) {
            return Answer::new(400, format!("Supplied FrameworkInfo is not valid: {fault}"));
        }
        let before = Arc::clone(&self.framework(id).info);
        if let Err(fault) = validate_update(&before, &info) {
            return Answer::new(400, format!("FrameworkInfo update is not valid: {fault}"));
        }
        let invalid = |what: &str, fault: String| Answer::new(400, format!("{what} not valid: {fault}"));
        let suppressed = match suppressed_roles(&info, &update.suppressed_roles) {
            Ok(suppressed) => suppressed,
            Err(fault) => return invalid("Supplied FrameworkInfo is", fault),
        };
        let constraints = match constraints_of(update.offer_constraints.as_ref()) {
            Ok(constraints) => constraints,
            Err(fault) => return invalid("'UpdateFramework.offer_constraints' are", fault),
        };
        let info = Arc::new(info);
        self.update_info(id, Arc::clone(&info), suppressed, constraints);
        if *before != *info {
            self.tell_agents_of(&info);
        }
        Answer::new(200, "")
    }

    /// The agents send what is unacknowledged again.
    fn tell_agents_of(&mut self, info: &Arc<FrameworkInfo>) {
        let Some(id) = &info.id else { return };
        let id: Arc<str> = id.value.as_str().into();
        let agents: BTreeSet<_> = self.framework(&id).tasks.values().map(|task| task.agent).collect();
        for agent in agents {
            self.tell(agent, ToAgent::Framework(Arc::clone(info)));
        }
    }

    /// The scheduler has closed its stream, or the network did.
    pub fn disconnect(&mut self, stream: &str) {
        let find = |framework: &&Framework| matches!(&framework.link, Link::Connected(s) if &**s == stream);
        let Some(id) = self.master.frameworks.values().find(find).map(|framework| Arc::clone(&framework.id))
        else {
            return;
        };
        self.deactivate_framework(&id);
        let framework = self.framework(&id);
        framework.link = Link::Disconnected;
        let (wait, connection) = (seconds(framework.info.failover_timeout()), framework.connections);
        self.after(wait, Timer::FailoverTimeout { framework: id, connection });
    }

    /// The stream breaks: the scheduler sees it end, and the master knows it at once.
    pub fn break_stream(&mut self, stream: &str) {
        let stream: Arc<str> = stream.into();
        self.disconnect(&stream);
        self.close(&stream);
    }

    fn deactivate_framework(&mut self, id: &Arc<str>) {
        self.discard_offers(id);
        let framework = self.framework(id);
        framework.filters.clear();
        framework.inverse_filters.clear();
    }

    /// Its offers are nobody's again.
    fn discard_offers(&mut self, id: &Arc<str>) {
        let framework = self.framework(id);
        let (offers, inverse) = (framework.offers.clone(), framework.inverse_offers.clone());
        for number in offers {
            self.discard(number, None);
        }
        for number in inverse {
            self.remove_inverse_offer(number);
        }
    }

    pub(crate) fn failover_timeout(&mut self, id: &Arc<str>, connection: u64) {
        let gone = |framework: &Framework| !framework.is_connected() && framework.connections == connection;
        if self.master.frameworks.get(id).is_some_and(gone) {
            self.remove_framework(id);
        }
    }

    pub(crate) fn remove_framework(&mut self, id: &Arc<str>) {
        self.deactivate_framework(id);
        let framework = self.framework(id);
        let tasks: Vec<_> = framework.tasks.keys().cloned().collect();
        let stream = match &framework.link {
            Link::Connected(stream) => Some(Arc::clone(stream)),
            _ => None,
        };
        for task in tasks {
            self.remove_task(&(Arc::clone(id), task));
        }
        let agents: Vec<_> = self.master.registered.keys().copied().collect();
        for agent in agents {
            self.tell(agent, ToAgent::ShutdownFramework(Arc::clone(id)));
        }
        if let Some(framework) = self.master.frameworks.remove(id) {
            self.master.completed.insert(Arc::clone(id), framework.info);
        }
        self.forget_shares();
        if let Some(stream) = stream {
            self.close(&stream);
        }
    }

    /// The allocator knows nothing of roles and frameworks that have left it.
    fn forget_shares(&mut self) {
        let frameworks = &self.master.frameworks;
        let has = |framework: &Framework, role: &Arc<str>| {
            framework.roles.contains(role) || framework.tasks.values().any(|task| task.role == *role)
        };
        let allocator = &mut self.master.allocator;
        allocator.roles.retain(|role, _| frameworks.values().any(|framework| has(framework, role)));
        allocator
            .clients
            .retain(|(role, id), _| frameworks.get(id).is_some_and(|framework| has(framework, role)));
    }
}

/// The suppressed roles, when they are the framework's.
fn suppressed_roles(info: &FrameworkInfo, suppressed: &[String]) -> Result<BTreeSet<Arc<str>>, String> {
    let own = roles(info);
    match suppressed.iter().find(|role| !own.contains(role.as_str())) {
        Some(other) => Err(format!("Suppressed role '{other}' is not contained in the list of roles")),
        None => Ok(suppressed.iter().map(|role| role.as_str().into()).collect()),
    }
}

fn constraints_of(message: Option<&OfferConstraints>) -> Result<Constraints, String> {
    message.map_or_else(|| Ok(Constraints::default()), Constraints::new)
}

fn validate_update(old: &FrameworkInfo, new: &FrameworkInfo) -> Result<(), String> {
    if old.principal != new.principal {
        return Err("Changing framework's principal is not allowed.".to_owned());
    }
    if old.user != new.user {
        return Err(format!(
            "Updating 'FrameworkInfo.user' is unsupported; attempted to update from '{}' to '{}'",
            old.user, new.user
        ));
    }
    if old.checkpoint() != new.checkpoint() {
        return Err(format!(
            "Updating 'FrameworkInfo.checkpoint' is unsupported; attempted to update from '{}' to '{}'",
            old.checkpoint(),
            new.checkpoint()
        ));
    }
    Ok(())
}
