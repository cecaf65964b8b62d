//! The machines of the crew: as network namespaces, where the kernel drops packets and takes links down, and with a
//! small disk for the server; or this machine as it is.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Of the names of namespaces and disks; behind it is the process that has made them.
const PREFIX: &str = "bowl";

/// Room on the server's disk, in MiB.
const DISK: u32 = 48;

/// Where processes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Server,
    Left,
    Right,
}

/// Where devices run.
pub(super) const SIDES: [Place; 2] = [Place::Left, Place::Right];

/// What the kernel does with the packets between a side and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// So many of a hundred are dropped, both ways.
    Drops(u8),
    DropsToServer,
    DropsFromServer,
    /// The server's connections are reset by what comes.
    Resets,
}

pub(super) enum World {
    Plain,
    Namespaces(Namespaces),
}

/// Removed when it is dropped.
pub(super) struct Namespaces {
    name: String,
    disk: PathBuf,
    filters: Vec<(Place, Filter)>,
}

impl World {
    /// Three namespaces, two of which are joined with the server's, whose disk is at `disk`. Needs root.
    pub(super) fn of_namespaces(disk: &Path) -> Self {
        removes_leftovers();
        // Removes what there is of it if the rest cannot be made.
        let name = format!("{PREFIX}{}", std::process::id());
        let made = Namespaces { name, disk: disk.to_owned(), filters: Vec::new() };
        let space = |place| made.space(place);
        let disk = disk.to_str().unwrap();
        runs("mount", &["-t", "tmpfs", "-o", &format!("size={DISK}m"), &made.name, disk]);
        for place in [Place::Server, Place::Left, Place::Right] {
            runs("ip", &["netns", "add", &space(place)]);
            runs("ip", &["-n", &space(place), "link", "set", "lo", "up"]);
        }
        let server = space(Place::Server);
        for (side, number) in SIDES.into_iter().zip(1..) {
            let (near, far) = (veth(side), "server");
            runs(
                "ip",
                &["-n", &server, "link", "add", near, "type", "veth", "peer", "name", far, "netns", &space(side)],
            );
            for (space, link, host) in [(&server, near, 1), (&space(side), far, 2)] {
                runs("ip", &["-n", space, "address", "add", &format!("10.99.{number}.{host}/24"), "dev", link]);
                runs("ip", &["-n", space, "link", "set", link, "up"]);
            }
        }
        World::Namespaces(made)
    }

    /// What starts a command at this place.
    pub(super) fn within(&self, place: Place) -> Vec<String> {
        match self {
            World::Plain => Vec::new(),
            World::Namespaces(spaces) => ["ip", "netns", "exec", &spaces.space(place)].map(str::to_owned).into(),
        }
    }

    /// The server's address, as a side knows it.
    pub(super) fn server(&self, side: Place) -> IpAddr {
        match self {
            World::Plain => Ipv4Addr::LOCALHOST.into(),
            World::Namespaces(_) => Ipv4Addr::new(10, 99, if side == Place::Left { 1 } else { 2 }, 1).into(),
        }
    }
}

impl Namespaces {
    fn space(&self, place: Place) -> String {
        format!("{}{}", self.name, veth(place))
    }

    pub(super) fn takes_link(&self, side: Place, state: &str) {
        runs("ip", &["-n", &self.space(Place::Server), "link", "set", veth(side), state]);
    }

    pub(super) fn filters(&mut self, side: Place, filter: Filter) {
        self.filters.push((side, filter));
        self.applies_filters();
    }

    pub(super) fn filters_no_more(&mut self, side: Place) {
        self.filters.retain(|(place, _)| *place != side);
        self.applies_filters();
    }

    fn applies_filters(&self) {
        let mut rules = String::from(
            "add table inet chaos\nflush table inet chaos\n\
             add chain inet chaos input { type filter hook input priority 0; }\n\
             add chain inet chaos output { type filter hook output priority 0; }\n",
        );
        for (side, filter) in &self.filters {
            let link = veth(*side);
            let input = format!("add rule inet chaos input iifname {link} meta l4proto tcp");
            let output = format!("add rule inet chaos output oifname {link} meta l4proto tcp");
            let _ = match filter {
                Filter::Drops(percent) => {
                    let some = format!("numgen random mod 100 < {percent} drop");
                    write!(rules, "{input} {some}\n{output} {some}\n")
                }
                Filter::DropsToServer => writeln!(rules, "{input} drop"),
                Filter::DropsFromServer => writeln!(rules, "{output} drop"),
                Filter::Resets => writeln!(rules, "{input} reject with tcp reset"),
            };
        }
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.space(Place::Server), "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nft is installed (on Debian: apt-get install nftables)");
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "nft refuses:\n{rules}");
    }

    /// Leaves no room on the server's disk.
    pub(super) fn fills_disk(&self) {
        let mut ballast = std::fs::File::create(self.disk.join("ballast")).unwrap();
        while ballast.write_all(&[0; 4096]).is_ok() {}
    }

    pub(super) fn empties_disk(&self) {
        std::fs::remove_file(self.disk.join("ballast")).unwrap();
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for place in [Place::Server, Place::Left, Place::Right] {
            let _ = Command::new("ip").args(["netns", "delete", &self.space(place)]).status();
        }
        let _ = Command::new("umount").arg(&self.disk).status();
    }
}

/// What a run has left that was killed itself.
fn removes_leftovers() {
    let is_left = |name: &str| {
        let process = name.strip_prefix(PREFIX).map(|rest| rest.trim_end_matches(char::is_alphabetic));
        process.is_some_and(|process| process.parse::<u32>().is_ok() && !Path::new("/proc").join(process).exists())
    };
    let spaces = Command::new("ip").args(["netns", "list"]).output().expect("ip is installed");
    for space in String::from_utf8_lossy(&spaces.stdout).lines().filter_map(|line| line.split(' ').next()) {
        if is_left(space) {
            runs("ip", &["netns", "delete", space]);
        }
    }
    for mount in std::fs::read_to_string("/proc/mounts").unwrap().lines() {
        if let [name, folder, "tmpfs", ..] = mount.split(' ').collect::<Vec<_>>()[..]
            && is_left(name)
        {
            runs("umount", &[folder]);
        }
    }
}

/// The name of the server's end of the link to a side.
fn veth(place: Place) -> &'static str {
    match place {
        Place::Server => "server",
        Place::Left => "left",
        Place::Right => "right",
    }
}

fn runs(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("chaos needs `{program}`: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{program} {}` (as root): {error}", arguments.join(" "));
}
