//! A process that is killed.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::role::{ROLE, Role};

/// A child that does not outlive its handle.
pub(crate) struct Process {
    child: Child,
    name: String,
    errors: PathBuf,
}

impl Process {
    /// This test, which plays the role. Should the process that starts it be killed itself, it ends with its input.
    /// `within`: a command that starts a command.
    pub(crate) fn plays(role: &Role, within: &[String]) -> Self {
        let mut command = command(within, &std::env::current_exe().unwrap());
        command.args(["--exact", crate::ENTRANCE, "--nocapture"]).env(ROLE, serde_json::to_string(role).unwrap());
        Self::starts(command, role.name(), role.folder.join(format!("{}.errors", role.name())))
    }

    /// What it says as errors goes to the end of the file `errors`.
    pub(crate) fn starts(mut command: Command, name: &str, errors: PathBuf) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(&errors).unwrap();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Process { child, name: name.to_owned(), errors }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn input(&mut self) -> &mut impl std::io::Write {
        self.child.stdin.as_mut().unwrap()
    }

    /// As by `kill -9`.
    pub(crate) fn is_killed(&mut self) {
        self.is_alive();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// It does not end by itself.
    pub(crate) fn is_alive(&mut self) {
        if self.has_ended() {
            panic!("{} has ended by itself: {}", self.name, self.errors());
        }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

pub(crate) fn command(within: &[String], program: &Path) -> Command {
    match within {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
