//! Bowline's device client on an emulated board with Ethernet.

#![no_std]
#![no_main]

use bowline_emulated::board::{self, Runner};
use bowline_emulated::{clock, diary, host};
use bowline_qemu_lm3s6965::CORE_HZ;
use bowline_qemu_lm3s6965::network::{self, STREAM, Wire};
use embassy_executor::{Spawner, main, task};
use embassy_net::Stack;
use embassy_net::tcp::client::{TcpClient, TcpClientState};
use static_cell::StaticCell;

#[main]
async fn main(spawner: Spawner) {
    let settings = board::settings();
    let mut core = cortex_m::Peripherals::take().expect("the first and only time");
    clock::starts(&mut core.SYST, CORE_HZ);
    let stack = network::starts(spawner);
    let (client, runner) = board::client(&settings).await;
    spawner.spawn(links(runner, stack).expect("spawned once"));
    diary::keep(client, &settings).await;
    host::ends(true);
}

#[task]
async fn links(mut runner: Runner, stack: Stack<'static>) -> ! {
    static CONNECTIONS: StaticCell<TcpClientState<1, STREAM, STREAM>> = StaticCell::new();
    let tcp = TcpClient::new(stack, CONNECTIONS.init(TcpClientState::new()));
    runner.run_on(&tcp, &mut Wire(stack)).await
}
