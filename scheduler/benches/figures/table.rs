//! All figures, with their goals.

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
    /// It explains another figure.
    None,
}

/// One figure.
#[derive(Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// How much it is.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// How much it should be.
    pub goal: Goal,
}

/// Prints the figures as a table of Markdown.
pub fn print(rows: &[Row]) {
    println!("\n| figure | measured | goal | |\n| --- | --- | --- | --- |");
    for Row { what, value, unit, goal } in rows {
        let (goal, verdict) = match goal {
            Goal::AtLeast(least) => (format!("at least {}", shown(*least)), value >= least),
            Goal::AtMost(most) => (format!("at most {}", shown(*most)), value <= most),
            Goal::None => (String::new(), true),
        };
        println!(
            "| {what} | {} {unit} | {goal} | {} |",
            shown(*value),
            if verdict { "" } else { "**missed**" }
        );
    }
}

/// With as many digits as say something.
fn shown(value: f64) -> String {
    match value {
        value if value >= 1000.0 => {
            let digits = format!("{value:.0}");
            let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
            groups.into_iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
        }
        value if value >= 10.0 => format!("{value:.0}"),
        value => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

/// The middle one of several measurements.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Criterion's mean of a benchmark, in seconds; none when it has not run.
pub fn estimate(name: &str) -> Option<f64> {
    let path = crate::results().join(name).join("new/estimates.json");
    let text = std::fs::read(path).ok()?;
    let estimates: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(estimates["mean"]["point_estimate"].as_f64()? / 1e9)
}
