//! `calico-universe`: the Universe package from the command line.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, anyhow, bail};
use calico_universe::{Package, Resources};
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

/// Builds, validates and renders the DC/OS Universe package of calico-dcos.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says all that is wrong with the package; exit code 1 if anything is.
    Validate(Source),
    /// Prints the Marathon app for a user's options.
    Render(Render),
    /// Writes the package with the artifacts' URIs and checksums filled in.
    Build(Build),
}

#[derive(Debug, Args)]
struct Source {
    /// The folder of the package's four files; without it, the package that this program was built with.
    #[arg(long, value_name = "DIR")]
    package: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Render {
    #[command(flatten)]
    source: Source,
    /// The user's options, as for `dcos package install --options`.
    #[arg(long, value_name = "FILE")]
    options: Option<PathBuf>,
    /// A resource.json to take in place of the package's own.
    #[arg(long, value_name = "FILE")]
    resource: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Build {
    #[command(flatten)]
    source: Source,
    /// The URL of the folder that serves the artifacts, each under its file's name.
    #[arg(long, value_name = "BASE_URL")]
    artifacts: String,
    /// An artifact's name in resource.json and its file, which is hashed; once for each.
    #[arg(long = "file", value_name = "NAME=PATH", value_parser = named_file)]
    files: Vec<(String, PathBuf)>,
    /// The calico/node image.
    #[arg(long, value_name = "IMAGE")]
    node_image: String,
    /// The image of Docker's network plugin.
    #[arg(long, value_name = "IMAGE")]
    libnetwork_image: String,
    /// Where the four files are written.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("it is not NAME=PATH".to_owned()),
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Validate(source) => source.load().and_then(|package| validate(&package)),
        Command::Render(render) => render.run(),
        Command::Build(build) => build.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("calico-universe: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Source {
    fn load(&self) -> Result<Package> {
        match &self.package {
            Some(folder) => Ok(Package::load(folder)?),
            None => Ok(Package::embedded()),
        }
    }
}

fn validate(package: &Package) -> Result<()> {
    package.validate().map_err(|faults| anyhow!("the package is not valid:\n{faults}"))
}

impl Render {
    fn run(self) -> Result<()> {
        let mut package = self.source.load()?;
        if let Some(path) = &self.resource {
            package.resource = read(path)?;
        }
        let options = match &self.options {
            Some(path) => serde_json::from_str(&read(path)?)
                .with_context(|| format!("{} is not JSON", path.display()))?,
            None => json!({}),
        };
        let app: Value = package.render(&options)?;
        writeln!(io::stdout(), "{app:#}").context("standard output")
    }
}

impl Build {
    fn run(self) -> Result<()> {
        let mut files = BTreeMap::new();
        for (name, path) in self.files {
            if let Some(first) = files.insert(name.clone(), path) {
                bail!("--file {name} is given twice, first as {}", first.display());
            }
        }
        let resources =
            Resources::from_files(&self.artifacts, &files, &self.node_image, &self.libnetwork_image)?;
        let package = self.source.load()?.filled(&resources)?;
        validate(&package)?;
        Ok(package.save(&self.out)?)
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}
