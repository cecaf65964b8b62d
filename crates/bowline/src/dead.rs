//! `bowline dead`: messages that nobody could handle.

use std::fmt::Write;
use std::process::ExitCode;

use crate::cli::{DeadArgs, DeadCommand, DeadLetters, ListDeadArgs, ShowDeadArgs, TakeDeadArgs};
use crate::confirm::confirm;
use crate::control::{Client, DeadLetter, Direction, escape};
use crate::talk::shown;
use crate::units::{count, moment};

/// Bytes in a line of a hex dump.
const DUMP: usize = 16;

pub(crate) async fn run(args: DeadArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        DeadCommand::List(args) => list(&args).await,
        DeadCommand::Show(args) => show(&args).await,
        DeadCommand::Retry(which) => retry(which).await,
        DeadCommand::Drop(args) => drop_letters(args).await,
    }
}

async fn list(args: &ListDeadArgs) -> anyhow::Result<ExitCode> {
    let mut server = Client::connect(&args.question.server.data).await?;
    let letters = letters(&mut server, args.id.as_deref()).await?;
    if args.question.json {
        println!("{}", serde_json::to_string_pretty(&letters)?);
        return Ok(ExitCode::SUCCESS);
    }
    if letters.is_empty() {
        println!("No dead letters.");
        return Ok(ExitCode::SUCCESS);
    }
    let width = letters.iter().map(|letter| shown(&letter.device).chars().count()).max().unwrap_or(0).max(6);
    println!("{:>6}  {:width$}  {:4}  {:>6}  {:19}  reason", "number", "device", "way", "bytes", "when (UTC)");
    for letter in letters {
        let way = match letter.direction {
            Direction::Received => "from",
            Direction::Sent => "to",
        };
        println!(
            "{:>6}  {:width$}  {way:4}  {:>6}  {:19}  {}",
            letter.number,
            shown(&letter.device),
            letter.bytes,
            moment(letter.at_ms).trim_end_matches(" UTC"),
            shown(&letter.reason)
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn letters(server: &mut Client, device: Option<&str>) -> anyhow::Result<Vec<DeadLetter>> {
    let path = match device {
        Some(id) => format!("/v1/dead?device={}", escape(id)),
        None => "/v1/dead".to_owned(),
    };
    server.get(&path).await
}

async fn show(args: &ShowDeadArgs) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/dead/{}", args.number);
    let letter: DeadLetter = Client::connect(&args.question.server.data).await?.get(&path).await?;
    if args.question.json {
        println!("{}", serde_json::to_string_pretty(&letter)?);
        return Ok(ExitCode::SUCCESS);
    }
    let way = match letter.direction {
        Direction::Received => "from",
        Direction::Sent => "to",
    };
    let header = if letter.header.is_empty() { "none" } else { &letter.header };
    let qos = if letter.qos { "exactly once (qos)" } else { "best effort" };
    println!("dead letter {} {way} {}", letter.number, shown(&letter.device));
    println!("  reason   {}", shown(&letter.reason));
    println!("  since    {}", moment(letter.at_ms));
    println!("  sent as  {qos}, epoch {}", letter.epoch);
    println!("  header   {header}");
    println!("  payload  {}", count(letter.bytes as u64, "byte"));
    match (&letter.text, &letter.hex) {
        (Some(text), _) => println!("\n{}", text.lines().map(shown).collect::<Vec<_>>().join("\n")),
        (None, Some(hex)) => print!("\n{}", dump(hex)),
        (None, None) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Bytes given in hexadecimal, as a hex dump: place, bytes, and what of them is printable ASCII.
fn dump(hex: &str) -> String {
    let bytes = crate::cli::parse_hex(hex).map(|bytes| bytes.0).unwrap_or_default();
    let mut dump = String::new();
    for (line, bytes) in bytes.chunks(DUMP).enumerate() {
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        let printable = |&byte: &u8| if byte == b' ' || byte.is_ascii_graphic() { char::from(byte) } else { '.' };
        let text: String = bytes.iter().map(printable).collect();
        // Writing to a string does not fail.
        let _ = writeln!(dump, "{:08x}  {hex:<width$}  |{text}|", line * DUMP, width = 3 * DUMP - 1);
    }
    dump
}

async fn retry(which: DeadLetters) -> anyhow::Result<ExitCode> {
    let mut server = Client::connect(&which.server.data).await?;
    let mut failures = Failures::default();
    for number in numbers(&mut server, &which).await? {
        match server.post::<DeadLetter>(&format!("/v1/dead/{number}/retry"), &()).await {
            Ok(letter) => match letter.direction {
                Direction::Received => println!("{number} goes to the app again, from {}", shown(&letter.device)),
                Direction::Sent => println!("{number} goes to {} again", shown(&letter.device)),
            },
            Err(error) => failures.add(&error),
        }
    }
    Ok(failures.code())
}

async fn drop_letters(TakeDeadArgs { which, yes }: TakeDeadArgs) -> anyhow::Result<ExitCode> {
    let mut server = Client::connect(&which.server.data).await?;
    let numbers = numbers(&mut server, &which).await?;
    if which.all.is_some() && !numbers.is_empty() {
        let question = format!("Drop {} for good?", count(numbers.len() as u64, "dead letter"));
        if !confirm(&question, yes)? {
            eprintln!("Nothing is dropped.");
            return Ok(ExitCode::FAILURE);
        }
    }
    let mut failures = Failures::default();
    for number in numbers {
        match server.delete::<DeadLetter>(&format!("/v1/dead/{number}")).await {
            Ok(letter) => println!("{number} of {} is dropped", shown(&letter.device)),
            Err(error) => failures.add(&error),
        }
    }
    Ok(failures.code())
}

/// The numbers meant.
async fn numbers(server: &mut Client, which: &DeadLetters) -> anyhow::Result<Vec<u64>> {
    let Some(device) = &which.all else { return Ok(which.numbers.clone()) };
    let numbers: Vec<_> = letters(server, device.as_deref()).await?.into_iter().map(|letter| letter.number).collect();
    if numbers.is_empty() {
        println!("No dead letters.");
    }
    Ok(numbers)
}

/// Letters for which it did not work: the others are done all the same.
#[derive(Default)]
struct Failures(usize);

impl Failures {
    fn add(&mut self, error: &anyhow::Error) {
        self.0 += 1;
        eprintln!("bowline: {error:#}");
    }

    fn code(&self) -> ExitCode {
        if self.0 == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_dumped_line_by_line() {
        let bytes: String = (0x1e..0x30).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            dump(&bytes),
            "00000000  1e 1f 20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d  |.. !\"#$%&'()*+,-|\n\
             00000010  2e 2f                                            |./|\n"
        );
    }
}
