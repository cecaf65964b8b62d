//! The processes, and what is done to them.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bowline_server::{Date, Keys};
use tempfile::TempDir;

use super::fault::Fault;
use super::proxy::{Mode, POST, Post};
use super::speaker::Speaker;
use super::streams;
use super::world::{self, Place, SIDES, World};
use crate::fleet::free_address;
use crate::process::{Process, command};
use crate::role::{CREW, Role};

const CONFIG: &str = r#"
open_lan = true
[link]
timeout_ms = 1000
settle_ms = 0
pace_ms = 0
[security]
handshakes_per_second = 0
[limits]
inbox = 32
"#;

/// A server, its devices, what is between them, and what is wrong with them.
pub(super) struct Crew {
    pub(super) seed: u64,
    pub(super) random: fastrand::Rng,
    pub(super) start: Instant,
    pub(super) server: Process,
    pub(super) roles: Vec<Role>,
    pub(super) devices: Vec<Process>,
    pub(super) proxies: Vec<Process>,
    pub(super) speakers: Vec<Speaker>,
    /// What is wrong, and until when.
    pub(super) faults: Vec<(Instant, Fault)>,
    pub(super) history: Vec<(Duration, Fault, Duration)>,
    /// The server could not start.
    pub(super) refused_starts: u32,
    pub(super) world: World,
    pub(super) folder: TempDir,
}

impl Crew {
    pub(super) fn starts(world: impl FnOnce(&Path) -> World) -> Self {
        let seed = match std::env::var("BOWLINE_SEED") {
            Ok(seed) => seed.parse().expect("BOWLINE_SEED is a number"),
            Err(_) => fastrand::u64(..),
        };
        eprintln!("chaos: seed {seed}");
        let folder = TempDir::with_prefix("bowline-chaos-").unwrap();
        let home = folder.path().join("server");
        fs::create_dir(&home).unwrap();
        let world = world(&home);
        let keys = Keys::open(&home).unwrap();
        let ports = [(); 3].map(|()| free_address().port());
        let listen = SocketAddr::from((
            if matches!(world, World::Plain) { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED },
            ports[0],
        ));
        fs::write(folder.path().join("bowline.toml"), format!("listen = [\"{listen}\"]{CONFIG}")).unwrap();
        // Before the server starts: nobody tells it of keys that it has not read.
        let issued = CREW.map(|kind| kind.has_key.then(|| keys.issue(kind.id, Date::from_unix(0)).unwrap()));
        let server = serves(&world, folder.path());
        let proxies = SIDES.iter().zip(&ports[1..]).map(|(side, port)| {
            let post =
                Post { listen: proxy_address(&world, *side, *port), server: (world.server(*side), ports[0]).into() };
            let mut command = command(&world.within(*side), &std::env::current_exe().unwrap());
            command.args(["--exact", "chaos::nothing_is_lost_or_doubled_by_chaos", "--nocapture"]);
            command.env(POST, serde_json::to_string(&post).unwrap());
            Process::starts(command, "proxy", folder.path().join("proxy.errors"))
        });
        let proxies = proxies.collect();
        let mut random = fastrand::Rng::with_seed(seed);
        let roles: Vec<Role> = issued
            .iter()
            .enumerate()
            .map(|(place, issued)| {
                let (side, through) = (side_of(place), place % 3 != 0);
                let address = if through {
                    proxy_address(&world, side, ports[1 + place % 2])
                } else {
                    (world.server(side), ports[0]).into()
                };
                Role {
                    device: Some(place),
                    is_crew: true,
                    folder: folder.path().to_owned(),
                    address,
                    key: issued.as_ref().map(|issued| issued.line().to_string()),
                    fsync: false,
                    seed: random.u64(..),
                    is_last: false,
                }
            })
            .collect();
        fs::create_dir(roles[0].diaries()).unwrap();
        let devices =
            roles.iter().enumerate().map(|(place, role)| Process::plays(role, &world.within(side_of(place)))).collect();
        let speakers = streams().filter(|stream| stream.way == "down");
        let speakers =
            speakers.map(|stream| Speaker::starts(stream, home.clone(), roles[0].diaries(), random.u64(..))).collect();
        Crew {
            seed,
            random,
            start: Instant::now(),
            server,
            roles,
            devices,
            proxies,
            speakers,
            faults: Vec::new(),
            history: Vec::new(),
            refused_starts: 0,
            world,
            folder,
        }
    }

    pub(super) fn begins(&mut self, fault: Fault) {
        match fault {
            Fault::KillServer => self.restarts_server(),
            Fault::KillDevice(device) => self.restarts_device(device),
            Fault::KillBoth(device) => {
                self.restarts_server();
                self.restarts_device(device);
            }
            Fault::FreezeServer => signals("STOP", self.server.id()),
            Fault::FreezeDevice(device) => signals("STOP", self.devices[device].id()),
            Fault::Proxy(side, mode) => self.proxy_does(side, mode),
            Fault::Descriptors(device) => {
                // Below this number all are in use; those above it stay open.
                self.limits_descriptors(8);
                self.restarts_device(device);
            }
            Fault::Link(side) => self.spaces().takes_link(side, "down"),
            Fault::Filter(side, filter) => self.spaces().filters(side, filter),
            Fault::DiskFull => self.spaces().fills_disk(),
        }
    }

    pub(super) fn ends(&mut self, fault: Fault) {
        match fault {
            Fault::KillServer | Fault::KillDevice(_) | Fault::KillBoth(_) => {}
            Fault::FreezeServer => signals("CONT", self.server.id()),
            Fault::FreezeDevice(device) => signals("CONT", self.devices[device].id()),
            Fault::Proxy(side, _) => self.proxy_does(side, Mode::Passes),
            Fault::Descriptors(_) => self.limits_descriptors(1024),
            Fault::Link(side) => self.spaces().takes_link(side, "up"),
            Fault::Filter(side, _) => self.spaces().filters_no_more(side),
            Fault::DiskFull => self.spaces().empties_disk(),
        }
    }

    fn spaces(&mut self) -> &mut world::Namespaces {
        match &mut self.world {
            World::Namespaces(spaces) => spaces,
            World::Plain => unreachable!("such faults are for namespaces only"),
        }
    }

    fn proxy_does(&mut self, side: Place, mode: Mode) {
        let place = SIDES.iter().position(|other| *other == side).unwrap();
        writeln!(self.proxies[place].input(), "{}", serde_json::to_string(&mode).unwrap()).unwrap();
    }

    fn limits_descriptors(&self, limit: usize) {
        // It may just have ended.
        let _ = Command::new("prlimit")
            .args([&format!("--pid={}", self.server.id()), &format!("--nofile={limit}:")])
            .status();
    }

    pub(super) fn restarts_server(&mut self) {
        if !self.server.has_ended() {
            self.server.is_killed();
        }
        self.starts_server();
    }

    pub(super) fn starts_server(&mut self) {
        self.server = serves(&self.world, self.folder.path());
    }

    pub(super) fn restarts_device(&mut self, place: usize) {
        self.devices[place].is_killed();
        self.roles[place].seed = self.random.u64(..);
        self.devices[place] = Process::plays(&self.roles[place], &self.world.within(side_of(place)));
    }

    pub(super) fn diaries(&self) -> PathBuf {
        self.roles[0].diaries()
    }

    pub(super) fn bowline(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        let output = command.args(arguments).arg("--data").arg(self.folder.path().join("server")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn side_of(place: usize) -> Place {
    SIDES[place % 2]
}

/// A proxy is where its devices are.
fn proxy_address(world: &World, side: Place, port: u16) -> SocketAddr {
    match world {
        World::Plain => SocketAddr::new(world.server(side), port),
        World::Namespaces(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
    }
}

fn serves(world: &World, folder: &Path) -> Process {
    // It ends with the thread that has started it.
    let within = [world.within(Place::Server), ["setpriv", "--pdeathsig", "KILL"].map(str::to_owned).into()].concat();
    let mut serve = command(&within, Path::new(env!("CARGO_BIN_EXE_bowline")));
    serve.args(["serve", "--config"]).arg(folder.join("bowline.toml")).arg("--data").arg(folder.join("server"));
    Process::starts(serve, "server", folder.join("server.log"))
}

fn signals(signal: &str, process: u32) {
    // It may just have ended.
    let _ = Command::new("kill").args(["-s", signal, &process.to_string()]).status();
}
