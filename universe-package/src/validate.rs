//! Everything that can be wrong with a package, found at once.

use std::collections::BTreeSet;

use jsonschema::{ValidationError, error::ValidationErrorKind};
use serde_json::{Value, json};

use crate::{
    Fault, Faults, OptionSchema, OptionType, Package, PackageFile, RenderError,
    mustache::Template,
    options::{options_of, properties},
};

const DRAFT_4: &str = "http://json-schema.org/draft-04/schema#";

impl Package {
    /// Checks the four files, each by itself and against the others. Placeholders in `resource.json` are no fault.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut faults = Vec::new();
        for file in PackageFile::ALL {
            check_text(file, self.text(file), &mut faults);
        }
        if let Some(package) = self.parsed(PackageFile::Package, &mut faults) {
            check_schema(PackageFile::Package, PACKAGE_SCHEMA, &package, &mut faults);
        }
        let resource = self.parsed(PackageFile::Resource, &mut faults);
        if let Some(resource) = &resource {
            check_schema(PackageFile::Resource, RESOURCE_SCHEMA, resource, &mut faults);
        }
        let config = self.parsed(PackageFile::Config, &mut faults);
        if let Some(config) = &config {
            check_config(config, &mut faults);
        }
        match Template::parse(&self.template) {
            Err(error) => faults.push(Fault::new(PackageFile::Template, "", error.to_string())),
            Ok(template) => {
                if let (Some(config), Some(resource)) = (&config, &resource) {
                    check_references(&template, &options_of(config), resource, &mut faults);
                }
            }
        }
        // What stands in the way of rendering has been reported above.
        if faults.is_empty() {
            self.check_rendering(&mut faults);
        }
        faults.sort_by_key(|fault| fault.file);
        if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
    }

    fn parsed(&self, file: PackageFile, faults: &mut Vec<Fault>) -> Option<Value> {
        self.json(file).map_err(|fault| faults.push(fault)).ok()
    }

    fn check_rendering(&self, faults: &mut Vec<Fault>) {
        let mut fault =
            |place: &str, problem: String| faults.push(Fault::new(PackageFile::Template, place, problem));
        let app = match self.render(&json!({})) {
            Ok(app) => app,
            Err(RenderError::Package(error)) => return faults.push(error),
            Err(error) => return fault("", format!("with the defaults, {error}")),
        };
        for (name, value) in app.get("env").and_then(Value::as_object).into_iter().flatten() {
            if !value.is_string() {
                fault(&format!("env.{name}"), format!("it is {value}; Marathon takes strings only"));
            }
        }
        let id = app.get("id");
        if !id.is_some_and(Value::is_string) {
            fault("id", "the app needs an id, a string".to_owned());
        }
    }
}

const PACKAGE_SCHEMA: &str = include_str!("schema/package.json");
const RESOURCE_SCHEMA: &str = include_str!("schema/resource.json");

/// The Universe takes ASCII only, also behind an escape.
fn check_text(file: PackageFile, text: &str, faults: &mut Vec<Fault>) {
    for (line, text) in (1..).zip(text.lines()) {
        let place = format!("line {line}");
        if let Some(c) = text.chars().find(|c| !c.is_ascii()) {
            faults.push(Fault::new(file, &place, format!("'{c}' is not ASCII")));
        }
        if text.contains("\\u") {
            faults.push(Fault::new(file, &place, "\\u escapes are not allowed: ASCII only"));
        }
    }
}

/// Checks a file against one of our schemas, draft 4 said aloud: a guessed draft may be a newer one.
fn check_schema(file: PackageFile, schema: &str, value: &Value, faults: &mut Vec<Fault>) {
    let validator = serde_json::from_str(schema)
        .map_err(|error| error.to_string())
        .and_then(|schema| jsonschema::draft4::options().build(&schema).map_err(|error| error.to_string()));
    match validator {
        Ok(validator) => faults.extend(validator.iter_errors(value).map(|error| schema_fault(file, &error))),
        Err(error) => faults.push(Fault::new(file, "", format!("its schema is unusable: {error}"))),
    }
}

fn schema_fault(file: PackageFile, error: &ValidationError<'_>) -> Fault {
    let path = error.instance_path().as_str().trim_start_matches('/').replace('/', ".");
    let problem = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            format!("not allowed here: {}", unexpected.join(", "))
        }
        _ => error.to_string(),
    };
    Fault::new(file, path, problem)
}

/// `config.json` is groups of options, closed on both levels so that Cosmos refuses what the scheduler does not know.
fn check_config(config: &Value, faults: &mut Vec<Fault>) {
    let file = PackageFile::Config;
    if let Err(error) = jsonschema::draft4::meta::validate(config) {
        faults.push(Fault::new(
            file,
            error.instance_path().as_str(),
            format!("it is not JSON Schema draft 4: {error}"),
        ));
        return;
    }
    if config.get("$schema").and_then(Value::as_str) != Some(DRAFT_4) {
        faults.push(Fault::new(file, "$schema", format!("it must say draft 4: \"{DRAFT_4}\"")));
    }
    check_object("", config, faults);
    for (group, schema) in properties(config) {
        check_name(group, group, faults);
        if group == "resource" {
            faults.push(Fault::new(file, group, "Cosmos puts resource.json at this name: choose another"));
        }
        check_description(group, schema, faults);
        check_object(group, schema, faults);
        for (name, schema) in properties(schema) {
            let option = format!("{group}.{name}");
            check_name(&option, name, faults);
            check_description(&option, schema, faults);
            check_option(&option, schema, faults);
        }
    }
}

fn check_name(place: &str, name: &str, faults: &mut Vec<Fault>) {
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    let is_plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !starts_well || !is_plain {
        let problem = "names are lower-case letters, digits and dashes, and begin with a letter: \
                       environment variables and flags are made from them";
        faults.push(Fault::new(PackageFile::Config, place, problem));
    }
}

fn check_description(place: &str, schema: &Value, faults: &mut Vec<Fault>) {
    if schema.get("description").and_then(Value::as_str).is_none_or(|text| text.trim().is_empty()) {
        faults.push(Fault::new(PackageFile::Config, place, "it has no description"));
    }
}

fn check_object(place: &str, schema: &Value, faults: &mut Vec<Fault>) {
    let mut fault = |problem: &str| faults.push(Fault::new(PackageFile::Config, place, problem));
    if schema.get("type") != Some(&json!("object")) {
        fault("it must have \"type\": \"object\": options are group.option, two levels");
    }
    if schema.get("additionalProperties") != Some(&json!(false)) {
        fault("it must have \"additionalProperties\": false, or unknown options are taken without a word");
    }
    if properties(schema).next().is_none() {
        fault("it has no properties");
    }
}

fn check_option(option: &str, schema: &Value, faults: &mut Vec<Fault>) {
    let mut fault = |problem: String| faults.push(Fault::new(PackageFile::Config, option, problem));
    if OptionType::of(schema).is_none() {
        fault(
            "its type must be string, boolean, integer or number: options are group.option, two levels"
                .to_owned(),
        );
    }
    let Some(default) = schema.get("default") else { return fault("it has no default".to_owned()) };
    match jsonschema::draft4::options().build(schema) {
        Err(error) => fault(error.to_string()),
        Ok(validator) => {
            validator.iter_errors(default).for_each(|error| fault(format!("its default is wrong: {error}")));
        }
    }
}

/// A name that the template misspells renders as nothing, and an option that it leaves out does nothing.
fn check_references(
    template: &Template,
    options: &[OptionSchema],
    resource: &Value,
    faults: &mut Vec<Fault>,
) {
    let mut used = BTreeSet::new();
    for reference in template.references() {
        let place = format!("line {}", reference.line);
        let mut fault = |problem: String| faults.push(Fault::new(PackageFile::Template, &place, problem));
        let name = reference.name;
        if let Some(path) = name.strip_prefix("resource.") {
            if path.split('.').try_fold(resource, |value, word| value.get(word)).is_none() {
                fault(format!("{name} is not in resource.json"));
            }
        } else if let Some(option) = options.iter().find(|option| option.to_string() == name) {
            used.insert(name);
            if reference.section && option.value_type.is_number() {
                fault(format!("{name} is a number: a section of it is always there, since 0 is true"));
            }
        } else {
            fault(format!("{name} is not an option of config.json"));
        }
    }
    for option in options.iter().map(ToString::to_string).filter(|option| !used.contains(option.as_str())) {
        faults.push(Fault::new(PackageFile::Template, "", format!("the option {option} is not used")));
    }
}
