//! `rebilld generate`: man pages and completions, from the same definitions that the command line is read by. For packages;
//! hidden, because nobody else needs it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory, Subcommand};
use clap_complete::Shell;

use super::Cli;
use super::failure::Failure;

/// What is written, and where to. Files of the same name are replaced.
#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Writes man pages, one a command
    Man(Into),
    /// Writes completions for bash, zsh and fish
    Completions(Into),
}

#[derive(Debug, clap::Args)]
pub struct Into {
    /// Made if it is not there
    directory: PathBuf,
}

impl Generate {
    pub fn run(self) -> Result<(), Failure> {
        let (into, written) = match self {
            Self::Man(Into { directory }) => (directory.clone(), man(&directory)),
            Self::Completions(Into { directory }) => (directory.clone(), completions(&directory)),
        };
        written.map_err(|why| {
            Failure::data(format!("nothing can be written to {}: {why}; name a directory that you may write to", into.display()))
        })
    }
}

fn man(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(shown(), directory)
}

fn completions(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut command = shown();
        let name = command.get_name().to_owned();
        clap_complete::generate_to(shell, &mut command, name, directory)?;
    }
    Ok(())
}

/// The command line without what is hidden, which completions would offer.
fn shown() -> Command {
    let whole = Cli::command();
    let hidden: Vec<String> =
        whole.get_subcommands().filter(|command| command.is_hide_set()).map(|command| command.get_name().to_owned()).collect();
    let kept: Vec<Command> =
        whole.get_subcommands().filter(|command| !hidden.iter().any(|name| name == command.get_name())).cloned().collect();
    let mut command = Command::new("rebilld").version(env!("CARGO_PKG_VERSION"));
    if let Some(about) = whole.get_about() {
        command = command.about(about.clone());
    }
    if let Some(after) = whole.get_after_help() {
        command = command.after_help(after.clone());
    }
    command.propagate_version(true).args(whole.get_arguments().cloned()).subcommands(kept)
}
