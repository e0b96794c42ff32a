//! What operators want in a life: one configuration after the other, and what they command meanwhile.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use calico_scheduler::config::Config;
use calico_scheduler::core::{AgentKey, Command, Plan, Scope, Settings, TaskType, Verb};
use calico_scheduler::lead::Program;
use fake_master::{AgentSpec, End, Random};
use mesos_v1::domain_info::{FaultDomain, fault_domain};
use mesos_v1::{DomainInfo, TaskInfo};

use crate::checks::{Configuration, Hours};
use crate::environment::environment;

/// The attribute of racks, where these are the domains.
const RACK: &str = "rack";
const RACKS: usize = 3;
const MAX_PER_DOMAIN: &str = "CALICO_ROLLOUT_MAX_PER_DOMAIN";
/// A change of it is refused.
const NETWORK_NAME: &str = "CALICO_NETWORK_NAME";

/// The configurations of a life: the first one is installed, the others are brought to the agents.
pub fn configurations(
    random: &mut Random,
    adjust: impl Fn(Settings) -> Settings,
) -> Vec<(Program, Configuration)> {
    let by_rack = random.chance(500);
    // In a role of our own what services need is reserved.
    let role = if random.chance(400) { "calico" } else { "slave_public" };
    let mut options: Vec<(&str, String)> = vec![("CALICO_SERVICE_ROLE", role.to_owned())];
    if random.chance(300) {
        options.push(("CALICO_DOCKER_ALLOW_RESTART", "true".to_owned()));
    }
    if random.chance(500) {
        // As Marathon says it: our own scheduler runs on the first agent.
        options.extend(AgentSpec::many(1).map(|first| ("HOST", first.hostname.to_string())));
    }
    if random.chance(300) {
        options.push(("CALICO_AGENTS_FORGET_AFTER", format!("{}s", 60 + random.below(200))));
    }
    let has_windows = random.chance(200);
    let number = 2 + random.below(3);
    let mut programs = Vec::new();
    for version in 0..number {
        if version > 0 {
            // What is refused comes alone, and is set back.
            options.retain(|(name, _)| *name != NETWORK_NAME);
            for number_of_changes in 0..=random.below(2) {
                let change = change(random, version);
                let is_refused = change.0 == NETWORK_NAME;
                if is_refused && number_of_changes > 0 {
                    break;
                }
                options.retain(|(name, _)| *name != change.0);
                options.push(change);
                if is_refused {
                    break;
                }
            }
        }
        let mut all = options.clone();
        all.extend(rates(random));
        if by_rack {
            all.push(("CALICO_ROLLOUT_DOMAIN_ATTRIBUTE", RACK.to_owned()));
            // It is refused without a limit: this one is of more agents than there are.
            if all.iter().all(|(name, _)| *name != MAX_PER_DOMAIN) {
                all.push((MAX_PER_DOMAIN, "1000".to_owned()));
            }
        }
        let hours = if has_windows { hours(random) } else { Hours::default() };
        if has_windows {
            let window = |(from, to): &(u64, u64)| format!("daily {}-{}", time(*from), time(*to));
            let windows: Vec<String> = hours.0.iter().map(window).collect();
            all.push(("CALICO_ROLLOUT_WINDOWS", windows.join(",")));
        }
        let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (*name, &**value)).collect();
        let program = Program::new(&Config::from_env(&environment(&all)).unwrap());
        let settings = adjust(program.settings);
        let configuration = Configuration { settings: settings.clone(), hours };
        programs.push((Program { settings, ..program }, configuration));
    }
    programs
}

/// A few minutes each, for as long as any life lasts: a life begins at 22:13.
fn hours(random: &mut Random) -> Hours {
    let (open, closed) = (2 + random.below(3), 1 + random.below(3));
    let day = 24 * 60;
    let mut windows: Vec<(u64, u64)> =
        (0..60).map(|n| 22 * 60 + 14 + n * (open + closed)).map(|from| (from, from + open)).collect();
    windows.retain(|(from, to)| *to <= day || *from >= day);
    Hours(windows.into_iter().map(|(from, to)| (from % day, (to - 1) % day + 1)).collect())
}

/// As a clock shows it, in minutes of a day.
fn time(minute: u64) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// In which order, at what rate, and with how much patience.
fn rates(random: &mut Random) -> Vec<(&'static str, String)> {
    let mut below = |end| random.below(end);
    let mut options = vec![
        ("CALICO_ROLLOUT_STRATEGY", ["canary", "canary", "serial", "parallel"][index(below(4))].to_owned()),
        ("CALICO_ROLLOUT_CANARY_COUNT", (1 + below(2)).to_string()),
        ("CALICO_ROLLOUT_CANARY_SOAK", format!("{}s", below(40))),
        ("CALICO_ROLLOUT_MAX_CONCURRENT_AGENTS", (1 + below(3)).to_string()),
        ("CALICO_ROLLOUT_MAX_ATTEMPTS", (2 + below(2)).to_string()),
        ("CALICO_ROLLOUT_MAX_FAILURES", (1 + below(3)).to_string()),
        ("CALICO_ROLLOUT_AGENT_TIMEOUT", format!("{}s", 60 + below(121))),
        ("CALICO_ROLLOUT_STABILITY", format!("{}s", 1 + below(20))),
        ("CALICO_ROLLOUT_UNDO_DISABLED", (below(2) == 0).to_string()),
    ];
    if below(2) == 0 {
        options.push((MAX_PER_DOMAIN, (1 + below(2)).to_string()));
    }
    if below(5) < 2 {
        options.push(("CALICO_ROLLOUT_ON_FAILURE", "rollback".to_owned()));
    }
    options
}

/// One option is another than before. What is `bad` works on some agents only.
fn change(random: &mut Random, version: u64) -> (&'static str, String) {
    let how = match random.below(10) {
        0 => ".bad-check",
        1 => ".bad-exit-69",
        2 => ".bad-exit-75",
        3 => ".bad-exit-78",
        4 => ".bad-fetch",
        _ => "",
    };
    match random.below(18) {
        0..=4 => ("CALICO_NODE_IMAGE", format!("calico/node:v4.{version}{how}")),
        5..=7 => ("CALICO_LIBNETWORK_IMAGE", format!("calico/libnetwork-plugin:v2.{version}{how}")),
        8 | 9 => {
            let artifact = format!("http://10.0.0.9:8080/etcd-{version}{how}#sha256={}", "cd".repeat(32));
            ("CALICO_ARTIFACTS_ETCD", artifact)
        }
        10 | 11 => ("CALICO_NETWORK_MTU", (1400 + version).to_string()),
        12 => ("CALICO_CALICO_NODE_MEM", (200 + version).to_string()),
        13 => ("CALICO_LIBNETWORK_ENABLE", (random.below(2) == 0).to_string()),
        14 => ("CALICO_CNI_ENABLE", (random.below(2) == 0).to_string()),
        15 | 16 => {
            // An install has no readiness.
            let how = if how == ".bad-check" { ".bad-exit-75" } else { how };
            let artifact =
                format!("http://10.0.0.9:8080/calicoctl-{version}{how}#sha256={}", "cd".repeat(32));
            ("CALICO_ARTIFACTS_CALICOCTL", artifact)
        }
        _ => (NETWORK_NAME, format!("calico-{version}")),
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

/// What is bad does to its task.
#[derive(Debug, Clone)]
pub enum Bad {
    /// It ends so.
    Ends(End),
    /// It is never ready.
    NeverReady,
}

/// What a task has that is bad on this agent, if it has.
pub fn is_bad(task: &TaskInfo) -> Option<Bad> {
    let arguments = task.command.as_ref().map(|command| &*command.arguments).unwrap_or_default();
    let uris = task.command.as_ref().map(|command| &*command.uris).unwrap_or_default();
    let texts = arguments.iter().map(String::as_str).chain(uris.iter().map(|uri| &*uri.value));
    let fetches = task.name == TaskType::Prefetch.name();
    let bad = texts.filter_map(|text| text.split_once(".bad-")).map(|(_, how)| how);
    let mut bad = bad.filter(|how| how.starts_with("fetch") == fetches);
    let how = bad.next()?;
    let mut hasher = DefaultHasher::new();
    (&task.agent_id.value, how).hash(&mut hasher);
    let end = match how.get(..7) {
        Some("exit-69") => Bad::Ends(End::Code(69)),
        Some("exit-75") => Bad::Ends(End::Code(75)),
        Some("exit-78") => Bad::Ends(End::Code(78)),
        _ if fetches => Bad::Ends(End::Code(69)),
        _ => Bad::NeverReady,
    };
    // What is done once is bad wherever it is done.
    let of_cluster = TaskType::ALL.iter().any(|t| t.scope() == Scope::Cluster && t.name() == task.name);
    (of_cluster || hasher.finish() % 1000 < 350).then_some(end)
}

/// The `number`-th agent, in its rack: that is told as an attribute, and as its zone.
pub fn housed(number: usize, spec: AgentSpec) -> AgentSpec {
    let rack = format!("rack-{}", number % RACKS);
    let domain = FaultDomain {
        region: fault_domain::RegionInfo { name: "here".to_owned() },
        zone: fault_domain::ZoneInfo { name: rack.clone() },
    };
    let domain = DomainInfo { fault_domain: Some(domain) };
    AgentSpec { domain: Some(domain.into()), ..spec }.with_attribute(RACK, &rack)
}

/// What an operator commands, about one of these agents.
pub fn command(random: &mut Random, agents: &[AgentKey]) -> Command {
    let plan = match random.below(6) {
        0 => Plan::Recovery,
        1 => Plan::Deploy,
        _ => Plan::Update,
    };
    let of_plan = |plan, verb| Command { plan, verb, phase: None, agent: None };
    match random.below(16) {
        0 => return of_plan(plan, Verb::Pause),
        1 | 2 => return of_plan(plan, Verb::Resume),
        3 => return of_plan(Plan::Update, Verb::Stop),
        4 | 5 => return of_plan(Plan::Update, Verb::Start),
        6 | 7 => return of_plan(Plan::Update, Verb::Continue),
        8 => return of_plan(Plan::Update, Verb::Restart),
        9 if !agents.is_empty() => {
            let agent = agents.get(index(random.below(agents.len() as u64))).cloned();
            return Command { agent, ..of_plan(plan, Verb::Forget) };
        }
        _ => {}
    }
    let types = [TaskType::EtcdProxy, TaskType::Cni, TaskType::CalicoNode, TaskType::Libnetwork];
    let phase = random.chance(600).then(|| types[index(random.below(4))]);
    let of_all = agents.is_empty() || phase.is_some() && random.chance(150);
    let agent = (!of_all).then(|| agents[index(random.below(agents.len().max(1) as u64))].clone());
    let verb = match random.below(10) {
        0 => Verb::Skip,
        1 => Verb::Unskip,
        2 => Verb::ForceComplete,
        3..=5 => Verb::Restart,
        _ => Verb::Retry,
    };
    Command { plan: Plan::Update, verb, phase, agent }
}

/// How long a life is rolled out in, and what is to happen in it.
pub fn times(random: &mut Random, number: usize) -> (Duration, Vec<Duration>) {
    let lasts = random.between(Duration::from_mins(3), Duration::from_mins(10));
    let mut at: Vec<Duration> = (1..number).map(|_| random.between(Duration::ZERO, lasts)).collect();
    at.sort();
    if let Some(first) = at.first_mut() {
        *first = random.between(Duration::from_secs(1), Duration::from_secs(20)).min(*first);
    }
    (lasts, at)
}
