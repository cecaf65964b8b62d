//! The section about the record app.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::bail;
use bowline_apps::record::{Rotate, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The app record (ident 3): what boards measure is kept in SQLite files. Nothing is written before a board sends
/// to it. See docs/apps/record.md.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Record {
    /// Whether there is such an app.
    enabled: bool,
    /// Folder of the files. "": `record` in the data folder.
    folder: PathBuf,
    /// What a recorded message survives.
    durability: RecordDurability,
    /// A new file begins with each of these, by UTC, and when the last one is full.
    rotate: RotateName,
    /// Size at which a file is full, in MiB.
    #[schemars(range(min = 1, max = 65_536))]
    file_mb: u64,
    /// Days after the end of its time at which a file is removed. 0: never.
    #[schemars(range(min = 0, max = 4_294_967_295u64))]
    keep_days: u32,
    /// What all files may have together before the oldest is removed, in MiB: at least twice file_mb. 0: no bound.
    #[schemars(range(min = 0, max = 1_099_511_627_776u64))]
    keep_mb: u64,
    /// Different series that a device may have in a file.
    #[schemars(range(min = 1, max = 10_000))]
    series: usize,
    /// Names of series for messages that are a number alone, by their tag: { 1 = "temp", 2 = "hum" }.
    names: BTreeMap<String, String>,
}

/// What a recorded message survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum RecordDurability {
    /// Power cuts.
    Fsync,
    /// The end of the server, however sudden.
    Os,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum RotateName {
    /// Each day.
    Day,
    /// Each month.
    Month,
    /// Each year.
    Year,
}

impl Default for Record {
    fn default() -> Self {
        let settings = Settings::new("");
        Record {
            enabled: true,
            folder: settings.folder,
            durability: RecordDurability::Fsync,
            rotate: RotateName::Month,
            file_mb: settings.file_bytes >> 20,
            keep_days: settings.keep_days.unwrap_or(0),
            keep_mb: settings.keep_bytes.unwrap_or(0) >> 20,
            series: settings.series,
            names: BTreeMap::new(),
        }
    }
}

impl Record {
    /// For a server with this data folder; `None` if the app is not to be there.
    pub(crate) fn settings(&self, data: &Path) -> Option<Settings> {
        let folder = if self.folder.as_os_str().is_empty() { data.join("record") } else { self.folder.clone() };
        self.enabled.then(|| Settings {
            folder,
            sync: self.durability == RecordDurability::Fsync,
            rotate: match self.rotate {
                RotateName::Day => Rotate::Day,
                RotateName::Month => Rotate::Month,
                RotateName::Year => Rotate::Year,
            },
            file_bytes: self.file_mb << 20,
            keep_days: (self.keep_days > 0).then_some(self.keep_days),
            keep_bytes: (self.keep_mb > 0).then_some(self.keep_mb << 20),
            series: self.series,
            // Checked.
            names: self.names.iter().filter_map(|(tag, name)| Some((tag.parse().ok()?, name.clone()))).collect(),
        })
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let Record { file_mb, keep_mb, .. } = *self;
        if keep_mb != 0 && keep_mb < 2 * file_mb {
            bail!("apps.record.keep_mb = {keep_mb}: expected 0 (no bound), or at least twice file_mb, {}", 2 * file_mb);
        }
        for (tag, name) in &self.names {
            if tag.parse::<u8>().is_err() {
                bail!("apps.record.names has {tag:?}: expected tags, numbers from 0 to 255, with names of series");
            }
            if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
                bail!("apps.record.names.{tag} = {name:?}: expected 1 to 64 bytes without control characters");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn settings(text: &str) -> Result<Option<Settings>, String> {
        let config = Config::parse(text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        Ok(config.apps.record.settings(&config.data))
    }

    #[test]
    fn the_defaults_are_those_of_the_app() {
        assert_eq!(settings("data = \"data\""), Ok(Some(Settings::new("data/record"))));
        assert_eq!(settings("[apps.record]\nenabled = false"), Ok(None));
    }

    #[test]
    fn every_setting_arrives() {
        let text = "[apps.record]\nfolder = \"r\"\ndurability = \"os\"\nrotate = \"day\"\nfile_mb = 2\nkeep_days = 3\n\
                    keep_mb = 4\nseries = 5\nnames = { 1 = \"temp\" }";
        let expected = Settings {
            folder: "r".into(),
            sync: false,
            rotate: Rotate::Day,
            file_bytes: 2 << 20,
            keep_days: Some(3),
            keep_bytes: Some(4 << 20),
            series: 5,
            names: BTreeMap::from([(1, "temp".to_owned())]),
        };
        assert_eq!(settings(text), Ok(Some(expected)));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for (setting, problem) in [
            ("file_mb = 0", "expected 1 to 65536"),
            ("keep_mb = 255", "at least twice file_mb, 256"),
            ("series = 0", "expected 1 to 10000"),
            ("rotate = \"week\"", "unknown variant `week`"),
            ("durability = \"memory\"", "unknown variant `memory`"),
            ("names = { temp = \"1\" }", "numbers from 0 to 255"),
            ("names = { 256 = \"temp\" }", "numbers from 0 to 255"),
            ("names = { 1 = \"\" }", "1 to 64 bytes"),
            ("keep_day = 1", "did you mean `keep_days`"),
        ] {
            let error = settings(&format!("[apps.record]\n{setting}")).unwrap_err();
            assert!(error.contains(problem), "{setting}: {error}");
        }
    }
}
