//! The file of modules: which libraries Mesos loads, and what is in them. Other libraries in it are others'.

use serde_json::{Value, json};

use crate::json_text::{JsonTextError, ObjectText};

/// The module that puts containers on Calico's network.
pub const ISOLATOR: &str = "com_mesosphere_mesos_NetworkIsolator";
/// The module that tells their addresses.
pub const HOOK: &str = "com_mesosphere_mesos_NetworkHook";

const LIBRARIES: &str = "libraries";

/// A file that Mesos would not take, or in which our modules have no place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ModulesError {
    /// Not an object of JSON.
    #[error(transparent)]
    Text(#[from] JsonTextError),
    /// Something else than libraries.
    #[error("\"libraries\" must be an array of objects, at line {line}, column {column}")]
    NotLibraries {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// Mesos does not start with a module of one name in two libraries.
    #[error("it has the module {module} already, of {library}: take that library out of it")]
    Rival {
        /// The module.
        module: &'static str,
        /// The library that it is of.
        library: String,
    },
}

/// Our entry.
#[derive(Debug, Clone, Copy)]
pub struct Library<'a> {
    /// The library.
    pub file: &'a str,
    /// What its isolator runs.
    pub command: &'a str,
}

impl Library<'_> {
    fn entry(self) -> Value {
        let Self { file, command } = self;
        let parameter = |key: &str| json!({ "key": key, "value": command });
        json!({
            "file": file,
            "modules": [
                { "name": ISOLATOR, "parameters": [parameter("isolator_command"), parameter("ipam_command")] },
                { "name": HOOK },
            ],
        })
    }
}

/// The text of a file of modules that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModulesJson {
    text: ObjectText,
    libraries: Vec<Value>,
}

impl ModulesJson {
    /// Reads it; none at all has no libraries.
    pub fn parse(content: Option<&[u8]>) -> Result<Self, ModulesError> {
        Self::of(ObjectText::parse(content, "Mesos")?)
    }

    fn of(text: ObjectText) -> Result<Self, ModulesError> {
        let libraries = match text.get(LIBRARIES) {
            None => Vec::new(),
            Some(Value::Array(libraries)) if libraries.iter().all(Value::is_object) => libraries,
            Some(_) => {
                let (line, column) = text.position(LIBRARIES).unwrap_or((1, 1));
                return Err(ModulesError::NotLibraries { line, column });
            }
        };
        Ok(Self { text, libraries })
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.text.text()
    }

    /// With our library, in the place of an entry of the same file, or else as the last one.
    pub fn with(&self, library: Library<'_>) -> Result<Self, ModulesError> {
        let entry = library.entry();
        let ours = self.position(library.file);
        for (index, other) in self.libraries.iter().enumerate() {
            if Some(index) != ours
                && let Some(module) = [ISOLATOR, HOOK].into_iter().find(|module| has_module(other, module))
            {
                let file = ["file", "name"].iter().find_map(|key| other[key].as_str());
                let library = file.unwrap_or("a library without a name").to_owned();
                return Err(ModulesError::Rival { module, library });
            }
        }
        match ours {
            Some(index) if self.libraries[index] == entry => Ok(self.clone()),
            Some(index) => Self::of(self.text.with_element_at(LIBRARIES, index, &entry)),
            None => Self::of(self.text.with_element(LIBRARIES, &entry)),
        }
    }

    /// With what `earlier` had of the library `file`: its entry, or none.
    pub fn with_library_of(&self, earlier: &Self, file: &str) -> Result<Self, ModulesError> {
        let before = earlier.position(file).map(|index| &earlier.libraries[index]);
        let text = match (self.position(file), before) {
            (None, None) => self.text.clone(),
            (None, Some(before)) => self.text.with_element(LIBRARIES, before),
            (Some(index), Some(before)) => self.text.with_element_at(LIBRARIES, index, before),
            (Some(index), None) => self.text.without_element(LIBRARIES, index),
        };
        let was_there = earlier.text.keys().any(|key| key == LIBRARIES);
        let is_empty = text.get(LIBRARIES) == Some(json!([]));
        Self::of(if is_empty && !was_there { text.without(LIBRARIES) } else { text })
    }

    /// The first entry of the library `file`.
    fn position(&self, file: &str) -> Option<usize> {
        self.libraries.iter().position(|library| library["file"] == file)
    }
}

fn has_module(library: &Value, name: &str) -> bool {
    library["modules"].as_array().is_some_and(|modules| modules.iter().any(|module| module["name"] == name))
}

#[cfg(test)]
mod tests;
