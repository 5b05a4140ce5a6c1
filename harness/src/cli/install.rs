//! `completions` and `man`: what a packager installs beside the program.

use std::io::Write;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use super::exit::Exit;
use super::similar_name::did_you_mean;

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The subcommand. Default: the page of the program.
    command: Option<String>,
}

impl CompletionsArgs {
    pub(super) fn run(&self, mut program: Command) -> Result<(), Exit> {
        let name = program.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, name, &mut script);
        Ok(std::io::stdout().write_all(&script)?)
    }
}

impl ManArgs {
    pub(super) fn run(&self, mut program: Command) -> Result<(), Exit> {
        // Each subcommand then has the name of its page, as `smmu-harness-run`.
        program.build();
        let page = match &self.command {
            None => program,
            Some(name) => match program.find_subcommand(name) {
                Some(found) => found.clone(),
                None => {
                    let known = program.get_subcommands().map(Command::get_name);
                    let hint = did_you_mean(name, known);
                    return Err(Exit::Usage(format!("no subcommand is named \"{name}\"{hint}")));
                }
            },
        };
        let mut text = Vec::new();
        Man::new(page).render(&mut text)?;
        Ok(std::io::stdout().write_all(&text)?)
    }
}
