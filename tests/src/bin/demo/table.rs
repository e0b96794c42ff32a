//! The live table: agents down, task types across.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};

use cluster::api::Plan;
use comfy_table::{Table as Drawn, presets::UTF8_FULL_CONDENSED};

/// Redraws itself on a terminal; elsewhere it tells each step's change in a line.
pub struct Table {
    terminal: bool,
    /// The last picture's number of lines.
    height: usize,
    /// What was last told of each step.
    told: BTreeMap<String, String>,
}

impl Table {
    pub fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), height: 0, told: BTreeMap::new() }
    }

    pub fn show(&mut self, plan: &Plan) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.terminal {
            let picture = picture(plan);
            if self.height > 0 {
                // Up, and clear to the end of the screen.
                write!(out, "\x1b[{}A\x1b[J", self.height)?;
            }
            self.height = picture.lines().count();
            writeln!(out, "{picture}")?;
        } else {
            for phase in &plan.phases {
                for step in &phase.steps {
                    let status = format!("{} {}", step.status, step.message);
                    let place = format!("{:<22} {:<13}", step.name, phase.name);
                    if self.told.get(&place) != Some(&status) {
                        writeln!(out, "         {place} {status}")?;
                        self.told.insert(place, status);
                    }
                }
            }
        }
        out.flush()
    }
}

fn picture(plan: &Plan) -> String {
    let mut rows: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    let mut cluster = Vec::new();
    let mut columns = Vec::new();
    for phase in &plan.phases {
        if let [step] = &phase.steps[..]
            && step.name == phase.name
        {
            cluster.push(format!("{}: {}", phase.name, step.status));
            continue;
        }
        columns.push(phase.name.as_str());
        for step in &phase.steps {
            let cell = match step.message.as_str() {
                "" | "ready" | "done" => step.status.clone(),
                message => format!("{}\n{message}", step.status),
            };
            rows.entry(&step.name).or_default().insert(&phase.name, cell);
        }
    }
    let mut table = Drawn::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header([vec!["agent"], columns.clone()].concat());
    for (agent, cells) in rows {
        let cells = columns.iter().map(|column| cells.get(column).cloned().unwrap_or_default());
        table.add_row(std::iter::once(agent.to_owned()).chain(cells));
    }
    format!("plan deploy: {}, {}\n{table}", plan.status, cluster.join(", "))
}
