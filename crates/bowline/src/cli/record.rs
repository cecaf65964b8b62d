//! Commands that read the record.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::record::time::{Moment, parse_every, parse_moment};

#[derive(Debug, Args)]
#[command(after_help = "\
Boards send what they measure to the app 3, record; docs/apps/record.md has the
messages and the schema of the files. The server may run or not.

  bowline record list                                  what there is
  bowline record query --device kitchen                the newest 50 samples
  bowline record query --series temp --since 2h --format plot
  bowline record query --since 2026-11-01 --every 1h --agg max --format csv")]
pub(crate) struct RecordArgs {
    #[command(subcommand)]
    pub(crate) command: RecordCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RecordCommand {
    /// List devices and their series, with how many samples there are and since when
    List(ListRecordArgs),
    /// Print or plot samples, oldest first
    Query(QueryArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListRecordArgs {
    /// Only devices whose id matches; * stands for any text, ? for one character
    #[arg(default_value = "*")]
    pub(crate) pattern: String,
    /// A JSON array
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) folder: RecordFolder,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Times are in UTC, of when a sample was taken: by the board's clock if it said so,
otherwise when the message came. They are given as

  90s, 15m, 2h, 7d, 2w                    so long ago
  2026-11-01                              the beginning of a day
  2026-11-01T12:30[:15][Z|+01:00]         a point in time
  1795399384000                           milliseconds since 1970
  now

A table without --since is of the newest 50; everything else is of all there is.")]
pub(crate) struct QueryArgs {
    /// Only devices whose id matches; * stands for any text, ? for one character
    #[arg(long, value_name = "PATTERN")]
    pub(crate) device: Option<String>,
    /// Only series whose name matches
    #[arg(long, value_name = "PATTERN")]
    pub(crate) series: Option<String>,
    /// From this time on
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) since: Option<Moment>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) until: Option<Moment>,
    /// One value for each span of this length: 30s, 5m, 1h, 1d
    #[arg(long, value_name = "SPAN", value_parser = parse_every)]
    pub(crate) every: Option<i64>,
    /// Which value that is [default: mean]
    #[arg(long, value_enum, requires = "every")]
    pub(crate) agg: Option<Aggregate>,
    /// Only the newest so many rows
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: Option<u32>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) folder: RecordFolder,
}

/// What becomes of the values of one span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Aggregate {
    /// The mean of the numbers
    #[default]
    Mean,
    /// The smallest number
    Min,
    /// The largest number
    Max,
    /// The last value
    Last,
    /// How many values there are
    Count,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// Comma-separated, with a header
    Csv,
    /// A JSON array, one object a line
    Json,
    /// A picture in the terminal
    Plot,
}

/// Where the record is.
#[derive(Debug, Args)]
pub(crate) struct RecordFolder {
    /// The server's data folder, whether it runs or not
    #[arg(long, default_value = "./bowline-data", value_name = "FOLDER")]
    pub(crate) data: PathBuf,
    /// The record's own folder, if apps.record.folder names another than record in the data folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
}
