//! The co-processor of a board that has no network: an emulated board with Ethernet, at the other end of a serial line.

#![no_std]
#![no_main]

use bowline_coprocessor::Coprocessor;
use bowline_emulated::{clock, host};
use bowline_qemu_lm3s6965::network::{self, STREAM, Wire};
use bowline_qemu_lm3s6965::{CORE_HZ, uart};
use embassy_executor::{Spawner, main};
use embassy_net::tcp::client::{TcpClient, TcpClientState};
use static_cell::{ConstStaticCell, StaticCell};

#[main]
async fn main(spawner: Spawner) {
    let mut core = cortex_m::Peripherals::take().expect("the first and only time");
    clock::starts(&mut core.SYST, CORE_HZ);
    let stack = network::starts(spawner);
    static CONNECTIONS: StaticCell<TcpClientState<1, STREAM, STREAM>> = StaticCell::new();
    let tcp = TcpClient::new(stack, CONNECTIONS.init(TcpClientState::new()));
    static COPROCESSOR: ConstStaticCell<Coprocessor<512>> = ConstStaticCell::new(Coprocessor::new());
    let (rx, tx) = uart::starts();
    host::say(format_args!("co-processor"));
    COPROCESSOR.take().run(rx, tx, &tcp, &mut Wire(stack), host::random_number()).await
}
