//! The pages that operators read, for the tests that follow them.

/// A block of code, and the comment before it.
pub struct Block {
    /// Where it is run, or what it is.
    pub place: String,
    pub language: String,
    pub text: String,
    /// The line of the page on which it begins, from 1 on.
    pub line: usize,
}

/// At the end of the place of what is of Mesos 0.28.
pub const OLD: &str = ", Mesos 0.28";

/// The blocks of a page, in their order.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut place = None;
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(comment) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
            place = Some(comment.to_owned());
        } else if let Some(language) = line.strip_prefix("```") {
            let code = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            let text = code.flat_map(|line| [line, "\n"]).collect();
            let place = place.take().unwrap_or_else(|| panic!("line {}: where is it run?", number + 1));
            blocks.push(Block { place, language: language.to_owned(), text, line: number + 1 });
        }
    }
    blocks
}

/// The page of this name in `docs`.
pub fn page(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}
