//! From a user's options to the Marathon app: what Cosmos does on a DC/OS cluster, done here for the tests.

use std::{collections::BTreeMap, fmt};

use jsonschema::{ValidationError, error::ValidationErrorKind};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{
    Fault, Package, PackageFile,
    mustache::{Template, TemplateError},
    options::properties,
};

/// Why a package does not render.
#[derive(Debug, Error)]
pub enum RenderError {
    /// A file of the package is not usable: validate it.
    #[error(transparent)]
    Package(#[from] Fault),
    /// The options are not such as `config.json` wants them.
    #[error(transparent)]
    Options(#[from] OptionFaults),
    /// The rendered text is not JSON.
    #[error("the rendered template is not JSON: {reason}\n{text}")]
    NotJson {
        /// The parser's reason.
        reason: serde_json::Error,
        /// All of the rendered text.
        text: String,
    },
    /// The rendered JSON is not an object.
    #[error("the rendered template is not a JSON object: {0}")]
    NotAnObject(Value),
    /// Marathon wants an object of strings for labels.
    #[error("the rendered label {name} is {value}, not a string")]
    Label {
        /// The label's name, or `labels` when they are no object.
        name: String,
        /// Its value.
        value: Value,
    },
}

/// One option that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionFault {
    /// `group.option`, or the group, or empty for the options as a whole.
    pub option: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// All options that are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionFaults(pub Vec<OptionFault>);

impl fmt::Display for OptionFaults {
    /// One option a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, OptionFault { option, problem }) in self.0.iter().enumerate() {
            let separator = if n > 0 { "\n" } else { "" };
            let name = if option.is_empty() { "options" } else { option };
            write!(f, "{separator}{name}: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for OptionFaults {}

impl Package {
    /// The Marathon app for a user's options, a JSON object as in `dcos package install --options`.
    ///
    /// The template sees the schema's defaults, over them the user's options, and `resource`. Cosmos' own labels (`DCOS_PACKAGE_NAME` and
    /// others) are not added.
    pub fn render(&self, user: &Value) -> Result<Value, RenderError> {
        let config = self.json(PackageFile::Config)?;
        let resource = self.json(PackageFile::Resource)?;
        let template = Template::parse(&self.template).map_err(template_fault)?;

        let mut context = defaults(&config);
        merge(&mut context, user);
        check_options(&config, &context)?;
        merge(&mut context, &Value::Object(Map::from_iter([("resource".to_owned(), resource)])));

        let text = template.render(&context).map_err(template_fault)?;
        let app: Value = match serde_json::from_str(&text) {
            Ok(app) => app,
            Err(reason) => return Err(RenderError::NotJson { reason, text }),
        };
        if !app.is_object() {
            return Err(RenderError::NotAnObject(app));
        }
        check_labels(&app)?;
        Ok(app)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn template_fault(error: TemplateError) -> Fault {
    Fault::new(PackageFile::Template, "", error.to_string())
}

/// The environment of a rendered app, without entries that are not strings.
pub fn environment(app: &Value) -> BTreeMap<String, String> {
    let env = app.get("env").and_then(Value::as_object).into_iter().flatten();
    env.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// The defaults of a schema and of its properties, in depth.
fn defaults(schema: &Value) -> Value {
    if let Some(default) = schema.get("default") {
        return default.clone();
    }
    let has_default =
        |(_, schema): &(_, &Value)| schema.get("default").is_some() || schema.get("properties").is_some();
    properties(schema).filter(has_default).map(|(name, schema)| (name.clone(), defaults(schema))).collect()
}

/// Puts `over` over `base`: objects member by member, all else as a whole.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                match base.get_mut(name) {
                    Some(present) => merge(present, value),
                    None => {
                        base.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

fn check_options(config: &Value, options: &Value) -> Result<(), RenderError> {
    let schema = jsonschema::draft4::options().build(config).map_err(|error| {
        Fault::new(PackageFile::Config, error.instance_path().as_str(), error.to_string())
    })?;
    let faults: Vec<_> =
        schema.iter_errors(options).flat_map(|error| option_faults(config, &error)).collect();
    if faults.is_empty() { Ok(()) } else { Err(OptionFaults(faults).into()) }
}

fn option_faults(config: &Value, error: &ValidationError<'_>) -> Vec<OptionFault> {
    let path = error.instance_path();
    let option = path.as_str().trim_start_matches('/').replace('/', ".");
    let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() else {
        return vec![OptionFault { option, problem: error.to_string() }];
    };
    let group = path
        .into_iter()
        .try_fold(config, |schema, segment| schema.get("properties")?.get(segment.to_string()));
    let known: Vec<_> = group.into_iter().flat_map(properties).map(|(name, _)| name.as_str()).collect();
    let known = known.join(", ");
    let fault = |name: &String| {
        if option.is_empty() {
            let problem = format!("there is no such group of options; there are {known}");
            OptionFault { option: name.clone(), problem }
        } else {
            let problem = format!("there is no such option; {option} has {known}");
            OptionFault { option: format!("{option}.{name}"), problem }
        }
    };
    unexpected.iter().map(fault).collect()
}

fn check_labels(app: &Value) -> Result<(), RenderError> {
    let Some(labels) = app.get("labels") else { return Ok(()) };
    let Some(entries) = labels.as_object() else {
        return Err(RenderError::Label { name: "labels".to_owned(), value: labels.clone() });
    };
    match entries.iter().find(|(_, value)| !value.is_string()) {
        Some((name, value)) => Err(RenderError::Label { name: name.clone(), value: value.clone() }),
        None => Ok(()),
    }
}
